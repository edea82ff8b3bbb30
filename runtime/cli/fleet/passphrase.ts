/** Passphrases of owner keys: typed unseen, or from a file; never from argv or the environment. The caller zeroes what it gets; no core dump holds it, nor the keys that it opens. */
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import { keepOutOfDumps } from '#provisioning/identity/memory.ts';
import { refuseOthers } from '#provisioning/ownFile.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { Io } from '../io.ts';

const PASSPHRASE_BYTES_MIN = 12;
const QUESTION = 'Passphrase (not shown): ';

/** Throws `fleet.key`, and `link.credentials` for a file that others can read. */
export async function readPassphrase(io: Io, file: string | undefined): Promise<Buffer> {
  return readSecret(io, QUESTION, file);
}

/** Any other secret, the same way: typed unseen, or the first line of a file. */
export async function readSecret(io: Io, question: string, file: string | undefined): Promise<Buffer> {
  keepOutOfDumps(); // where the system lets nobody set that it goes on: tenzro doctor says so
  return file === undefined ? Buffer.from(await typed(io, question)) : firstLineOf(file);
}

/** The same for a key that is made: on a terminal it is asked for twice. */
export async function readNewPassphrase(io: Io, file: string | undefined, question = QUESTION): Promise<Buffer> {
  const passphrase = await readSecret(io, question, file);
  if (passphrase.length < PASSPHRASE_BYTES_MIN) throw new TenzroError('fleet.key', `a passphrase has ${PASSPHRASE_BYTES_MIN} characters or more: it is all that protects a stolen file`);
  if (file !== undefined || !process.stdin.isTTY) return passphrase;
  const again = Buffer.from(await typed(io, 'Again: '));
  if (!again.equals(passphrase)) throw new TenzroError('fleet.key', 'the two passphrases differ');
  again.fill(0);
  return passphrase;
}

/** Without its end. Throws `fleet.key` where it cannot be read, and `link.credentials` where others can. */
export function firstLineOf(file: string): Buffer {
  let opened: number | undefined;
  try {
    opened = openSync(file, 'r');
    refuseOthers(file, fstatSync(opened), 'link.credentials');
    const bytes = readFileSync(opened);
    const end = bytes.indexOf('\n');
    return end < 0 ? bytes : bytes.subarray(0, end);
  } catch (cause) {
    if (cause instanceof TenzroError) throw cause;
    throw new TenzroError('fleet.key', `cannot read ${file}: ${messageOf(cause)}`, { cause });
  } finally {
    if (opened !== undefined) closeSync(opened);
  }
}

/** On a terminal what is typed is not echoed; else the first line of stdin. */
async function typed(io: Io, question: string): Promise<string> {
  const unseen = new Writable({ write: (_chunk, _encoding, done) => { done(); } });
  using lines = createInterface({ input: process.stdin, output: unseen, terminal: process.stdin.isTTY });
  if (process.stdin.isTTY) process.stderr.write(question);
  for await (const line of lines) {
    if (process.stdin.isTTY) io.error('');
    return line;
  }
  return '';
}
