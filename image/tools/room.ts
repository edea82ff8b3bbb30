/** Commands in a chroot, each in its own mount and process namespace: when it ends, also by kill -9 of the build, nothing of it runs or stays mounted. */
import { spawn } from 'node:child_process';
import { BuildProblem } from './problem.ts';

export interface RunOptions {
  /** Host folders or files by where the command sees them: `/mnt/NAME`, writable. */
  readonly binds?: Readonly<Record<string, string>>;
  /** Beside PATH, HOME and LC_ALL, which are fixed. */
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Uint8Array;
  /** Default `/`. */
  readonly cwd?: string;
  readonly signal?: AbortSignal;
}

export interface RunResult {
  readonly stdout: Buffer;
  readonly stderr: string;
}

const STDOUT_BYTES_MAX = 256 * 2 ** 20;
/** Of what a failed command said. */
const TOLD_CHARS_MAX = 4_000;
const BIND = /^\/mnt\/[A-Za-z0-9._-]+$/;

/** The chroot is read-only there, so that no command can change what the lock pins; /tmp, /run, /var/tmp and /mnt are fresh. */
const ENTER = `set -e
root=$1 cwd=$2; shift 2
mount --bind "$root" "$root"
cd "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
for dir in tmp run var/tmp mnt; do mount -t tmpfs tmpfs "$dir"; done
while [ "$1" != -- ]; do
  if [ -d "$2" ]; then mkdir -p ".$1"; else : > ".$1"; fi
  mount --bind "$2" ".$1"; shift 2
done
shift
exec chroot "$root" env -C "$cwd" "$@"`;

/** setpriv ends unshare with us, unshare ends what it started. The command line of a run, for spawn. */
export function enterArguments(root: string, command: string, args: readonly string[], { binds = {}, env = {}, cwd = '/' }: RunOptions): string[] {
  for (const inside of Object.keys(binds)) if (!BIND.test(inside)) throw new BuildProblem('failed', `${inside} cannot be bound`, 'Binds lie at /mnt/NAME.');
  return ['--pdeathsig', 'KILL', 'unshare', '--fork', '--kill-child', '--pid', '--mount', '--propagation', 'private', 'sh', '-c', ENTER, 'sh', root, cwd,
    ...Object.entries(binds).flat(), '--', '-i', 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'HOME=/tmp', 'LC_ALL=C.UTF-8',
    ...Object.entries(env).map(([name, value]) => `${name}=${value}`), command, ...args];
}

/** Throws BuildProblem `failed` with what the command said last; an AbortError when aborted. */
export async function runIn(root: string, command: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const child = spawn('setpriv', enterArguments(root, command, args, options), { ...(options.signal !== undefined && { signal: options.signal }), killSignal: 'SIGKILL' });
  const failure = new Promise<never>((_, reject) => { child.once('error', reject); });
  const closed = new Promise<number | null>((resolve) => { child.once('close', resolve); });
  const stdout: Buffer[] = [];
  let stdoutBytes = 0;
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => {
    stdoutBytes += chunk.length;
    if (stdoutBytes > STDOUT_BYTES_MAX) child.kill('SIGKILL');
    else stdout.push(chunk);
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => { stderr = (stderr + text).slice(-TOLD_CHARS_MAX); });
  child.stdin.on('error', (error: NodeJS.ErrnoException) => { if (error.code !== 'EPIPE') child.kill('SIGKILL'); });
  child.stdin.end(options.input ?? '');
  const code = await Promise.race([closed, failure]);
  if (code === 0) return { stdout: Buffer.concat(stdout), stderr };
  const told = `${stderr}${Buffer.concat(stdout).toString('utf8')}`.trim().slice(-TOLD_CHARS_MAX);
  throw new BuildProblem('failed', `${command} ended with ${code ?? 'a signal'}: ${told}`, 'The lines above are its own: mend what they name and build again.');
}
