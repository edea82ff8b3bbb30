/** One model's windows on their way through it. */
import { LIMITS } from '#runtime/core/limits.ts';
import { INFERENCE_BODY, KIND, type Cbor } from '#runtime/core/types.ts';
import { formatTopic, matchesFilter } from '#runtime/core/topic.ts';
import { asBuffer } from '#runtime/core/bytes.ts';
import type { UnstampedDraft } from './messages.ts';
import type { Judge, Verdict } from './plan.ts';
import type { DecodedReading } from './reading.ts';
import { Windows, type ReadyWindow } from './windows.ts';

export class JudgeQueue {
  readonly judge: Judge;
  readonly windows: Windows;
  /** By source, the topic that the model watches there (empty: any), or false. Remembered: the same few come again and again. */
  readonly #topics = new Map<string, Buffer | false>();
  readonly #monoMicros: () => number;
  readonly #rows: Float32Array;
  readonly #width: number;
  #waiting: ReadyWindow[] = [];
  #newest: { bootEpoch: number; monoMicros: number } = { bootEpoch: 0, monoMicros: 0 };

  constructor(judge: Judge, count: (name: string) => void, monoMicros: () => number) {
    this.judge = judge;
    this.windows = new Windows(judge.plan, (what) => count(`infer.window.${what}`));
    this.#monoMicros = monoMicros;
    this.#width = judge.plan.window.readings * judge.plan.channels.length;
    this.#rows = new Float32Array(LIMITS.inferBatchMax * this.#width);
  }

  /** Bytes that every entry for this model contains; empty: nothing is known of them. */
  get needle(): Uint8Array {
    const { type } = this.judge.plan.source;
    return Buffer.from(type.kind === 'value' ? `/m/${type.value}` : '');
  }

  get waiting(): readonly ReadyWindow[] { return this.#waiting; }
  get full(): boolean { return this.#waiting.length >= LIMITS.inferBatchMax; }

  /**
   * False only when the entry cannot concern the model. Looks for the topic's bytes in the entry, which costs a hundredth of decoding it: most readings
   * on a busy gateway are somebody else's.
   */
  mayWatch(source: string, entry: Uint8Array): boolean {
    let topic = this.#topics.get(source);
    if (topic === undefined) {
      if (this.#topics.size >= 2 * LIMITS.inferSourcesMax) this.#topics.clear();
      const { entity, type } = this.judge.plan.source;
      topic = matchesFilter(entity, source) ? Buffer.from(type.kind === 'value' ? topicOf(source, type.value) : '') : false;
      this.#topics.set(source, topic);
    }
    return topic !== false && asBuffer(entry).includes(topic);
  }

  push(reading: DecodedReading): void {
    const { type } = this.judge.plan.source;
    if (type.kind === 'value' && reading.topic !== topicOf(reading.source, type.value)) return;
    this.#newest = reading;
    const ready = this.windows.push(reading);
    if (ready !== undefined) this.#waiting.push(ready);
  }

  expire(): void { this.windows.expire(this.#newest.bootEpoch, this.#newest.monoMicros); }

  /** Judges what waits, at most `LIMITS.inferBatchMax` windows. On rejection they wait still. */
  async run(): Promise<UnstampedDraft[]> {
    const { judge, judge: { plan } } = this;
    const windows = this.#waiting;
    for (const [i, { row }] of windows.entries()) this.#rows.set(row, i * this.#width);
    const startMicros = this.#monoMicros();
    const scores = await judge.run(this.#rows, windows.length);
    const durationMicros = Math.ceil((this.#monoMicros() - startMicros) / windows.length);
    this.#waiting = [];
    return windows.map(({ source, inputs }, i) => {
      const score = scores[i] ?? 0;
      const verdict: Verdict = score >= plan.threshold ? 'anomaly' : 'normal';
      const body = new Map<number, Cbor>([
        [INFERENCE_BODY.model, plan.name], [INFERENCE_BODY.digest, judge.digest], [INFERENCE_BODY.provider, judge.provider], [INFERENCE_BODY.score, score],
        [INFERENCE_BODY.verdict, verdict], [INFERENCE_BODY.threshold, plan.threshold], [INFERENCE_BODY.inputs, inputs], [INFERENCE_BODY.durationMicros, durationMicros],
      ]);
      return { kind: KIND.inference, source, body };
    });
  }
}

const topicOf = (entity: string, type: string): string => formatTopic({ kind: 'channel', entity, channel: 'm', type, suffix: '' });
