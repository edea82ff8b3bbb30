/** What a slot holds: Debian, the gateway's package, the system laid over both, and what says which build it is. */
import { chmod, chown, cp, lstat, lutimes, mkdir, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { TenzroError } from '#runtime/core/errors.ts';
import { COMPATIBLE } from '../layout.ts';
import { laySystem } from '../system/lay.ts';
import type { Signer } from '../bundle/keys.ts';
import type { Workshop } from './workshop.ts';

const DPKG = 'var/lib/dpkg';
const MAINTAINER_SCRIPTS = ['postinst', 'prerm', 'postrm'] as const;
const IMAGE_JSON = 'usr/lib/tenzro-edge/image.json';
/** As the drop-ins of the package and of systemd-sysusers would: who may read the gateway's state. */
const STATE_FOLDERS = { 'etc/tenzro-edge': 0o750, 'var/lib/tenzro-edge': 0o700 } as const;

export interface Slot {
  /** In the workshop's folder: the tree, and the package of the gateway. */
  readonly tree: string;
  readonly deb: string;
  readonly version: string;
  /** Whose bundles the running system takes. */
  readonly signer: Signer;
  readonly isEmulated: boolean;
}

/** Completes a tree that holds the base. Nothing of the tree is run: it is for another processor. */
export async function completeTree(workshop: Workshop, slot: Slot): Promise<void> {
  const root = join(workshop.folder, slot.tree);
  for (const path of ['boot/firmware', 'dev']) await emptyFolder(join(root, path));
  await unpackGateway(workshop, slot);
  await laySystem(root);
  const owner = await gatewayOwner(root);
  for (const [path, mode] of Object.entries(STATE_FOLDERS)) {
    await mkdir(join(root, path), { recursive: true });
    await chmod(join(root, path), mode);
    await chown(join(root, path), owner.uid, owner.gid);
  }
  await mkdir(join(root, 'etc/rauc'), { recursive: true });
  await writeFile(join(root, 'etc/rauc/keyring.pem'), await readFile(slot.signer.authorityFile));
  await mkdir(join(root, 'usr/lib/tenzro-edge'), { recursive: true });
  await writeFile(join(root, IMAGE_JSON), `${JSON.stringify({
    compatible: COMPATIBLE, version: slot.version, epochSeconds: workshop.epochSeconds, ...(slot.signer.isDevelopment ? { development: true } : {}), ...(slot.isEmulated ? { emulated: true } : {}),
  })}\n`);
  await linkKernel(root);
  await forgetTimes(root, workshop.epochSeconds);
}

/** Something is mounted over it: the boot partition, the kernel's devices. */
async function emptyFolder(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true });
  await mkdir(path);
}

/** As dpkg would, less its maintainer script: users, folders and enabled units are image/system's. */
async function unpackGateway(workshop: Workshop, { tree, deb }: Slot): Promise<void> {
  await workshop.run('dpkg-deb', ['--extract', deb, tree]);
  await workshop.run('dpkg-deb', ['--control', deb, 'control']);
  const [root, control] = [join(workshop.folder, tree), join(workshop.folder, 'control')];
  const info = join(root, DPKG, 'info');
  await mkdir(info, { recursive: true });
  for (const name of [...MAINTAINER_SCRIPTS, 'md5sums']) await cp(join(control, name), join(info, `tenzro-edge.${name}`));
  const listed = (await workshop.run('dpkg-deb', ['--contents', deb])).split('\n').map((line) => line.split(/\s+/).slice(5).join(' ').replace(/^\.|\/$/g, '')).filter((path) => path !== '');
  await writeFile(join(info, 'tenzro-edge.list'), `/.\n${listed.join('\n')}\n`);
  const stanza = (await readFile(join(control, 'control'), 'utf8')).replace('\n', '\nStatus: install ok installed\n').trimEnd();
  const status = join(root, DPKG, 'status');
  await writeFile(status, `${(await readFile(status, 'utf8')).trimEnd()}\n\n${stanza}\n`);
  await rm(control, { recursive: true });
}

async function gatewayOwner(root: string): Promise<{ readonly uid: number; readonly gid: number }> {
  const [, , uid, gid] = (await readFile(join(root, 'etc/passwd'), 'utf8')).split('\n').find((line) => line.startsWith('tenzro:'))?.split(':') ?? [];
  if (uid === undefined || gid === undefined) throw new TenzroError('image.content', 'the tree has no user tenzro');
  return { uid: Number(uid), gid: Number(gid) };
}

/** What boot.cmd loads, whatever the kernel is called. Throws `image.content` where it is not there once. */
async function linkKernel(root: string): Promise<void> {
  const names = await readdir(join(root, 'boot'));
  for (const [link, prefix] of [['vmlinuz', 'vmlinuz-'], ['initrd.img', 'initrd.img-']] as const) {
    const [found, ...others] = names.filter((name) => name.startsWith(prefix));
    if (found === undefined || others.length > 0) throw new TenzroError('image.content', `/boot holds ${found === undefined ? 'no' : 'more than one'} ${prefix}*`);
    for (const name of [link, `${link}.old`]) await rm(join(root, name), { force: true });
    await symlink(`boot/${found}`, join(root, link));
  }
}

/** What is younger than the commit was made by this build. */
async function forgetTimes(root: string, epochSeconds: number): Promise<void> {
  const paths = (await readdir(root, { recursive: true, withFileTypes: true })).map((entry) => join(entry.parentPath, entry.name));
  for (const path of [...paths, root]) {
    const { mtimeMs } = await lstat(path);
    if (mtimeMs > epochSeconds * 1_000) await lutimes(path, epochSeconds, epochSeconds);
  }
}

