/**
 * `tpm_tis.ko` for boots under emulation only: QEMU's TPM is one that Debian's arm64 kernel has no driver for, as no board has it. No card carries it.
 * Built for the locked kernel from Debian's own source by a cross compiler in a chroot of its own.
 */
import { copyFile, mkdir, mkdtemp, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { bootstrapArguments } from '#image/tools/bootstrap.ts';
import { cacheHome, fetchDebs } from '#image/tools/fetch.ts';
import { epochSecondsOf, formatLock, keyOf, parseLock, type PackageLock } from '#image/tools/lock.ts';
import { timed } from '#image/tools/problem.ts';
import { localRepository } from '#image/tools/repository.ts';
import { runIn } from '#image/tools/room.ts';
import { openTools, type Tools } from '#image/tools/tools.ts';
import { BASE_LOCK, kernelVersionOf, type BaseOptions } from './tree.ts';

/** The cross compiler, the kernel's source and what of its headers fits every processor. */
export const CROSS_LOCK = join(import.meta.dirname, 'emulated-tpm-cross.lock.json');
/** The headers for arm64 alone: they are unpacked, as what they depend on would be arm64's compiler. */
export const HEADERS_LOCK = join(import.meta.dirname, 'emulated-tpm-headers.lock.json');

const SOURCE = 'linux-source-6.12';

/** What to lock beside a kernel. */
export const crossPackages = (kernelVersion: string): string[] => {
  const version = kernelVersion.replace(/-arm64$/, '');
  return ['gcc-14-aarch64-linux-gnu', 'gcc-aarch64-linux-gnu', `linux-headers-${version}-common`, `linux-kbuild-${version}`, SOURCE, 'make', 'xz-utils'];
};

export const headersPackage = (kernelVersion: string): string => `linux-headers-${kernelVersion}`;

/** The file of the module, kept in the cache; it is made in some minutes. */
export async function emulatedTpmModule({ tools: opened, progress = () => undefined, signal }: Omit<BaseOptions, 'again'> = {}): Promise<string> {
  const [base, cross, headers] = await Promise.all([BASE_LOCK, CROSS_LOCK, HEADERS_LOCK].map(async (file) => parseLock(await readFile(file, 'utf8'), file))) as [PackageLock, PackageLock, PackageLock];
  const kernelVersion = kernelVersionOf(base);
  const key = keyOf([kernelVersion, formatLock(cross), formatLock(headers), await readFile(import.meta.filename)]);
  const kept = join(cacheHome(), `emulated-tpm-${key}`, 'tpm_tis.ko');
  if (await stat(kept).then(() => true, () => false)) return kept;
  const stop = signal === undefined ? {} : { signal };
  const tools = opened ?? await openTools({ progress, ...stop });
  const work = await mkdtemp(join(cacheHome(), 'emulated-tpm-making.'));
  try {
    await timed('cross compiler', progress, () => makeCross(tools, cross, headers, work, stop));
    const built = await timed('tpm_tis.ko', progress, () => compile(join(work, 'cross'), join(work, 'module'), kernelVersion, stop));
    await mkdir(dirname(kept), { recursive: true });
    await copyFile(built, `${kept}.${process.pid}`);
    await rename(`${kept}.${process.pid}`, kept);
    return kept;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

interface Stop { readonly signal?: AbortSignal }

async function makeCross(tools: Tools, cross: PackageLock, headers: PackageLock, work: string, stop: Stop): Promise<void> {
  const binds = { '/mnt/out': work, '/mnt/repository': await localRepository(cross, stop.signal) };
  await tools.run('mmdebstrap', [...bootstrapArguments(cross), 'trixie', '/mnt/out/cross', 'deb [trusted=yes] copy:///mnt/repository ./'],
    { binds, ...stop, env: { TMPDIR: '/mnt/out', SOURCE_DATE_EPOCH: String(epochSecondsOf(cross)) } });
  for (const deb of await fetchDebs(headers, stop.signal)) await tools.run('dpkg-deb', ['-x', '/mnt/headers.deb', '/mnt/out/cross'], { binds: { ...binds, '/mnt/headers.deb': deb }, ...stop });
}

/** Kbuild for external modules (Linux, Documentation/kbuild/modules.rst). */
async function compile(root: string, module: string, kernelVersion: string, stop: Stop): Promise<string> {
  await mkdir(module);
  const options = { binds: { '/mnt/module': module }, ...stop };
  await runIn(root, 'tar', ['-xJf', `/usr/src/${SOURCE}.tar.xz`, '-C', '/mnt/module', '--strip-components=4', '--wildcards', '*/drivers/char/tpm/*.[ch]'], options);
  await writeFile(join(module, 'Makefile'), 'obj-m := tpm_tis.o\n');
  await runIn(root, 'make', ['-C', `/usr/src/linux-headers-${kernelVersion}`, 'M=/mnt/module', 'ARCH=arm64', 'CROSS_COMPILE=aarch64-linux-gnu-', 'modules'], options);
  return join(module, 'tpm_tis.ko');
}
