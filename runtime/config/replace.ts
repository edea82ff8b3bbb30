/** Puts another configuration file in the place of the one that is there: whole, or not at all. */
import { closeSync, copyFileSync, existsSync, fsyncSync, openSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';

const OWNER_ONLY = 0o600;

/** Returns where the file before was copied to; undefined where there was none. Throws `config.unreadable` when it cannot; the file stays as it was. */
export function replaceConfigFile(file: string, text: string): string | undefined {
  if (!existsSync(file)) {
    replaceFile(file, text, OWNER_ONLY);
    return undefined;
  }
  const backup = `${file}.before`;
  writing(backup, () => copyFileSync(file, backup));
  replaceFile(file, text, statSync(file).mode & 0o777);
  return backup;
}

/** Durable when it returns. Throws `config.unreadable`; then the file is as it was. */
export function replaceFile(file: string, text: string, mode: number): void {
  const next = `${file}.next`;
  writing(file, () => {
    rmSync(next, { force: true });
    writeFlushed(next, text, mode);
    renameSync(next, file);
    flushFolder(dirname(file));
  });
}

/** Also where there is none. Throws `config.unreadable`. */
export function removeFlushed(file: string): void {
  if (!existsSync(file)) return;
  writing(file, () => {
    rmSync(file, { force: true });
    flushFolder(dirname(file));
  });
}

function writing(file: string, write: () => void): void {
  try {
    write();
  } catch (cause) {
    throw new TenzroError('config.unreadable', `cannot write ${file}: ${messageOf(cause)}`, { cause });
  }
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
