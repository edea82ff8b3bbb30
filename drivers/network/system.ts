/** Other programs and their files, as both network services need them. Everything rejects with `claim.network`; secrets are in no message. */
import { execFile } from 'node:child_process';
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';

export interface CommandOptions {
  readonly timeoutMs?: number;
  /** For its standard input; else that is empty. */
  readonly input?: string;
}

const COMMAND_MS = 10_000;
const OWNER_ONLY = 0o600;
/** Debian keeps wpa_cli where a user's PATH may not look. */
const SYSTEM_FOLDERS = '/usr/sbin:/sbin';

const run = promisify(execFile);

/** What it prints. It gets no HOME: wpa_cli would write down there what it was told. */
export async function command(program: string, args: readonly string[], signal: AbortSignal, { timeoutMs = COMMAND_MS, input = '' }: CommandOptions = {}): Promise<string> {
  try {
    const running = run(program, [...args], { signal, timeout: timeoutMs, env: { PATH: `${process.env['PATH'] ?? ''}:${SYSTEM_FOLDERS}`, LC_ALL: 'C' } });
    running.child.stdin?.on('error', () => undefined).end(input); // it may have ended: its exit says why
    return (await running).stdout;
  } catch (cause) {
    const said = typeof cause === 'object' && cause !== null && 'stderr' in cause ? String(cause.stderr).trim() : '';
    throw new TenzroError('claim.network', `${program}: ${said === '' ? messageOf(cause) : said}`, { cause });
  }
}

/** Where a file is written before it takes the place of the other: a power cut may leave it. NetworkManager reads no hidden ones. */
export const temporaryOf = (path: string): string => join(dirname(path), `.${basename(path)}.tenzro`);

/** Whole or not at all, also over a power cut; for our eyes and root's. */
export async function replaceFile(path: string, text: string): Promise<void> {
  const temporary = temporaryOf(path);
  await inSystem(async () => {
    await mkdir(dirname(path), { recursive: true });
    await rm(temporary, { force: true });
    const file = await open(temporary, 'wx', OWNER_ONLY);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    await using folder = await open(dirname(path));
    await folder.sync();
  });
}

/** Names in it, sorted. Where there is no such folder, or none for us, nothing of ours can be in it. */
export async function namesIn(folder: string): Promise<readonly string[]> {
  try {
    return (await readdir(folder)).toSorted();
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && (cause.code === 'ENOENT' || cause.code === 'ENOTDIR' || cause.code === 'EACCES')) return [];
    throw cause;
  }
}

export async function inSystem<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof TenzroError) throw cause;
    throw new TenzroError('claim.network', messageOf(cause), { cause });
  }
}
