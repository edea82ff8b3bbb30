/**
 * The newest time that a gateway can prove: its wall clock, but never before the last entry of earlier runs, nor before a time that an operator signed, nor
 * back. Good for the end of a validity; whether something comes from the future it cannot say.
 */
import type { Clock } from '#runtime/core/clock.ts';

export class ProvableTime {
  readonly #clock: Clock;
  #floorMicros: number;
  #floorMono: number;

  constructor(clock: Clock, floorMicros: number) {
    this.#clock = clock;
    this.#floorMicros = floorMicros;
    this.#floorMono = clock.monoMicros();
  }

  /** Microseconds since 1970. */
  nowMicros(): number {
    const mono = this.#clock.monoMicros();
    this.#floorMicros = Math.max(this.#floorMicros + mono - this.#floorMono, this.#clock.wallMicros());
    this.#floorMono = mono;
    return this.#floorMicros;
  }

  raise(micros: number): void { this.#floorMicros = Math.max(this.nowMicros(), micros); }
}
