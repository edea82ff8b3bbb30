/** A real ledger in a directory of its own: writer thread, LMDB and all. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { systemClock, type Clock } from '#runtime/core/clock.ts';
import type { InboundMessage } from '#runtime/core/ports.ts';
import { KIND, type Draft } from '#runtime/core/types.ts';
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
