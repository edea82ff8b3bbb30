/** A sealer over a real ledger and a real emulator: what the gateway's composition root joins, without the gateway. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openAnchor } from '#drivers/tpm2/anchor.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { Sealer, type BlockInfo, type SealerOptions } from '#runtime/attest/sealer.ts';
import { systemClock } from '#runtime/core/clock.ts';
import type { BlockStore, Counters, Log } from '#runtime/core/ports.ts';
import { newSeed, signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { exchangeKeyOfSeed } from '#runtime/crypto/xwing.ts';
import { ZERO_HASH } from '#runtime/ledger/block.ts';
import { blockStoreOf, openReader, type ChainReader } from '#runtime/ledger/reader.ts';
import type { WriterClient } from '#runtime/ledger/writerClient.ts';
import { draft, startLedger } from './ledger.ts';
import { transportTo } from './swtpm.ts';

export const NEVER: AbortSignal = new AbortController().signal;

export const silentLog: Log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined, child: () => silentLog };

export class TestCounters implements Counters {
  readonly #counts = new Map<string, number>();
  add(name: string, by = 1): void { this.#counts.set(name, (this.#counts.get(name) ?? 0) + by); }
  set(name: string, value: number): void { this.#counts.set(name, value); }
  snapshot(): Record<string, number> { return Object.fromEntries(this.#counts); }
}

/** Everything that a test of the sealer does not care for. `infos` collects what it tells. */
export function sealerOptions(store: BlockStore, seed: Uint8Array, wanted: Partial<SealerOptions> = {}): SealerOptions & { readonly infos: BlockInfo[]; readonly counters: TestCounters } {
  const infos: BlockInfo[] = [];
  const signer = signerOfSeed(seed);
  const exchangeKey = exchangeKeyOfSeed(seed).publicKey;
  return {
    store, openIdentity: async () => ({ signer, exchangeKey }), context: () => ({ support: {} }), device: 'test', openAnchor: { kind: 'none', reason: 'no TPM in this test' }, softwareDigest: ZERO_HASH, bootEpoch: 1,
    modelDigests: () => [], anchorIntervalMs: 600_000, clock: systemClock, log: silentLog, onBlock: (info) => infos.push(info), ...wanted, counters: new TestCounters(), infos,
  };
}

export interface Sealing extends AsyncDisposable {
  readonly ledger: WriterClient;
  readonly reader: ChainReader;
  readonly sealer: Sealer;
  readonly infos: readonly BlockInfo[];
  readonly counters: TestCounters;
  readonly tpm: Tpm;
  append(): Promise<void>;
}

/** The same over restarts. How a gateway keeps its own: runtime/identity.ts. */
function seedIn(dataDir: string): Uint8Array {
  const path = join(dataDir, 'test.seed');
  if (!existsSync(path)) writeFileSync(path, newSeed());
  return readFileSync(path);
}

export async function openSealing(dataDir: string, tpmAddress: string, wanted: Partial<SealerOptions> = {}): Promise<Sealing> {
  const stack = new AsyncDisposableStack();
  const ledger = stack.use(await startLedger(dataDir));
  const reader = stack.use(await openReader(dataDir));
  const tpm = stack.use(new Tpm(transportTo(tpmAddress)));
  const options = sealerOptions(blockStoreOf(ledger, reader), seedIn(dataDir), {
    openAnchor: { kind: 'value', value: (signal) => openAnchor(tpm, signal) }, bootEpoch: ledger.bootEpoch, ...wanted,
  });
  return {
    ledger, reader, tpm, sealer: new Sealer(options), infos: options.infos, counters: options.counters,
    append: async () => { await ledger.append(draft(new Map([[1, 'an event']]))); },
    [Symbol.asyncDispose]: async () => stack.disposeAsync(),
  };
}
