/** Spends a number of bytes per second: the next shipment waits until the last one is paid for. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '#runtime/core/clock.ts';

export class Pace {
  readonly #bytesPerSecond: number;
  readonly #clock: Clock;
  #freeMicros = 0;

  /** 0: no limit. */
  constructor(bytesPerSecond: number, clock: Clock) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#clock = clock;
  }

  /** Resolves when `bytes` may be sent, or when `signal` aborts. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    if (this.#bytesPerSecond === 0) return;
    const now = this.#clock.monoMicros();
    const waitMicros = this.#freeMicros - now;
    this.#freeMicros = Math.max(now, this.#freeMicros) + (bytes / this.#bytesPerSecond) * 1_000_000;
    if (waitMicros > 0) await sleep(waitMicros / 1_000, undefined, { signal }).catch(() => undefined); // aborted: the caller looks
  }
}
