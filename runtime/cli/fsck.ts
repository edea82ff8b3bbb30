/** `tenzro fsck [CHAIN]`: a stopped data directory, or one chain's folder, as a quarantined one. */
import { resolve } from 'node:path';
import { printable } from '#runtime/core/printable.ts';
import { fsck as checkData, fsckChain } from '#runtime/ledger/fsck.ts';
import { EXIT, configOf, type CommonFlags, type Io } from './io.ts';

export async function fsck(io: Io, chain: string | undefined, flags: CommonFlags): Promise<void> {
  const { settings } = configOf(flags);
  io.catchSignals();
  const isShown = process.stderr.isTTY && !flags.json;
  const options = { signal: io.signal, ...(isShown ? { onProgress: (entries: number) => { process.stderr.write(`\r${entries} entries checked`); } } : {}) };
  const where = chain === undefined ? settings.dataDir : resolve(chain);
  const { ok, checked, problems } = chain === undefined ? await checkData(where, options) : await fsckChain(where, options);
  if (isShown) process.stderr.write(ERASE_LINE);
  io.exitCode = ok ? EXIT.ok : EXIT.problem;
  if (flags.json) {
    io.json({ ok, where, checked, problems });
    return;
  }
  io.line(`${printable(where)}: ${checked.entries} entries, ${checked.tiles} tiles, ${checked.blocks} blocks checked: ${ok ? io.paint('all of it verifies', 'green') : io.paint(`${problems.length} problem(s)`, 'red')}`);
  for (const { code, database, key, offset, detail } of problems) io.line(`${[database, printable(key)].join(' ').trim()}, byte ${offset}: ${printable(detail)} (${code})`);
}

/** ECMA-48: carriage return, erase to the end of the line. */
const ERASE_LINE = '\r\u001b[K';
