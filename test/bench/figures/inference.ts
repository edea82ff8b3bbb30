/** The follower's whole way from entry to verdict, beside a loop that does nothing but call the same session. */
import { randomOf } from '#test/support/random.ts';
import { join } from 'node:path';
import { loadPackage } from '#models/package.ts';
import { openSession, type ModelSession } from '#models/session.ts';
import type { ModelManifest } from '#models/manifest.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { LedgerReader } from '#runtime/core/ports.ts';
import { KIND, READING_BODY, type Cbor, type StoredEntry } from '#runtime/core/types.ts';
import { Engine } from '#runtime/infer/engine.ts';
import { encodeEntry } from '#runtime/ledger/entry.ts';
import { paired, ratePerSecond, type Bench, type Figure } from '../figure.ts';

const MODEL = 'motor-vibration';
const MODELS_DIR = join(import.meta.dirname, '..', '..', '..', 'models');
const SOURCE = 'device/motor//';
const READING_INTERVAL_MICROS = 100_000;

/** A log that holds only readings of one motor, in memory: nothing is read from a disk. */
function logOf({ channels, window }: ModelManifest, windows: number): StoredEntry[] {
  const random = randomOf(1);
  const topic = `te/${SOURCE}/m/vibration`;
  return Array.from({ length: windows * window.readings }, (_, index) => {
    const values = channels.map(({ channel, unit }): Cbor => [channel, random(1_000) / 1_000, unit]);
    const body = new Map<number, Cbor>([[READING_BODY.topic, topic], [READING_BODY.payload, Buffer.alloc(200)], [READING_BODY.values, values]]);
    const monoMicros = index * READING_INTERVAL_MICROS;
    return { index, bytes: encodeEntry({ kind: KIND.reading, source: SOURCE, wallMicros: 1.8e15 + monoMicros, bootEpoch: 1, monoMicros, body }) };
  });
}

const readerOf = (entries: readonly StoredEntry[]): LedgerReader => ({
  size: () => entries.length, oldest: () => 0, read: (from, max) => entries.slice(from, from + max), cursor: () => 0,
});

/** Judges the whole log once; the number of inferences. */
async function judgeAll(manifest: ModelManifest, digest: Uint8Array, session: ModelSession, entries: readonly StoredEntry[]): Promise<number> {
  let inferences = 0;
  const engine = new Engine({
    reader: readerOf(entries),
    judges: [{ plan: manifest, digest, provider: session.provider, run: (rows, count) => session.run(rows, count) }],
    commit: async ({ drafts }) => { inferences += drafts.length; },
    count: () => undefined,
    failed: (_name, error) => { throw error; },
    monoMicros: () => systemClock.monoMicros(),
  });
  await engine.advance(new AbortController().signal);
  return inferences;
}

export const inference: Bench = {
  name: 'inference',
  async run({ isQuick, say }): Promise<Figure[]> {
    say('inference follower and bare session in turn');
    const { manifest, digest, onnx } = await loadPackage(MODELS_DIR, MODEL);
    await using session = await openSession({ manifest, digest, onnx });
    const entries = logOf(manifest, 2_048);
    const rows = new Float32Array(LIMITS.inferBatchMax * manifest.input.shape[1]).fill(0.5);
    const bare = (count: number) => async (): Promise<number> => {
      await session.run(rows, count);
      return count;
    };
    const follower = (): Promise<number> => judgeAll(manifest, digest, session, entries);
    const minMs = isQuick ? 600 : 2_000;
    await ratePerSecond(200, follower);
    await ratePerSecond(200, bare(1));
    const [ours, theirs, batched]: [number[], number[], number[]] = [[], [], []];
    for (let round = 0; round < (isQuick ? 3 : 7); round++) {
      ours.push(await ratePerSecond(minMs, follower));
      theirs.push(await ratePerSecond(minMs, bare(1)));
      batched.push(await ratePerSecond(minMs / 2, bare(LIMITS.inferBatchMax)));
    }
    const { readings } = manifest.window;
    return [
      paired('inferences_per_s', 'inferences/s', ours, 'bare session loop, one row a call', theirs, `${MODEL} on ${session.provider}; each inference first decodes ${readings} entries of ${manifest.channels.length} channels, which is what limits it`),
      paired('inferences_per_s_batched_peer', 'inferences/s', ours, `bare session loop, ${LIMITS.inferBatchMax} rows a call`, batched, 'the same against batches as large as ours'),
    ];
  },
};
