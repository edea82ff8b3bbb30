/** Puts another configuration file in the place of the one that is there: whole, or not at all. */
import { closeSync, copyFileSync, existsSync, fsyncSync, openSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';

const OWNER_ONLY = 0o600;

/** Returns where the file before was copied to; undefined where there was none. Throws `config.unreadable` when it cannot; the file stays as it was. */
export function replaceConfigFile(file: string, text: string): string | undefined {
  const next = `${file}.next`;
  const backup = `${file}.before`;
  const isThere = existsSync(file);
  try {
    if (isThere) copyFileSync(file, backup);
    rmSync(next, { force: true });
    writeFlushed(next, text, isThere ? statSync(file).mode & 0o777 : OWNER_ONLY);
    renameSync(next, file);
    flushFolder(dirname(file));
  } catch (cause) {
    throw new TenzroError('config.unreadable', `cannot write ${file}: ${messageOf(cause)}`, { cause });
  }
  return isThere ? backup : undefined;
}

function writeFlushed(path: string, text: string, mode: number): void {
  const handle = openSync(path, 'wx', mode);
  try {
    writeSync(handle, text);
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

function flushFolder(path: string): void {
  const handle = openSync(path, 'r');
  try { fsyncSync(handle); } finally { closeSync(handle); }
}
