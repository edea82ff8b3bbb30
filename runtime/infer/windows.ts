/**
 * Readings in, windows out: per model, by source. Pure. A window is `readings` consecutive readings of one source with all channels; it is broken by
 * a silence longer than `maxGapMs`, by a restart of the gateway (monotonic times are then not comparable) and by a reading that lacks a channel.
 *
 * What makes it resumable: given the same readings from `firstNeeded()` on, and told by `resume` what was judged already, it gives the same windows.
 */
import { LIMITS } from '#runtime/core/limits.ts';
import type { ModelPlan } from './plan.ts';

export interface Reading {
  /** Index of its entry. */
  readonly index: number;
  readonly source: string;
  readonly bootEpoch: number;
  readonly monoMicros: number;
  readonly duplicate: boolean;
  /** [channel, value, unit]; unit '' where the sensor states none. */
  readonly values: readonly (readonly [string, number, string])[];
}

export interface ReadyWindow {
  readonly source: string;
  /** Indices of the entries, oldest first. */
  readonly inputs: readonly number[];
  /** `readings × channels` values, oldest reading first. */
  readonly row: Float32Array;
}

/** What was not used, and why. */
export type WindowCount = 'duplicate' | 'missing_channel' | 'gap' | 'too_many_sources';

interface OpenWindow {
  readonly inputs: number[];
  readonly row: Float32Array;
  bootEpoch: number;
  lastMicros: number;
}

export class Windows {
  readonly #plan: ModelPlan;
  readonly #count: (what: WindowCount) => void;
  readonly #slots: ReadonlyMap<string, { readonly slot: number; readonly unit: string }>;
  readonly #open = new Map<string, OpenWindow>();
  /** Per source, the first index not judged before the restart. */
  readonly #resumeAt = new Map<string, number>();

  constructor(plan: ModelPlan, count: (what: WindowCount) => void) {
    this.#plan = plan;
    this.#count = count;
    this.#slots = new Map(plan.channels.map(({ channel, unit }, slot) => [channel, { slot, unit }]));
  }

  /** A window that `inputs` names was judged before: its readings are not judged again. Call in order of the log, before the readings. */
  resume(source: string, inputs: readonly number[]): void {
    const { readings, stride } = this.#plan.window;
    const next = stride < readings ? inputs[stride] : (inputs.at(-1) ?? -1) + 1;
    if (next !== undefined) this.#resumeAt.set(source, next);
  }

  /** Takes readings in order of the log; gives the window that this one completes. */
  push(reading: Reading): ReadyWindow | undefined {
    if (reading.index < (this.#resumeAt.get(reading.source) ?? 0)) return undefined;
    if (reading.duplicate) return this.#unused('duplicate');
    const window = this.#windowFor(reading);
    if (window === undefined) return this.#unused('too_many_sources');
    const width = this.#plan.channels.length;
    const slots = window.row.subarray(window.inputs.length * width, (window.inputs.length + 1) * width);
    if (!this.#fill(slots, reading)) {
      this.#open.delete(reading.source);
      return this.#unused('missing_channel');
    }
    window.inputs.push(reading.index);
    window.lastMicros = reading.monoMicros;
    return window.inputs.length === this.#plan.window.readings ? this.#take(reading.source, window) : undefined;
  }

  #unused(why: WindowCount): undefined {
    this.#count(why);
    return undefined;
  }

  /** The open window that the reading goes on with, or a new one; undefined when there are too many. */
  #windowFor({ source, bootEpoch, monoMicros }: Reading): OpenWindow | undefined {
    const open = this.#open.get(source);
    if (open !== undefined) {
      if (open.bootEpoch === bootEpoch && monoMicros - open.lastMicros <= this.#plan.window.maxGapMs * 1000) return open;
      this.#count('gap');
      open.inputs.length = 0;
      open.bootEpoch = bootEpoch;
      return open;
    }
    if (this.#open.size >= LIMITS.inferSourcesMax) return undefined;
    const fresh = { inputs: [], row: new Float32Array(this.#plan.window.readings * this.#plan.channels.length), bootEpoch, lastMicros: monoMicros };
    this.#open.set(source, fresh);
    return fresh;
  }

  /** False when a channel is missing, states another unit, or does not fit a float32. */
  #fill(slots: Float32Array, { values }: Reading): boolean {
    slots.fill(Number.NaN);
    for (const [channel, value, unit] of values) {
      const wanted = this.#slots.get(channel);
      if (wanted !== undefined && (unit === '' || unit === wanted.unit)) slots[wanted.slot] = value;
    }
    return slots.every(Number.isFinite);
  }

  #take(source: string, window: OpenWindow): ReadyWindow {
    const { stride } = this.#plan.window;
    const ready = { source, inputs: window.inputs.slice(), row: window.row.slice() };
    window.inputs.splice(0, stride);
    window.row.copyWithin(0, stride * this.#plan.channels.length);
    if (window.inputs.length === 0) this.#open.delete(source);
    return ready;
  }

  /** Lets go of windows that cannot go on, so that a source that fell silent does not hold the cursor. `monoMicros` is the newest seen. */
  expire(bootEpoch: number, monoMicros: number): void {
    const graceMicros = 2 * this.#plan.window.maxGapMs * 1000; // entries of different sources may lie a little out of order
    for (const [source, open] of this.#open) {
      if (open.bootEpoch === bootEpoch && monoMicros - open.lastMicros <= graceMicros) continue;
      this.#open.delete(source);
      this.#count('gap');
    }
  }

  /** Index of the oldest reading that an open window holds; undefined when none is open. */
  firstNeeded(): number | undefined {
    let first: number | undefined;
    for (const { inputs } of this.#open.values()) if (inputs[0] !== undefined && (first === undefined || inputs[0] < first)) first = inputs[0];
    return first;
  }

  /** Drops all open windows: the readings that would have completed them are skipped. */
  clear(): void { this.#open.clear(); }
}
