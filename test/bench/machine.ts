/** What the figures were taken on. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, release, tmpdir, totalmem } from 'node:os';

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryMiB: number;
  readonly kernel: string;
  readonly node: string;
  readonly arch: string;
  /** File system of the data directories. */
  readonly fileSystem: string;
  readonly commit: string;
  readonly date: string;
}

export const describeMachine = (): Machine => ({
  cpu: cpus()[0]?.model ?? 'unknown', cores: availableParallelism(), memoryMiB: Math.round(totalmem() / 1024 ** 2),
  kernel: release(), node: process.version, arch: process.arch, fileSystem: fileSystemOf(tmpdir()), commit: commit(), date: new Date().toISOString(),
});

/** Type of the mount whose path is the longest prefix (proc(5), mountinfo without its options). */
function fileSystemOf(path: string): string {
  const mounts = readFileSync('/proc/mounts', 'utf8').split('\n').map((line) => line.split(' '));
  const holding = mounts.filter(([, point = '-']) => path === point || path.startsWith(point.endsWith('/') ? point : `${point}/`));
  return holding.reduce<{ length: number; type: string }>((best, [, point = '', type = '']) => (point.length >= best.length ? { length: point.length, type } : best), { length: 0, type: 'unknown' }).type;
}

function commit(): string {
  try {
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: import.meta.dirname, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return 'unknown';
  }
}
