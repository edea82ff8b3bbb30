import { asBuffer } from '#runtime/core/bytes.ts';
import assert from 'node:assert/strict';
import { LIMITS } from '#runtime/core/limits.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { LedgerReader } from '#runtime/core/ports.ts';
import { GAP_BODY, INFERENCE_BODY, KIND, READING_BODY, READING_FLAG, SEALED_BODY, type Cbor, type Draft } from '#runtime/core/types.ts';
import { CURSOR, Engine } from '#runtime/infer/engine.ts';
import type { Batch } from '#runtime/infer/messages.ts';
import type { Judge } from '#runtime/infer/plan.ts';
import { decodeEntry, encodeEntry, peek } from '#runtime/ledger/entry.ts';
import { randomOf } from '#test/support/random.ts';

/** A log in memory with the ledger's promise: entries and cursor in one step. Real entries, so that every crash point can be tried in milliseconds. */
class Log implements LedgerReader {
  readonly entries: Buffer[] = [];
  pruned = 0;
  #cursor = 0;
  #seconds = 0;
  size(): number { return this.entries.length; }
  oldest(): number { return this.pruned; }
  cursor(name: string): number { return name === CURSOR ? this.#cursor : 0; }
  *read(from: number, max: number) {
    const end = Math.min(this.entries.length, from + max);
    for (let index = Math.max(from, this.pruned); index < end; index++) yield { index, bytes: this.entries[index] ?? Buffer.alloc(0) };
  }
  seek(from: number, needles: readonly Uint8Array[]): number {
    const found = this.entries.findIndex((bytes, index) => index >= Math.max(from, this.pruned) && needles.some((needle) => bytes.includes(asBuffer(needle))));
    return found < 0 ? this.entries.length : found;
  }
  append(kind: Draft['kind'], source: string, body: Cbor): number {
    const micros = ++this.#seconds * 100_000;
    return this.entries.push(encodeEntry({ kind, source, body, wallMicros: micros, monoMicros: micros, bootEpoch: 1 })) - 1;
  }
  reading(source: string, value: number, flags = 0): number {
    return this.append(KIND.reading, source, new Map<number, Cbor>([[READING_BODY.topic, `te/${source}/m/t`], [READING_BODY.values, [['v', value, '']]], [READING_BODY.flags, flags]]));
  }
  commit({ drafts, cursor }: Batch): void {
    for (const { kind, source, body } of drafts) this.append(kind, source, body);
    this.#cursor = Math.max(this.#cursor, cursor);
  }
  bodies(kind: number): { source: string; body: ReadonlyMap<number, Cbor> }[] {
    return this.entries.filter((bytes) => peek(bytes).kind === kind).map((bytes) => decodeEntry(bytes)).map(({ source, body }) => ({ source, body: body as ReadonlyMap<number, Cbor> }));
  }
  inputs(source: string): number[][] {
    return this.bodies(KIND.inference).filter((entry) => entry.source === source).map(({ body }) => body.get(INFERENCE_BODY.inputs) as number[]);
  }
}

/** A model that can be checked by hand: the score is the sum of the window. */
const judge = (stride: number, more: Partial<Judge> = {}): Judge => ({
  plan: {
    name: 'sum', threshold: 100, channels: [{ channel: 'v', unit: '' }], window: { readings: 3, stride, maxGapMs: 60_000 },
    source: { entity: 'device/+//', type: { kind: 'value', value: 't' } },
  },
  digest: Buffer.alloc(32, 7), provider: 'cpu',
  run: async (rows, count) => Float32Array.from({ length: count }, (_, i) => (rows[3 * i] ?? 0) + (rows[3 * i + 1] ?? 0) + (rows[3 * i + 2] ?? 0)),
  ...more,
});

describe('infer: engine', () => {
  const never = new AbortController().signal;
  const counts = new Map<string, number>();
  const failures: TenzroError[] = [];
  const engine = (log: Log, judges: readonly Judge[], commit = async (batch: Batch) => log.commit(batch)) => new Engine({
    reader: log, judges, commit, monoMicros: () => 0,
    count: (name, by = 1) => counts.set(name, (counts.get(name) ?? 0) + by), failed: (_, error) => failures.push(error),
  });
  beforeEach(() => { counts.clear(); failures.length = 0; });

  it('passes over confidential readings, and counts them apart from what cannot be decoded', async () => {
    const log = new Log();
    log.append(KIND.reading, 'device/a//', new Map<number, Cbor>([[SEALED_BODY.topic, 'te/device/a///m/t'], [SEALED_BODY.flags, 0], [SEALED_BODY.ciphertext, Buffer.alloc(20)]]));
    log.append(KIND.reading, 'device/a//', new Map<number, Cbor>([[READING_BODY.topic, 'te/device/a///m/t']]));
    const follower = engine(log, [judge(3)]);
    await follower.advance(never);
    assert.deepEqual([counts.get('infer.confidential'), counts.get('infer.undecoded'), follower.position], [1, 1, 2]);
    assert.deepEqual(log.inputs('device/a//'), []);
  });

  it('cites the entries, the digest, the provider, the score and the verdict', async () => {
    const log = new Log();
    log.append(KIND.boot, 'device/main//', 'up');
    for (const value of [30, 40, 50, 1, 2, 3]) log.reading('device/x//', value);
    await engine(log, [judge(3)]).advance(never);
    const [first, second] = log.bodies(KIND.inference);
    assert.equal(first?.source, 'device/x//');
    assert.deepEqual([...(first?.body ?? [])], [
      [INFERENCE_BODY.model, 'sum'], [INFERENCE_BODY.digest, new Uint8Array(32).fill(7)], [INFERENCE_BODY.provider, 'cpu'], [INFERENCE_BODY.score, 120],
      [INFERENCE_BODY.verdict, 'anomaly'], [INFERENCE_BODY.threshold, 100], [INFERENCE_BODY.inputs, [1, 2, 3]], [INFERENCE_BODY.durationMicros, 0],
    ]);
    assert.equal(second?.body.get(INFERENCE_BODY.verdict), 'normal');
  });

  it('runs bounded batches and keeps a round within one transaction', async () => {
    const log = new Log();
    for (let i = 0; i < 3_000; i++) log.reading(`device/${i % 7}//`, i);
    const [batches, commits]: [number[], number[]] = [[], []];
    const watched = judge(1, { run: async (_, count) => { batches.push(count); return new Float32Array(count); } });
    await engine(log, [watched, judge(1, { digest: Buffer.alloc(32, 8) })], async (batch) => { commits.push(batch.drafts.length); log.commit(batch); }).advance(never);
    assert.equal(log.bodies(KIND.inference).length, 2 * (3_000 - 7 * 2));
    assert.ok(Math.max(...batches) === LIMITS.inferBatchMax && Math.max(...commits) <= LIMITS.batchEntriesMax);
  });

  it('judges every window exactly once over crashes at any point', async () => {
    for (const stride of [1, 2, 3]) {
      for (let seed = 1; seed <= 40; seed++) {
        const random = randomOf(seed * 10 + stride);
        const log = new Log();
        const expected = new Map<string, number[]>();
        for (let life = 0; life < 8; life++) {
          // a crash before the commit loses it whole; one behind it keeps it whole
          let fuse = random(4);
          const crashing = async (batch: Batch) => {
            if (fuse === 0) throw new Error('killed before the commit');
            log.commit(batch);
            if (--fuse === 0) throw new Error('killed behind the commit');
          };
          const living = engine(log, [judge(stride)], crashing);
          try {
            for (let round = 0; round < 4; round++) {
              for (let i = random(12); i > 0; i--) {
                const source = `device/${random(3)}//`;
                const twice = random(10) === 0;
                const index = log.reading(source, i, twice ? READING_FLAG.duplicate : 0);
                if (!twice) expected.set(source, [...(expected.get(source) ?? []), index]);
              }
              await living.advance(never);
            }
          } catch (error) {
            assert.match(String(error), /killed/);
          }
        }
        await engine(log, [judge(stride)]).advance(never);
        for (const [source, indices] of expected) {
          const windows = Array.from({ length: Math.max(0, Math.floor((indices.length - 3) / stride) + 1) }, (_, i) => indices.slice(i * stride, i * stride + 3));
          assert.deepEqual(log.inputs(source), windows, `seed ${seed}, stride ${stride}, ${source}`);
        }
      }
    }
  });

  it('skips ahead when it is too far behind, and records what was not judged', async () => {
    const log = new Log();
    const filler = encodeEntry({ kind: KIND.event, source: 'device/x//', body: 1, wallMicros: 5, monoMicros: 5, bootEpoch: 1 });
    for (let i = 0; i < LIMITS.inferLagEntriesMax + 10; i++) log.entries.push(filler);
    for (const value of [1, 2, 3, 4]) log.reading('device/x//', value);
    const living = engine(log, [judge(3)]);
    await living.advance(never);
    const [gap] = log.bodies(KIND.gap);
    const skipped = LIMITS.inferLagEntriesMax + 13;
    assert.deepEqual([gap?.body.get(GAP_BODY.reason), gap?.body.get(GAP_BODY.count), gap?.body.get(GAP_BODY.fromMicros), gap?.body.get(GAP_BODY.toMicros)], ['infer.lag', skipped, 5, 400_000]);
    assert.equal(gap?.body.get(GAP_BODY.detail), 'entries 0 to 200012 were not judged by sum');
    for (const value of [5, 6]) log.reading('device/x//', value);
    await living.advance(never);
    assert.deepEqual(log.inputs('device/x//'), [[skipped, skipped + 2, skipped + 3]]);
  });

  it('records readings that were pruned before it saw them', async () => {
    const log = new Log();
    for (let i = 0; i < 9; i++) log.reading('device/x//', i);
    log.pruned = 4;
    await engine(log, [judge(3)]).advance(never);
    assert.deepEqual([log.bodies(KIND.gap)[0]?.body.get(GAP_BODY.reason), log.bodies(KIND.gap)[0]?.body.get(GAP_BODY.count)], ['infer.pruned', 4]);
    assert.deepEqual(log.inputs('device/x//'), [[4, 5, 6]]);
  });

  it('goes on without a model that fails, and records what it did not judge', async () => {
    const log = new Log();
    for (let i = 0; i < 7; i++) log.reading('device/x//', i);
    const broken = judge(3, { digest: Buffer.alloc(32, 9), run: async () => { throw new TenzroError('model.run', 'sum: out of memory'); } });
    const living = engine(log, [broken, judge(3)]);
    await living.advance(never);
    assert.equal(log.inputs('device/x//').length, 2);
    assert.deepEqual([log.bodies(KIND.gap)[0]?.body.get(GAP_BODY.reason), log.bodies(KIND.gap)[0]?.body.get(GAP_BODY.count), failures[0]?.code], ['model.run', 2, 'model.run']);
    assert.ok(living.judging);
  });

  it('does not write for readings that complete nothing', async () => {
    const log = new Log();
    let commits = 0;
    const living = engine(log, [judge(3)], async (batch) => { commits++; log.commit(batch); });
    for (let i = 0; i < 100; i++) {
      log.append(KIND.event, 'device/x//', i);
      await living.advance(never);
    }
    assert.equal(commits, 0);
    assert.equal(living.position, 100);
  });
});
