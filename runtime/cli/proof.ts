/** `tenzro proof INDEX[..INDEX] -o FILE`: works beside a running gateway and on a stopped data directory. */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import { printable } from '#runtime/core/printable.ts';
import { parseSign1, signingKeyOf } from '#runtime/crypto/cose.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { chainIdOf } from '#runtime/ledger/block.ts';
import { openKeyValueStore } from '#runtime/ledger/kv.ts';
import { buildProof, buildReceiptedProof, type HeldReceipt, type ProofSource } from '#runtime/ledger/proofBuilder.ts';
import { openReader } from '#runtime/ledger/reader.ts';
import { openReceipt, RECEIPTS_PREFIX } from '#runtime/ledger/receipt.ts';
import { DEFAULT_POLICY, TRUST_LEVELS } from '#runtime/verify/policy.ts';
import { verifyBundle } from '#runtime/verify/verifier.ts';
import { configOf, type CommonFlags, type Io } from './io.ts';

const WAIT_INTERVAL_MS = 200;
/** Of a data directory: where its uplinks keep receipts. */
const STORE = 'broker';

export async function proof(io: Io, range: string, flags: CommonFlags & { readonly output: string; readonly wait?: boolean; readonly receipted?: boolean }): Promise<void> {
  const [first, last] = parseRange(range);
  const { settings } = configOf(flags);
  io.catchSignals();
  await using reader = await openReader(settings.dataDir);
  await using store = flags.receipted && existsSync(join(settings.dataDir, STORE)) ? await openKeyValueStore(join(settings.dataDir, STORE), undefined, 'keep') : undefined;
  const build = (): Buffer => (flags.receipted ? buildReceiptedProof(reader, first, last, store ? receiptsIn(store, reader) : []) : buildProof(reader, first, last));
  const bundle = await buildWhenCovered(build, flags.wait ? io.signal : undefined);
  checkOwn(bundle);
  try {
    writeFileSync(flags.output, bundle);
  } catch (cause) {
    throw new TenzroError('cli.usage', `cannot write ${flags.output}: ${messageOf(cause)}`, { cause });
  }
  if (flags.json) io.json({ file: flags.output, first, last, sizeBytes: bundle.length });
  else io.line(`${printable(flags.output)}: ${first === last ? `entry ${first}` : `entries ${first} to ${last}`}, ${bundle.length} bytes. Anyone can check it: tenzro verify ${printable(flags.output)}`);
}

/** Nobody is handed a proof that a stranger would refute: an altered store says so here. What the TPM is worth is the stranger's to judge. */
function checkOwn(bundle: Uint8Array): void {
  const { outcome, checks } = verifyBundle(bundle, { ...DEFAULT_POLICY, accept: TRUST_LEVELS });
  const failed = checks.filter(({ result }) => result === 'fail').map(({ code, detail }) => `${code}: ${detail}`);
  if (outcome === 'refuted') throw new TenzroError('ledger.corrupt', `the store does not prove it (${failed.join('; ')})`);
}

/** The newest of each fleet that is about this chain. */
function receiptsIn(store: KeyValueStore, chain: ProofSource): readonly HeldReceipt[] {
  if (chain.blockCount() === 0) return [];
  const chainId = chainIdOf(chain.block(0).payload);
  return Array.from(store.range(RECEIPTS_PREFIX), ({ value }) => ({ bytes: value, receipt: openReceipt(value, sha256(signingKeyOf(parseSign1(value).header))) }))
    .filter(({ receipt }) => equalBytes(receipt.chainId, chainId)).map(({ bytes, receipt: { sequence } }) => ({ bytes, sequence }));
}

/** With a signal: tries again until a block covers the entries, or a receipt that block. */
async function buildWhenCovered(build: () => Buffer, wait: AbortSignal | undefined): Promise<Buffer> {
  for (;;) {
    try {
      return build();
    } catch (error) {
      const isEarly = error instanceof TenzroError && (error.code === 'ledger.not_attested' || error.code === 'ledger.not_receipted' || error.code === 'ledger.no_chain');
      if (!isEarly || wait === undefined || wait.aborted) throw error;
      await sleep(WAIT_INTERVAL_MS, undefined, { signal: wait }).catch(() => { throw error; });
    }
  }
}

function parseRange(text: string): readonly [number, number] {
  const [, from, to] = /^(\d{1,15})(?:\.\.(\d{1,15}))?$/.exec(text) ?? [];
  if (from === undefined) throw new TenzroError('cli.usage', `'${text}' is neither an index (42) nor a range (40..45)`);
  const [first, last] = [Number(from), Number(to ?? from)];
  if (last < first) throw new TenzroError('cli.usage', `the range ${text} ends before it begins`);
  return [first, last];
}
