/** How fast peers may speak: a token bucket for each address, and one for all together, since addresses cost nothing on a local network. */
import type { Clock } from '#runtime/core/clock.ts';
import { LIMITS } from '#runtime/core/limits.ts';

interface Bucket {
  tokens: number;
  atMicros: number;
}

export class MessageRates {
  readonly #clock: Clock;
  readonly #all: Bucket;
  /** Least recently used first. */
  readonly #addresses = new Map<string, Bucket>();

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#all = { tokens: LIMITS.claimTotalBurst, atMicros: clock.monoMicros() };
  }

  /** False: nobody is to be answered now. An address that is over its own rate takes nothing from the others. */
  take(address: string): boolean {
    const now = this.#clock.monoMicros();
    const own = this.#addresses.get(address) ?? { tokens: LIMITS.claimBurst, atMicros: now };
    this.#addresses.delete(address);
    this.#addresses.set(address, own);
    const [quietest] = this.#addresses.keys();
    if (quietest !== undefined && this.#addresses.size > LIMITS.claimAddressesMax) this.#addresses.delete(quietest);
    return draw(own, now, LIMITS.claimBurst, LIMITS.claimRefillMs) && draw(this.#all, now, LIMITS.claimTotalBurst, LIMITS.claimTotalRefillMs);
  }
}

function draw(bucket: Bucket, now: number, burst: number, refillMs: number): boolean {
  bucket.tokens = Math.min(burst, bucket.tokens + (now - bucket.atMicros) / (refillMs * 1_000));
  bucket.atMicros = now;
  if (bucket.tokens < 1) return false;
  bucket.tokens -= 1;
  return true;
}
