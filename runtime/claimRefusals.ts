/** Claimers and owners who are refused: each is counted, and entries tell of them, of a flood once in a while. Whoever is refused may have shown nothing at all. */
import type { Clock } from '#runtime/core/clock.ts';
import { Credit } from '#runtime/core/credit.ts';
import type { ErrorCode } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Counters } from '#runtime/core/ports.ts';

export interface ClaimRefusalOptions {
  readonly clock: Clock;
  readonly counters: Counters;
  /** An entry. MUST NOT throw. */
  readonly record: (code: ErrorCode, reason: string) => void;
}

/** These have an entry of their own, with what was wrong; no more of them come than attempts are allowed, but for who asks again once it is locked. */
const TOLD_BY_THEMSELVES: ReadonlySet<ErrorCode> = new Set(['claim.secret_wrong', 'claim.locked']);

export class ClaimRefusals {
  readonly #options: ClaimRefusalOptions;
  readonly #credit: Credit;
  /** Since the last entry. */
  #untold = 0;
  #last: ErrorCode = 'claim.busy';

  constructor(options: ClaimRefusalOptions) {
    this.#options = options;
    this.#credit = new Credit(LIMITS.refusalBurst, LIMITS.refusalIntervalMs, options.clock.monoMicros());
  }

  add(code: ErrorCode): void {
    this.#options.counters.add(`claim.refused.${code}`);
    if (TOLD_BY_THEMSELVES.has(code)) return;
    this.#untold += 1;
    this.#last = code;
    this.due();
  }

  /** To be called every second or so: tells of those that came too fast, when it is time. */
  due(): void {
    const { clock, record } = this.#options;
    if (this.#untold === 0 || !this.#credit.spend(clock.monoMicros())) return;
    record(this.#last, this.#untold === 1 ? 'somebody was refused' : `${this.#untold} were refused, this is the reason of the last`);
    this.#untold = 0;
  }
}
