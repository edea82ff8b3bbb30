/** Where the build's programs run: inside the tools chroot for what is shipped, on this machine for tests of the parts. Both see one folder, and paths are relative to it. */
import { spawn } from 'node:child_process';
import type { Tools } from '#image/tools/tools.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';

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

/** Where the folder is bound in the chroot. */
const INSIDE = '/mnt/image';
const SAID_MAX = 2_000;

/** In the tools chroot: whatever is killed, no mount and no loop device stays. */
export function chrootWorkshop(tools: Tools, { folder, epochSeconds, signal }: WorkshopOptions): Workshop {
  return {
    folder, epochSeconds,
    run: async (program, args, input = '') => {
      const result = tools.run(program, args, { binds: { [INSIDE]: folder }, cwd: INSIDE, env: times(epochSeconds), input, signal });
      return (await result.catch((cause: unknown) => {
        signal.throwIfAborted();
        throw new TenzroError('image.program', messageOf(cause), { cause });
      })).stdout.toString();
    },
  };
}

/** On this machine. */
export function hostWorkshop({ folder, epochSeconds, signal }: WorkshopOptions): Workshop {
  const env = { PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C.UTF-8', ...times(epochSeconds) };
  return {
    folder, epochSeconds,
    run: async (program, args, input = '') => {
      const child = spawn(program, args, { cwd: folder, env, signal, killSignal: 'SIGKILL', stdio: ['pipe', 'pipe', 'pipe'] });
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

/** What mke2fs, mkfs.fat, mtools, mkimage and mksquashfs take for now. */
const times = (epochSeconds: number): Readonly<Record<string, string>> => ({ TZ: 'UTC', SOURCE_DATE_EPOCH: String(epochSeconds), E2FSPROGS_FAKE_TIME: String(epochSeconds) });
