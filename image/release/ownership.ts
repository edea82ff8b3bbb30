/** Whose each file of a slot is: a Debian package's, the gateway's, ours. What nobody owns stops the build. */
import { readFile, readdir, readlink } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { TenzroError } from '#runtime/core/errors.ts';
import { EMULATION } from '../disk/emulation.ts';
import { SYSTEM, SYSTEM_ROOT } from '../system/manifest.ts';

/** The owner of what image/ adds; no name of a Debian package looks like it. */
export const OVERLAY = '(image)';

/** What packages make when they are installed, by patterns of paths: no list of dpkg's names it. */
const GENERATED: readonly (readonly [RegExp, string])[] = [
  [EMULATION, OVERLAY],
  [/^\/var\/lib\/(?:dpkg|apt)\//, 'dpkg'],
  [/^\/etc\/(?:alternatives\/|\.pwd\.lock$|dpkg\/)/, 'dpkg'],
  [/^\/var\/lib\/systemd\/deb-systemd-[\w-]+\//, 'init-system-helpers'],
  [/^\/var\/lib\/systemd\/catalog\//, 'systemd'],
  [/^\/var\/lib\/pam\/|^\/etc\/security\/opasswd$/, 'libpam-runtime'],
  [/^\/etc\/(?:passwd|group|shadow|gshadow|subuid|subgid)-?$/, 'base-passwd'],
  [/^\/etc\/ssl\/certs\/|^\/etc\/ca-certificates\.conf$/, 'ca-certificates'],
  [/^\/etc\/ld\.so\.cache$/, 'libc-bin'],
  [/^\/usr\/lib\/modules\/[^/]+\/modules\./, 'kmod'],
  [/^\/boot\/initrd\.img-|^\/initrd\.img(?:\.old)?$|^\/vmlinuz(?:\.old)?$|^\/var\/lib\/initramfs-tools\//, 'initramfs-tools'],
  [/^\/etc\/pam\.d\/common-/, 'libpam-runtime'],
  [/^\/etc\/(?:debconf|default\/|environment$|locale|timezone$|hostname$|adjtime$)|^\/var\/cache\/debconf\//, 'debconf'],
  [/^\/etc\/systemd\/(?:system|user)\//, 'systemd'],
  [/^\/etc\/(?:profile|nsswitch\.conf|motd|issue|host\.conf)$|^\/root\/\.|^\/etc\/(?:shells|inputrc)$/, 'base-files'],
  [/^\/(?:bin|sbin|lib|lib64)$|^\/usr\/share\/info\/dir$/, 'base-files'],
  [/^\/etc\/(?:\.resolv\.conf\.systemd-resolved\.bak|vconsole\.conf|modules)$/, 'systemd'],
  [/^\/etc\/networks$/, 'netbase'],
  [/^\/etc\/initramfs-tools\//, 'initramfs-tools'],
  [/^\/usr\/local\/man$|^\/var\/spool\/mail$/, 'base-files'],
  [/^\/var\/lib\/shells\.state$/, 'debianutils'],
  [/^\/etc\/udev\/hwdb\.bin$|^\/usr\/lib\/udev\/hwdb\.bin$/, 'udev'],
  [/^\/etc\/rc\d\.d\/|^\/etc\/rcS\.d\//, 'init-system-helpers'],
  // What --for emulation lays over the slot: a shell for tests, the driver of QEMU's TPM.
  [/^\/usr\/lib\/(?:modules\/[^/]+\/extra\/tpm_tis\.ko|systemd\/system\/test-shell\.service|udev\/rules\.d\/90-test-shell\.rules)$/, OVERLAY],
];

/** Paths that image/ makes or replaces. */
async function overlayPaths(): Promise<Set<string>> {
  const files = (await readdir(SYSTEM_ROOT, { recursive: true, withFileTypes: true })).filter((entry) => !entry.isDirectory()).map((entry) => relative(SYSTEM_ROOT, join(entry.parentPath, entry.name)));
  const enabled = Object.entries(SYSTEM.enabled).map(([unit, target]) => `etc/systemd/system/${target}.wants/${unit}`);
  const own = ['usr/lib/tenzro-edge/image.json', 'etc/rauc/keyring.pem', 'vmlinuz', 'initrd.img', 'etc/passwd', 'etc/group', 'etc/shadow'];
  return new Set([...files, ...Object.keys(SYSTEM.links), ...SYSTEM.masked, ...enabled, ...own].map((path) => `/${path}`));
}

export interface Ownership {
  /** Files and links by owner, as paths of the running system. */
  readonly byOwner: ReadonlyMap<string, readonly string[]>;
}

/** `root`: a tree on the disk. Throws `image.content` with what nobody owns. */
export async function ownershipOf(root: string): Promise<Ownership> {
  const [owners, overlay] = [await dpkgOwners(root), await overlayPaths()];
  const byOwner = new Map<string, string[]>();
  const strays: string[] = [];
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
    if (entry.isDirectory()) continue;
    const path = `/${relative(root, join(entry.parentPath, entry.name))}`;
    const owner = overlay.has(path) ? OVERLAY : owners.get(path) ?? GENERATED.find(([pattern]) => pattern.test(path))?.[1] ?? await alternative(root, path);
    if (owner === undefined) strays.push(path);
    else byOwner.set(owner, [...byOwner.get(owner) ?? [], path]);
  }
  if (strays.length > 0) throw new TenzroError('image.content', `${strays.length} files belong to no package and not to image/: ${strays.toSorted().slice(0, 60).join(' ')}`);
  return { byOwner };
}

/** update-alternatives(1) is dpkg's. */
const alternative = async (root: string, path: string): Promise<string | undefined> => ((await readlink(join(root, path)).catch(() => '')).startsWith('/etc/alternatives/') ? 'dpkg' : undefined);

/** dpkg's lists name files by the folders of their time (/lib/…): links of the root lead to where they are. */
async function dpkgOwners(root: string): Promise<Map<string, string>> {
  const info = join(root, 'var/lib/dpkg/info');
  const moved = new Map<string, string>();
  for (const entry of await readdir(root, { withFileTypes: true })) if (entry.isSymbolicLink()) moved.set(entry.name, await readlink(join(root, entry.name)));
  const owners = new Map<string, string>();
  for (const list of (await readdir(info)).filter((name) => name.endsWith('.list')).toSorted()) {
    const owner = list.replace(/(?::\w+)?\.list$/, '');
    for (const path of (await readFile(join(info, list), 'utf8')).split('\n')) {
      const [, top = '', rest = ''] = /^\/([^/]+)(.*)$/.exec(path) ?? [];
      if (top !== '') owners.set(rest !== '' && moved.has(top) ? `/${moved.get(top) ?? ''}${rest}` : path, owner);
    }
  }
  for (const [from, to] of await diversions(root)) owners.set(to, owners.get(from) ?? 'dpkg');
  return owners;
}

/** dpkg-divert(1): three lines each, what is diverted, to where, by whom. */
async function diversions(root: string): Promise<(readonly [string, string])[]> {
  const lines = (await readFile(join(root, 'var/lib/dpkg/diversions'), 'utf8').catch(() => '')).split('\n');
  return lines.flatMap((from, index) => (index % 3 === 0 && from !== '' ? [[from, lines[index + 1] ?? ''] as const] : []));
}
