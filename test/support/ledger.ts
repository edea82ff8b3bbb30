/** A real ledger in a directory of its own: writer thread, LMDB and all. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { systemClock, type Clock } from '#runtime/core/clock.ts';
import type { BlockStore, InboundMessage, SealedBlock } from '#runtime/core/ports.ts';
import { KIND, type Draft } from '#runtime/core/types.ts';
import { sign1 } from '#runtime/crypto/cose.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { blockHash, chainIdOf, encodeBlock, ZERO_HASH } from '#runtime/ledger/block.ts';
import { encodeBlockHeader, keyIdOf } from '#runtime/ledger/blockHeader.ts';
import { encodeEvidence } from '#runtime/ledger/evidence.ts';
import { blockStoreOf, openReader } from '#runtime/ledger/reader.ts';
import { WriterClient, type WriterEvents } from '#runtime/ledger/writerClient.ts';
import type { WriterOptions } from '#runtime/ledger/writerLoop.ts';

export interface LedgerOptions extends Partial<Pick<WriterOptions, 'mapBytes' | 'retention'>> {
  readonly events?: WriterEvents;
  readonly clock?: Clock;
}

export async function startLedger(dataDir: string, { events = {}, clock = systemClock, ...rest }: LedgerOptions = {}): Promise<WriterClient> {
  const options: Omit<WriterOptions, 'started'> = { dataDir, version: '0.0.0-test', retention: { maxBytes: 2 ** 40, maxAgeDays: 0 }, ...rest };
  return WriterClient.start({
    clock, events,
    spawn: (started) => new Worker(new URL('./ledgerWriter.ts', import.meta.url), { workerData: { ...options, started } satisfies WriterOptions }),
  });
}

/** Removed, with all that is in it, when disposed. */
export async function tempDir(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'tenzro-ledger-'));
  return { path, [Symbol.asyncDispose]: async () => rm(path, { recursive: true, force: true }) };
}

export const message = (topic: string, payload: string | Uint8Array, qos: 0 | 1 = 1): InboundMessage =>
  ({ clientId: 'test', topic, payload: Buffer.from(payload), qos, retain: false, duplicate: false, packetId: qos });

/** Resolves when the ledger has acknowledged it. */
export async function send(ledger: WriterClient, wanted: InboundMessage): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  ledger.accept(wanted, (error) => { if (error) reject(error); else resolve(); });
  return promise;
}

export const draft = (body: Draft['body'], kind: Draft['kind'] = KIND.event): Draft =>
  ({ kind, source: 'device/main//', wallMicros: systemClock.wallMicros(), monoMicros: systemClock.monoMicros(), body });

/** Of the blocks that `seal` makes. */
export const SIGNER = signerOfSeed(sha256(Buffer.from('a test gateway')));

/** Seals what is flushed, without a TPM, in the order of docs/reference/block-format.md. */
export async function seal(store: BlockStore): Promise<SealedBlock> {
  const [head, last, genesis] = [await store.head(), await store.lastBlock(), await store.genesis()];
  const payload = encodeBlock({
    sequence: last ? last.sequence + 1 : 0, previous: last ? blockHash(last.payload) : ZERO_HASH, wallMicros: systemClock.wallMicros(), treeSize: head.size, root: head.root,
    softwareDigest: sha256(Buffer.from('software')), bootEpoch: 1, modelDigests: [], ...(genesis ? { chainId: chainIdOf(genesis) } : { identity: { signingKey: SIGNER.publicKey } }),
  });
  await store.writePending(payload);
  const evidence = encodeEvidence({ kind: 'none', reason: 'a test' });
  const header = encodeBlockHeader({ keyId: keyIdOf(SIGNER.publicKey), device: 'test', chainId: chainIdOf(genesis ?? payload), evidenceDigest: sha256(evidence) });
  const block: SealedBlock = { sequence: last ? last.sequence + 1 : 0, payload, cose: sign1(SIGNER, header, payload), evidence };
  await store.commitBlock(block);
  return block;
}

/** A stopped chain of `entries` events under `blocks` blocks, spread evenly, and one more entry on top. */
export async function makeChain(dataDir: string, { entries, blocks }: { readonly entries: number; readonly blocks: number }, options: LedgerOptions = {}): Promise<void> {
  await using ledger = await startLedger(dataDir, options);
  await using reader = await openReader(dataDir);
  const store = blockStoreOf(ledger, reader);
  for (let block = 0; block < blocks; block++) {
    await Promise.all(Array.from({ length: entries / blocks }, async (_, i) => send(ledger, message('te/device/child///e/test', `entry ${block}/${i} `.padEnd(60, 'x')))));
    await seal(store);
  }
  await ledger.append(draft('after the last block'));
}
