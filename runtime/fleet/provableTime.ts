/**
 * The newest time that a gateway can prove: its wall clock, but never before the last entry of earlier runs, nor before a time that an owner or operator signed,
 * nor back. Good for the end of a validity; whether something comes from the future it cannot say. Where who signs it says that it is earlier just now, the wall
 * clock is ahead, and is read less by that much until somebody sets it.
 */
import type { Clock } from '#runtime/core/clock.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';

/** The clock of who signs may be off by this much. */
const TOLERANCE_MICROS = 86_400_000_000;

/** What outlasts a run, µs. */
export interface KeptTime {
  /** It is not before this: somebody signed it. 0: nobody did. */
  readonly signedMicros: number;
  /** By how much the wall clock was ahead of who signed; 0: it was not. */
  readonly aheadMicros: number;
}

export class ProvableTime {
  readonly #clock: Clock;
  #ownMicros: number;
  #signedMicros: number;
  #aheadMicros: number;
  #mono: number;

  /** `ownMicros`: of the last entry of earlier runs. */
  constructor(clock: Clock, ownMicros: number, { signedMicros, aheadMicros }: KeptTime = { signedMicros: 0, aheadMicros: 0 }) {
    this.#clock = clock;
    this.#signedMicros = signedMicros;
    this.#aheadMicros = clock.wallMicros() - aheadMicros < signedMicros - TOLERANCE_MICROS ? 0 : aheadMicros; // somebody set the clock
    this.#ownMicros = ownMicros - aheadMicros;
    this.#mono = clock.monoMicros();
  }

  get kept(): KeptTime { return { signedMicros: this.#signedMicros, aheadMicros: this.#aheadMicros }; }

  /** Microseconds since 1970. */
  nowMicros(): number {
    this.#advance();
    return Math.max(this.#ownMicros, this.#signedMicros);
  }

  /** A time that has passed for sure, µs since 1970: no clock of this machine is asked but for what went by since. 0: nobody signed any. */
  signedMicros(): number {
    this.#advance();
    return this.#signedMicros;
  }

  /** Somebody signed it once. */
  raise(micros: number): void {
    this.#advance();
    this.#signedMicros = Math.max(this.#signedMicros, micros);
  }

  /** Somebody signed it just now: what this machine's clock is ahead of it counts no more. */
  tell(micros: number): void {
    this.raise(micros);
    const aheadMicros = this.#clock.wallMicros() - micros;
    this.#aheadMicros = aheadMicros > TOLERANCE_MICROS ? aheadMicros : 0;
    if (this.#aheadMicros > 0) this.#ownMicros = micros;
  }

  #advance(): void {
    const mono = this.#clock.monoMicros();
    const elapsed = mono - this.#mono;
    this.#mono = mono;
    this.#ownMicros = Math.max(this.#ownMicros + elapsed, this.#clock.wallMicros() - this.#aheadMicros);
    if (this.#signedMicros > 0) this.#signedMicros += elapsed;
  }
}

/** µs since 1970. Both the clock of this machine and what the fleet proved say so: neither a wrong clock here nor one at the controller makes a certificate expire. */
export const passedBeyondDoubt = ({ now, signed }: { readonly now: number; readonly signed: number }, receiptMicros: number): number => Math.min(now, Math.max(signed, receiptMicros));

const KEY = 'fleet/time';

export const keepTime = (store: KeyValueStore, { signedMicros, aheadMicros }: KeptTime): void => { store.put(KEY, encodeCbor([Math.floor(signedMicros), aheadMicros])); };

/** What does not decode is as if nobody had signed a time: the owner's record, and commands that the chain holds, say it again. */
export function keptTime(store: KeyValueStore): KeptTime {
  for (const { key, value } of store.range(KEY)) {
    if (key !== KEY) continue;
    try {
      const [signedMicros, aheadMicros] = decodeCbor(value) as readonly unknown[];
      if (typeof signedMicros === 'number' && typeof aheadMicros === 'number') return { signedMicros, aheadMicros };
    } catch {
      break; // damaged
    }
  }
  return { signedMicros: 0, aheadMicros: 0 };
}
