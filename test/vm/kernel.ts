/** Debian's kernel, a static busybox and UEFI firmware: fetched by apt, unpacked into a cache, installed nowhere. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { initramfs, MODE } from './initramfs.ts';

/** What the guest needs to reach the host's folders and console. Their dependencies follow by themselves. */
const MODULES = ['virtio_pci', '9pnet_virtio', '9p', 'virtio_console', 'virtio_rng'];
/** The name that stands for the newest kernel of the release. */
const KERNEL_PACKAGE = 'linux-image-amd64';

export interface GuestFiles {
  readonly kernel: string;
  readonly release: string;
  readonly modules: string;
  readonly busybox: string;
  /** OVMF's code and the template of its variables. */
  readonly uefi: { readonly code: string; readonly variables: string };
}

/** Outside the repository, so that it survives a clean checkout. */
export const cacheFolder = (): string => join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'tenzro', 'vm');

const apt = (program: 'apt-cache' | 'apt-get', args: readonly string[], cwd?: string): string =>
  execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], ...(cwd === undefined ? {} : { cwd }) });

/** `linux-image-6.1.0-56-amd64` and the like. */
function kernelPackage(): string {
  const name = /Depends: (linux-image-\S+)/.exec(apt('apt-cache', ['depends', KERNEL_PACKAGE]))?.[1];
  if (name === undefined) throw new Error(`apt knows no ${KERNEL_PACKAGE}: this needs Debian's package lists (apt-get update)`);
  return name;
}

/** From the cache; the first time, and when Debian has a newer kernel (`refresh`), from its mirror. */
export function guestFiles({ refresh, say }: { readonly refresh: boolean; readonly say: (line: string) => void }): GuestFiles {
  const root = join(cacheFolder(), 'root');
  if (refresh || !existsSync(root)) {
    const packages = [kernelPackage(), 'busybox-static', 'ovmf'];
    say(`into ${cacheFolder()}: apt-get download ${packages.join(' ')}`);
    mkdirSync(cacheFolder(), { recursive: true });
    const work = mkdtempSync(join(cacheFolder(), 'unpacking-'));
    try {
      apt('apt-get', ['download', '-q', ...packages], work);
      for (const file of readdirSync(work).filter((name) => name.endsWith('.deb'))) execFileSync('dpkg', ['-x', join(work, file), join(work, 'root')]);
      rmSync(root, { recursive: true, force: true });
      renameSync(join(work, 'root'), root); // whole or not at all
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  }
  const release = readdirSync(join(root, 'lib', 'modules'))[0];
  if (release === undefined) throw new Error(`no kernel in ${root}: remove that folder and start again`);
  const firmware = (name: string): string => join(root, 'usr', 'share', 'OVMF', name);
  return {
    release, kernel: join(root, 'boot', `vmlinuz-${release}`), modules: join(root, 'lib', 'modules', release), busybox: join(root, 'bin', 'busybox'),
    uefi: { code: firmware('OVMF_CODE_4M.fd'), variables: firmware('OVMF_VARS_4M.fd') },
  };
}

/** `init`: the first program, a script for busybox. `more`: modules beside those that every guest needs. */
export function guestInitramfs({ modules, busybox }: GuestFiles, init: string, more: readonly string[]): Buffer {
  const none = Buffer.alloc(0);
  return initramfs([
    ...['bin', 'modules'].map((path) => ({ path, mode: MODE.folder, content: none })),
    { path: 'bin/busybox', mode: MODE.program, content: readFileSync(busybox) },
    { path: 'init', mode: MODE.program, content: readFileSync(init) },
    ...inLoadOrder(modules, [...MODULES, ...more]).map((content, index) => ({ path: `modules/${String(index).padStart(2, '0')}.ko`, mode: MODE.file, content })),
  ]);
}

/** The modules, each behind those it depends on. */
function inLoadOrder(folder: string, names: readonly string[]): readonly Buffer[] {
  const canonical = (path: string): string => basename(path).replace(/\.ko(\.\w+)?$/, '').replaceAll('-', '_');
  const files = new Map(readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((path) => /\.ko(\.xz)?$/.test(path)).map((path) => [canonical(path), join(folder, path)]));
  const builtIn = new Set(readFileSync(join(folder, 'modules.builtin'), 'utf8').split('\n').map(canonical));
  const loaded = new Map<string, Buffer>();
  const load = (name: string): void => {
    if (loaded.has(name) || builtIn.has(name)) return;
    const file = files.get(name);
    if (file === undefined) throw new Error(`the kernel has no module ${name}`);
    const content = file.endsWith('.xz') ? execFileSync('xz', ['-dc', file], { maxBuffer: 1 << 26 }) : readFileSync(file);
    const depends = /\0depends=([^\0]*)\0/.exec(content.toString('latin1'))?.[1] ?? ''; // .modinfo
    for (const dependency of depends.split(',').filter((part) => part !== '')) load(dependency.replaceAll('-', '_'));
    loaded.set(name, content);
  };
  for (const name of names) load(name);
  return [...loaded.values()];
}
