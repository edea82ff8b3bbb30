/** Where the build's programs run: inside the tools chroot for what is shipped, on this machine for tests of the parts. Both see one folder, and paths are relative to it. */
import { spawn } from 'node:child_process';
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { TenzroError } from '#runtime/core/errors.ts';

export interface Workshop {
  /** Of this machine; programs run in it. */
  readonly folder: string;
  /** Seconds since 1970: the time that everything bears. */
  readonly epochSeconds: number;
  /** What the program wrote to stdout. Throws `image.program` with the end of what it said. */
  run(program: string, args: readonly string[], input?: string): Promise<string>;
}

export interface WorkshopOptions {
  readonly folder: string;
  readonly epochSeconds: number;
  readonly signal: AbortSignal;
}

/** Where the folder is mounted in the chroot. */
const INSIDE = '/mnt';
const PATH = '/usr/sbin:/usr/bin:/sbin:/bin';
const SAID_MAX = 2_000;

/**
 * In a mount namespace of its own for each program: whatever is killed, no mount and no loop device stays.
 * $1 chroot, $2 folder, then program and arguments.
 */
const ENTER = `mount --bind "$2" "$1${INSIDE}" && mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && chroot="$1" && shift 2 && exec chroot "$chroot" /usr/bin/env -C ${INSIDE} "$@"`;

/** Throws `image.machine` where the chroot is not one, or we are not root. */
export async function chrootWorkshop(chroot: string, options: WorkshopOptions): Promise<Workshop> {
  if (process.getuid?.() !== 0) throw new TenzroError('image.machine', 'the image is built by root: programs run in a chroot, and files of the image belong to root');
  for (const path of ['usr/sbin/mke2fs', 'usr/bin/rauc', 'usr/bin/mcopy', 'usr/sbin/sfdisk']) {
    await access(join(chroot, path)).catch((cause: unknown) => { throw new TenzroError('image.machine', `${chroot} is no tools chroot: it lacks /${path}`, { cause }); });
  }
  return workshop(options, (program, args) => ['unshare', ['--mount', '--pid', '--fork', '--kill-child', '--propagation', 'private', 'sh', '-c', ENTER, 'sh', chroot, options.folder, program, ...args]]);
}

export const hostWorkshop = (options: WorkshopOptions): Workshop => workshop(options, (program, args) => [program, args]);

function workshop({ folder, epochSeconds, signal }: WorkshopOptions, lineOf: (program: string, args: readonly string[]) => [string, readonly string[]]): Workshop {
  const env = {
    PATH: `${PATH}:${process.env['PATH'] ?? ''}`, HOME: '/root', LC_ALL: 'C.UTF-8', TZ: 'UTC',
    SOURCE_DATE_EPOCH: String(epochSeconds), E2FSPROGS_FAKE_TIME: String(epochSeconds),
  };
  return {
    folder, epochSeconds,
    run: async (program, args, input = '') => {
      const [command, rest] = lineOf(program, args);
      const child = spawn(command, rest, { cwd: folder, env, signal, killSignal: 'SIGKILL', stdio: ['pipe', 'pipe', 'pipe'] });
      const out: Buffer[] = [];
      let said = '';
      child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
      child.stderr.on('data', (chunk: Buffer) => { said = `${said}${chunk.toString()}`.slice(-SAID_MAX); });
      child.stdin.on('error', () => undefined); // a program that ends before it has read all says so by its exit code
      child.stdin.end(input);
      const code = await new Promise<number | null>((done, fail) => { child.on('error', fail).on('close', done); }).catch((cause: unknown) => {
        signal.throwIfAborted();
        throw new TenzroError('image.program', `${program} cannot be run`, { cause });
      });
      const text = Buffer.concat(out).toString();
      if (code !== 0) throw new TenzroError('image.program', `${program} ended with ${code}: ${(said.trim() === '' ? text : said).trim().slice(-SAID_MAX)}`);
      return text;
    },
  };
}
