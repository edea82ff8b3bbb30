/** `tenzro config check | show | hash-password`. */
import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import { hashPassword } from '#runtime/broker/auth.ts';
import { ConfigError, problemLine } from '#runtime/config/load.ts';
import { originWords, shownValues } from '#runtime/config/show.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { printable } from '#runtime/core/printable.ts';
import { EXIT, configOf, type CommonFlags, type Io } from './io.ts';

export function configCheck(io: Io, flags: CommonFlags): void {
  try {
    const { file } = configOf(flags);
    if (flags.json) io.json({ ok: true, file: file ?? null, problems: [] });
    else io.line(file === undefined ? 'No configuration file: the defaults hold.' : `${file}: fine.`);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    io.exitCode = error.code === 'config.unreadable' ? EXIT.unable : EXIT.problem;
    if (flags.json) {
      io.json({ ok: false, code: error.code, problems: error.problems.map(({ where, place, key, message, hint }) => ({ where, line: place?.line ?? null, column: place?.column ?? null, key, message, hint: hint ?? null })) });
      return;
    }
    for (const problem of error.problems) io.line(printable(problemLine(problem)));
    io.line(error.hint);
  }
}

export function configShow(io: Io, flags: CommonFlags): void {
  const values = shownValues(configOf(flags));
  if (flags.json) {
    io.json(Object.fromEntries(values.map(({ key, value, origin }) => [key, { value, from: originWords(origin) }])));
    return;
  }
  const left = values.map(({ key, value }) => `${key}: ${typeof value === 'string' && value !== '' ? value : JSON.stringify(value)}`);
  const width = Math.min(60, Math.max(...left.map((text) => text.length)));
  for (const [i, { origin }] of values.entries()) io.line(`${printable(left[i] ?? '').padEnd(width)}  ${io.paint(`# ${originWords(origin)}`, origin.from === 'default' ? 'dim' : 'cyan')}`);
}

export async function configHashPassword(io: Io): Promise<void> {
  const password = await readPassword(io);
  if (password === '') throw new TenzroError('cli.usage', 'no password was given');
  io.line(await hashPassword(password));
}

/** On a terminal what is typed is not echoed; else the first line of stdin. */
async function readPassword(io: Io): Promise<string> {
  const unseen = new Writable({ write: (_chunk, _encoding, done) => { done(); } });
  using lines = createInterface({ input: process.stdin, output: unseen, terminal: process.stdin.isTTY });
  if (process.stdin.isTTY) process.stderr.write('Password (not shown): ');
  for await (const line of lines) {
    if (process.stdin.isTTY) io.error('');
    return line;
  }
  return '';
}
