/** What the controller refuses, as acts: who was refused what, and why. Whoever asks again and again is told of once an hour with how often, and all together in bounds. */
import type { Clock } from '#runtime/core/clock.ts';
import { Credit } from '#runtime/core/credit.ts';
import type { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { CONTROLLER, type ActBook } from './acts.ts';

export interface RefusalBook {
  /** `about`: gateway or command. In the turn of no other write: what it notes is on disk with the next flush. MUST NOT throw. */
  add(about: string, error: TenzroError): void;
}

interface Told {
  readonly atMicros: number;
  readonly untold: number;
}

const AGAIN_MICROS = 3_600_000_000;
const INTERVAL_MS = 60_000;
const KEYS_MAX = 4_096;

export class Refused implements RefusalBook {
  readonly #acts: ActBook;
  readonly #clock: Clock;
  readonly #credit: Credit;
  /** By who and why; the least recently refused first. */
  readonly #told = new Map<string, Told>();

  constructor(acts: ActBook, clock: Clock) {
    [this.#acts, this.#clock, this.#credit] = [acts, clock, new Credit(LIMITS.refusalBurst, INTERVAL_MS, clock.monoMicros())];
  }

  add(about: string, { code, message }: TenzroError): void {
    const [key, nowMicros] = [`${about} ${code}`, this.#clock.monoMicros()];
    const { atMicros, untold } = this.#told.get(key) ?? { atMicros: -Infinity, untold: 0 };
    const isDue = nowMicros - atMicros >= AGAIN_MICROS && this.#credit.spend(nowMicros);
    if (isDue) this.#acts.note({ who: CONTROLLER, what: 'refused', about, detail: `${code}: ${message}${untold === 0 ? '' : `; ${untold} times before, untold`}` });
    this.#told.delete(key);
    this.#told.set(key, isDue ? { atMicros: nowMicros, untold: 0 } : { atMicros, untold: untold + 1 });
    const [oldest] = this.#told.keys();
    if (oldest !== undefined && this.#told.size > KEYS_MAX) this.#told.delete(oldest);
  }
}
