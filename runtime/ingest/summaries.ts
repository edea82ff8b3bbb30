/** Windows of readings that are recorded as one summary each: counts, extremes and means, and the Merkle root of what they stand for. */
import { LIMITS } from '#runtime/core/limits.ts';
import { SUMMARY_BODY, type Cbor } from '#runtime/core/types.ts';
import { encodeCbor } from '#runtime/crypto/cbor.ts';
import { CompactRange, leafHash } from '#runtime/crypto/merkle.ts';
import type { Value } from './measurement.ts';

export interface Summary {
  readonly source: string;
  readonly body: ReadonlyMap<number, Cbor>;
}

interface Statistics {
  readonly unit: string;
  count: number;
  min: number;
  max: number;
  sum: number;
  last: number;
}

interface Window {
  readonly source: string;
  readonly closesAtMicros: number;
  readonly fromMicros: number;
  toMicros: number;
  flags: number;
  readonly readings: CompactRange;
  readonly channels: Map<string, Statistics>;
}

/** One reading on its way into a window; `body` is what `every` would have recorded. */
export interface SummarisedReading {
  readonly topic: string;
  readonly source: string;
  readonly values: readonly Value[];
  readonly body: Cbor;
  readonly flags: number;
  readonly wallMicros: number;
  readonly monoMicros: number;
}

/** A window opens with its first reading and closes after its length by the monotonic clock: a step of the wall clock moves no border. */
export class Summaries {
  readonly #open = new Map<string, Window>();
  #closed: Summary[] = [];
  #nextCloseMicros = Infinity;

  add(reading: SummarisedReading, windowMs: number): void {
    const window = this.#windowFor(reading, windowMs);
    window.toMicros = reading.wallMicros;
    window.flags |= reading.flags;
    window.readings.append(leafHash(encodeCbor(reading.body)));
    for (const [channel, value, unit] of reading.values) {
      const known = window.channels.get(channel);
      if (known === undefined) window.channels.set(channel, { unit, count: 1, min: value, max: value, sum: value, last: value });
      else {
        known.count++;
        known.sum += value;
        known.last = value;
        if (value < known.min) known.min = value;
        if (value > known.max) known.max = value;
      }
    }
  }

  /** Closed windows, oldest first; each is told once. `Infinity` closes them all. */
  takeClosed(monoMicros: number): readonly Summary[] {
    if (monoMicros >= this.#nextCloseMicros) {
      this.#nextCloseMicros = Infinity;
      for (const [topic, window] of this.#open) {
        if (monoMicros >= window.closesAtMicros) this.#close(topic, window);
        else this.#nextCloseMicros = Math.min(this.#nextCloseMicros, window.closesAtMicros);
      }
    }
    if (this.#closed.length === 0) return this.#closed;
    const closed = this.#closed;
    this.#closed = [];
    return closed;
  }

  #windowFor({ topic, source, values, wallMicros, monoMicros }: SummarisedReading, windowMs: number): Window {
    const open = this.#open.get(topic);
    if (open && monoMicros < open.closesAtMicros && fits(open, values)) return open;
    if (open) this.#close(topic, open);
    for (const [oldestTopic, oldest] of this.#open) {
      if (this.#open.size < LIMITS.summaryWindowsMax) break;
      this.#close(oldestTopic, oldest);
    }
    const window: Window = {
      source, closesAtMicros: monoMicros + windowMs * 1000, fromMicros: wallMicros, toMicros: wallMicros, flags: 0, readings: new CompactRange(), channels: new Map(),
    };
    this.#open.set(topic, window);
    this.#nextCloseMicros = Math.min(this.#nextCloseMicros, window.closesAtMicros);
    return window;
  }

  #close(topic: string, window: Window): void {
    this.#open.delete(topic);
    const channels = Array.from(window.channels, ([channel, { unit, count, min, max, sum, last }]) => [channel, unit, count, min, max, sum / count, last]);
    this.#closed.push({
      source: window.source,
      body: new Map<number, Cbor>([
        [SUMMARY_BODY.topic, topic], [SUMMARY_BODY.count, window.readings.size], [SUMMARY_BODY.channels, channels], [SUMMARY_BODY.flags, window.flags],
        [SUMMARY_BODY.fromMicros, window.fromMicros], [SUMMARY_BODY.toMicros, window.toMicros], [SUMMARY_BODY.root, window.readings.root()],
      ]),
    });
  }
}

/** A sender that invents channel names must not grow a window without end. */
function fits(window: Window, values: readonly Value[]): boolean {
  if (window.channels.size + values.length <= LIMITS.channelsPerReadingMax) return true;
  let added = 0;
  for (const [channel] of values) if (!window.channels.has(channel)) added++;
  return window.channels.size + added <= LIMITS.channelsPerReadingMax;
}
