/** The chroot that every build of images runs its tools in: Debian 13 from a lock, so that any machine builds with the same programs. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rename, rm, stat, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { bootstrapArguments } from './bootstrap.ts';
import { cacheHome } from './fetch.ts';
import { epochSecondsOf, formatLock, keyOf, parseLock, type PackageLock } from './lock.ts';
import { BuildProblem, timed, type Progress } from './problem.ts';
import { localRepository } from './repository.ts';
import { runIn, type RunOptions, type RunResult } from './room.ts';

const run = promisify(execFile);

export const TOOLS_LOCK = join(import.meta.dirname, 'packages.lock.json');

export interface ToolsOptions {
  readonly progress?: Progress;
  readonly signal?: AbortSignal;
}

export interface Tools {
  /** The chroot on this machine. Read only: commands go through `run`. */
  readonly root: string;
  readonly key: string;
  readonly run: (command: string, args: readonly string[], options?: RunOptions) => Promise<RunResult>;
}

/** Made once per lock (half a minute), then there at once. Needs root, and mmdebstrap on this machine for the first time. */
export async function openTools({ progress = () => undefined, signal }: ToolsOptions = {}): Promise<Tools> {
  if (process.getuid?.() !== 0) throw new BuildProblem('not-root', 'building images needs root: it mounts and makes device nodes', 'Run it with sudo, or in a container or virtual machine of its own.');
  const lock = parseLock(await readFile(TOOLS_LOCK, 'utf8'), 'image/tools/packages.lock.json');
  if (process.arch !== 'x64') throw new BuildProblem('lock', `the tools are locked for amd64, this machine is ${process.arch}`, 'Build on an amd64 machine.');
  const key = keyOf(['tools 1', formatLock(lock)]);
  const root = join(cacheHome(), `tools-${key}`);
  if (!await stat(root).then(() => true, () => false)) await makeChroot(lock, root, progress, signal);
  return { root, key, run: (command, args, options) => runIn(root, command, args, { ...(signal !== undefined && { signal }), ...options }) };
}

async function makeChroot(lock: PackageLock, root: string, progress: Progress, signal: AbortSignal | undefined): Promise<void> {
  const repository = await timed(`${lock.packages.length} locked packages for the tools`, progress, () => localRepository(lock, signal));
  await mkdir(cacheHome(), { recursive: true });
  const next = await mkdtemp(`${root}.`);
  try {
    await timed('tools chroot', progress, () => bootstrap(lock, repository, next, signal));
    await rename(next, root).catch(async (error: unknown) => { if (!await stat(root).then(() => true, () => false)) throw error; }); // another build was faster
  } finally {
    await rm(next, { recursive: true, force: true });
  }
}

async function bootstrap(lock: PackageLock, repository: string, target: string, signal: AbortSignal | undefined): Promise<void> {
  try {
    await run('mmdebstrap', [...bootstrapArguments(lock), 'trixie', target, `deb [trusted=yes] copy://${repository} ./`],
      { ...(signal !== undefined && { signal }), maxBuffer: 64 * 2 ** 20, env: { PATH: process.env['PATH'] ?? '', LC_ALL: 'C.UTF-8', SOURCE_DATE_EPOCH: String(epochSecondsOf(lock)) } });
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw new BuildProblem('missing-program', 'there is no mmdebstrap on this machine', 'Install it: apt-get install mmdebstrap (Debian 12 or Ubuntu 22.04 and newer).', { cause });
    throw new BuildProblem('failed', `mmdebstrap did not make the tools chroot: ${String((cause as { readonly stderr?: unknown }).stderr ?? cause).slice(-4_000)}`, 'The lines above are its own: mend what they name and build again.', { cause });
  }
  await symlink('/proc/self/mounts', join(target, 'etc/mtab')).catch((error: NodeJS.ErrnoException) => { if (error.code !== 'EEXIST') throw error; });
}
