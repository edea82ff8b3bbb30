/** The ledger alone, without a broker, beside LMDB with the same bytes and nothing around it. */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { open } from 'lmdb';
import { systemClock } from '#runtime/core/clock.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { WriterClient } from '#runtime/ledger/writerClient.ts';
import { u64be } from '#runtime/core/bytes.ts';
import { useOf } from '#test/support/process.ts';
import { tempDir } from '#test/support/temp.ts';
import { paired, ratePerSecond, type Bench, type Figure } from '../figure.ts';

const WRITER = new URL('../../support/ledgerWriter.ts', import.meta.url);
const TOPIC = 'te/device/bench///m/environment';
/** What the entry of such a message has in bytes, so that both stores hold the same. */
const ENTRY_BYTES = 265;

const writtenBytes = (): number => useOf(process.pid).writtenBytes;

interface Taken { readonly perSecond: number; readonly bytesPerEntry: number }

async function measured(minMs: number, step: () => number | Promise<number>): Promise<Taken> {
  const before = writtenBytes();
  let entries = 0;
  const perSecond = await ratePerSecond(minMs, async () => {
    const count = await step();
    entries += count;
    return count;
  });
  return { perSecond, bytesPerEntry: (writtenBytes() - before) / entries };
}

/** Batches of messages through the writer thread: CBOR, hashes, tree, flush. Two batches are kept under way. */
async function ledgerRate(writer: WriterClient, minMs: number): Promise<Taken> {
  const payload = Buffer.alloc(200, 'x');
  const message = { clientId: 'bench', topic: TOPIC, payload, qos: 1, retain: false, duplicate: false, packetId: 1 } as const;
  const batch = (): Promise<number> => {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    let left = LIMITS.batchEntriesMax as number;
    const done = (error?: Error): void => {
      if (error) reject(error);
      else if (--left === 0) resolve(LIMITS.batchEntriesMax);
    };
    for (let i = 0; i < LIMITS.batchEntriesMax; i++) writer.accept(message, done);
    return promise;
  };
  let ahead = batch();
  const taken = await measured(minMs, () => {
    const due = ahead;
    ahead = batch();
    return due;
  });
  await ahead;
  return taken;
}

async function startWriter(dataDir: string): Promise<WriterClient> {
  return WriterClient.start({
    clock: systemClock,
    spawn: (started) => new Worker(WRITER, { workerData: { dataDir, version: 'bench', started, retention: { maxBytes: 64 * 1024 ** 3, maxAgeDays: 0 } } }),
  });
}

export const ledger: Bench = {
  name: 'ledger',
  async run({ isQuick, say }): Promise<Figure[]> {
    say('ledger alone and raw LMDB in turn');
    using dir = tempDir('ledger');
    await using writer = await startWriter(join(dir.path, 'ours'));
    const raw = open<Buffer, Buffer>({ path: join(dir.path, 'raw'), encoding: 'binary', keyEncoding: 'binary', overlappingSync: false });
    const entry = Buffer.alloc(ENTRY_BYTES, 'x');
    let next = 0;
    const rawStep = (): number => {
      raw.transactionSync(() => { for (let i = 0; i < LIMITS.batchEntriesMax; i++) raw.putSync(u64be(next++), entry); });
      return LIMITS.batchEntriesMax;
    };
    const minMs = isQuick ? 600 : 3_000;
    await ledgerRate(writer, 300);
    await measured(300, rawStep);
    const [ours, theirs]: [Taken[], Taken[]] = [[], []];
    for (let round = 0; round < (isQuick ? 3 : 7); round++) {
      ours.push(await ledgerRate(writer, minMs));
      theirs.push(await measured(minMs, rawStep));
    }
    await raw.close();
    return [
      paired('ledger_entries_per_s', 'entries/s', ours.map(({ perSecond }) => perSecond), 'raw LMDB', theirs.map(({ perSecond }) => perSecond), `batches of ${LIMITS.batchEntriesMax}, each flushed; raw LMDB stores the same bytes under a key each, with no CBOR, hash or tree`),
      paired('ledger_disk_bytes_per_entry', 'bytes', ours.map(({ bytesPerEntry }) => bytesPerEntry), 'raw LMDB', theirs.map(({ bytesPerEntry }) => bytesPerEntry), 'the same; raw LMDB without hashes or tree'),
    ];
  },
};
