/** Token buckets, one per name: so many requests at once, then one per interval. Names beyond the bound push out the one that was quiet longest. */
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';

interface Bucket {
  readonly tokens: number;
  readonly atMicros: number;
}

export interface Rate {
  readonly burst: number;
  readonly refillMs: number;
}

export class Rates {
  readonly #clock: Clock;
  readonly #rate: Rate;
  /** Least recently used first. */
  readonly #buckets = new Map<string, Bucket>();

  constructor(clock: Clock, rate: Rate) {
    this.#clock = clock;
    this.#rate = rate;
  }

  /** Throws `verifier.busy` when the bucket is empty. */
  take(name: string): void {
    const { burst, refillMs } = this.#rate;
    const now = this.#clock.monoMicros();
    const before = this.#buckets.get(name) ?? { tokens: burst, atMicros: now };
    const tokens = Math.min(burst, before.tokens + (now - before.atMicros) / (refillMs * 1_000));
    if (tokens < 1) throw new TenzroError('verifier.busy', 'too many requests', { retryAfterMs: Math.ceil((1 - tokens) * refillMs) });
    this.#buckets.delete(name);
    this.#buckets.set(name, { tokens: tokens - 1, atMicros: now });
    if (this.#buckets.size <= LIMITS.verifierClientsMax) return;
    const [quietest] = this.#buckets.keys();
    if (quietest !== undefined) this.#buckets.delete(quietest);
  }
}
