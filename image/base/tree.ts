/** The card's system before ours is laid over it: Debian 13 for arm64 from a lock, as a tar whose bytes follow from lock and code. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { bootstrapArguments } from '#image/tools/bootstrap.ts';
import { cacheHome } from '#image/tools/fetch.ts';
import { epochSecondsOf, formatLock, keyOf, parseLock, type LockedDeb, type PackageLock } from '#image/tools/lock.ts';
import { BuildProblem, timed, type Progress } from '#image/tools/problem.ts';
import { localRepository } from '#image/tools/repository.ts';
import { openTools, type Tools } from '#image/tools/tools.ts';
import { ensureArm64 } from './emulation.ts';

export const BASE_LOCK = join(import.meta.dirname, 'packages.lock.json');

export type DebianPackage = LockedDeb;

export interface BaseOptions {
  /** Opened already, else they are. */
  readonly tools?: Tools;
  readonly progress?: Progress;
  readonly signal?: AbortSignal;
  /** Builds although there is one, and throws `failed` where the bytes differ from it. */
  readonly again?: boolean;
}

export interface BaseTree {
  /** Uncompressed, sorted, numeric owners, with extended attributes. */
  readonly tar: string;
  /** SHA-256 of the tar, hexadecimal. */
  readonly digest: string;
  /** All that is installed in it, by name. */
  readonly packages: readonly DebianPackage[];
  /** As `uname -r` says: `/boot/vmlinuz-VERSION`, `/usr/lib/modules/VERSION`. */
  readonly kernelVersion: string;
}

/** Kept in the cache by lock and code. Making it takes minutes under emulation. */
export async function baseTree({ tools: opened, progress = () => undefined, signal, again = false }: BaseOptions = {}): Promise<BaseTree> {
  const lock = parseLock(await readFile(BASE_LOCK, 'utf8'), 'image/base/packages.lock.json');
  const tools = opened ?? await openTools({ progress, ...(signal !== undefined && { signal }) });
  const tar = join(cacheHome(), `base-${await keyOfBase(lock, tools)}.tar`);
  const kept = await stat(tar).then(() => true, () => false);
  if (!kept || again) {
    if (await ensureArm64(tools)) progress('arm64 programs: registered the QEMU of the tools');
    const next = await make(lock, tools, progress, signal);
    try {
      if (kept && await digestOf(next.tar) !== await digestOf(tar)) throw await differing(tar, next.tar);
      await rename(next.tar, tar);
    } finally {
      await rm(next.folder, { recursive: true, force: true });
    }
  }
  return { tar, digest: await digestOf(tar), packages: lock.packages, kernelVersion: kernelVersionOf(lock) };
}

/** What differs is left for diffoscope. */
async function differing(tar: string, next: string): Promise<BuildProblem> {
  const other = `${tar}.differs`;
  await rename(next, other);
  return new BuildProblem('failed', `the same lock and code gave other bytes: ${other}`, 'Compare it with the one beside it (diffoscope), and mend what makes it differ in image/base/finish.sh.');
}

/** From the name of the locked kernel's package. */
export function kernelVersionOf({ packages }: PackageLock): string {
  const kernel = packages.find(({ name }) => /^linux-image-\d.*-arm64$/.test(name));
  if (kernel === undefined) throw new BuildProblem('lock', 'no kernel is locked', 'Make the lock anew: npm run build:base -- --update-lock.');
  return kernel.name.slice('linux-image-'.length);
}

async function keyOfBase(lock: PackageLock, tools: Tools): Promise<string> {
  const code = [import.meta.filename, ...['finish.sh', 'initrd-modules', '../tools/bootstrap.ts', '../tools/repository.ts'].map((name) => join(import.meta.dirname, name))];
  return keyOf([tools.key, formatLock(lock), ...await Promise.all(code.map((path) => readFile(path)))]);
}

async function make(lock: PackageLock, tools: Tools, progress: Progress, signal: AbortSignal | undefined): Promise<{ readonly folder: string; readonly tar: string }> {
  const repository = await timed(`${lock.packages.length} locked packages for the card`, progress, () => localRepository(lock, signal));
  const folder = await mkdtemp(join(cacheHome(), 'base-making.'));
  const binds = { '/mnt/repository': repository, '/mnt/out': folder, '/mnt/base': import.meta.dirname };
  try {
    await timed('base tree (arm64)', progress, () => tools.run('mmdebstrap', [...bootstrapArguments(lock), '--skip=cleanup/apt', '--customize-hook=sh /mnt/base/finish.sh "$1"', 'trixie', '/mnt/out/base.tar', 'deb [trusted=yes] copy:///mnt/repository ./'],
      { binds, ...(signal !== undefined && { signal }), env: { TMPDIR: '/mnt/out', INITRD: 'No', SOURCE_DATE_EPOCH: String(epochSecondsOf(lock)) } }));
    const { stdout } = await tools.run('tar', ['-xOf', '/mnt/out/base.tar', './var/lib/dpkg/status'], { binds });
    const faults = installedFaults(stdout.toString('utf8'), lock);
    if (faults.length > 0) throw new BuildProblem('failed', `installed is not what is locked: ${faults.join(', ')}`, 'Make the lock anew: npm run build:base -- --update-lock.');
    return { folder, tar: join(folder, 'base.tar') };
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

/** Packages that are locked and not installed so, or installed and not locked. `status`: dpkg's. */
export function installedFaults(status: string, { packages }: PackageLock): string[] {
  const installed = new Set<string>();
  for (const stanza of status.split('\n\n')) {
    const field = (name: string): string | undefined => new RegExp(`^${name}: (.*)$`, 'm').exec(stanza)?.[1];
    if (field('Status') === 'install ok installed') installed.add(`${field('Package')} ${field('Version')}`);
  }
  const locked = new Set(packages.map(({ name, version }) => `${name} ${version}`));
  return [...locked.symmetricDifference(installed)].toSorted();
}

async function digestOf(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}
