/** Token buckets, one per name: so many requests at once, then one per interval. Names beyond the bound push out the one that was quiet longest. */
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';

interface Bucket {
  readonly tokens: number;
  readonly atMicros: number;
}

const REFILL_MICROS = LIMITS.verifierRefillMs * 1_000;

export class Rates {
  readonly #clock: Clock;
  /** Least recently used first. */
  readonly #buckets = new Map<string, Bucket>();

  constructor(clock: Clock) { this.#clock = clock; }

  /** Throws `verifier.busy` when the bucket is empty. */
  take(name: string): void {
    const now = this.#clock.monoMicros();
    const before = this.#buckets.get(name) ?? { tokens: LIMITS.verifierBurst, atMicros: now };
    const tokens = Math.min(LIMITS.verifierBurst, before.tokens + (now - before.atMicros) / REFILL_MICROS);
    if (tokens < 1) throw new TenzroError('verifier.busy', 'too many requests', { retryAfterMs: Math.ceil((1 - tokens) * LIMITS.verifierRefillMs) });
    this.#buckets.delete(name);
    this.#buckets.set(name, { tokens: tokens - 1, atMicros: now });
    if (this.#buckets.size <= LIMITS.verifierClientsMax) return;
    const [quietest] = this.#buckets.keys();
    if (quietest !== undefined) this.#buckets.delete(quietest);
  }
}
