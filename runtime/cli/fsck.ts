/** `tenzro fsck [CHAIN]`: a stopped data directory, or one chain's folder, as a quarantined one. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { openAnchor } from '#drivers/tpm2/anchor.ts';
import { chooseTpm } from '#drivers/tpm2/source.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { Settings } from '#runtime/core/settings.ts';
import type { Maybe } from '#runtime/core/types.ts';
import { printable } from '#runtime/core/printable.ts';
import { fsck as checkData, fsckChain, type LiveTpm } from '#runtime/ledger/fsck.ts';
import { tailWords } from '#runtime/ledger/fsckTail.ts';
import { EXIT, configOf, type CommonFlags, type Io } from './io.ts';

export async function fsck(io: Io, chain: string | undefined, flags: CommonFlags): Promise<void> {
  const { settings } = configOf(flags);
  io.catchSignals();
  const isShown = process.stderr.isTTY && !flags.json;
  const options = { signal: io.signal, ...(isShown ? { onProgress: (entries: number) => { process.stderr.write(`\r${entries} entries checked`); } } : {}) };
  const where = chain === undefined ? settings.dataDir : resolve(chain);
  const { ok, checked, problems, tail, live } = chain === undefined ? await checkData(where, { ...options, live: () => lookAtTpm(settings, io.signal) }) : await fsckChain(where, options);
  if (isShown) process.stderr.write(ERASE_LINE);
  io.exitCode = ok ? EXIT.ok : EXIT.problem;
  if (flags.json) {
    io.json({ ok, where, checked, problems, tail: tail ?? null, live: live ?? null });
    return;
  }
  io.line(`${printable(where)}: ${checked.entries} entries, ${checked.tiles} tiles, ${checked.blocks} blocks checked: ${problems.length > 0 ? io.paint(`${problems.length} problem(s)`, 'red') : io.paint('all of it verifies', 'green')}`);
  for (const { code, database, key, offset, detail } of problems) io.line(`${[database, printable(key)].join(' ').trim()}, byte ${offset}: ${printable(detail)} (${code})`);
  if (tail) for (const line of tailWords(tail, live)) io.line(`tail  ${printable(line)}`);
  if (tail && !ok && problems.length === 0) io.line(io.paint('blocks may be missing from this chain: see above', 'red'));
}

/** Reads the TPM that the gateway would use. An own emulator has to be started for it, which its TPM takes for a reset; one that never ran is left alone. */
async function lookAtTpm({ attest, dataDir }: Settings, signal: AbortSignal): Promise<Maybe<LiveTpm>> {
  const source = chooseTpm(attest.tpm, dataDir);
  if (source.kind === 'none') return source;
  if (source.kind === 'emulated' && !existsSync(join(dataDir, 'swtpm'))) return { kind: 'none', reason: 'the TPM emulator of this data directory has never run' };
  await using tpm = new Tpm(source.transport);
  try {
    const anchor = await openAnchor(tpm, signal);
    const look = await anchor.look(signal);
    if (source.kind === 'emulated') await tpm.shutdown(signal);
    return { kind: 'value', value: { akPublic: anchor.akPublic, look } };
  } catch (error) {
    if (!(error instanceof TenzroError) || error.class === 'bug') throw error;
    return { kind: 'none', reason: error.message };
  }
}

/** ECMA-48: carriage return, erase to the end of the line. */
const ERASE_LINE = '\r\u001b[K';
