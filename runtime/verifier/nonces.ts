/**
 * Challenges that wait for their answer. Each serves once, for the client that it was given to (whose key is its chain's), for `LIMITS.nonceLifetimeMs` by the monotonic
 * clock. In memory only: a restart of the verifier voids them all, and the gateway asks again.
 */
import { randomBytes } from 'node:crypto';
import { toHex } from '#runtime/core/bytes.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { NONCE_BYTES } from '#runtime/ledger/leaseMessages.ts';

interface OpenNonce {
  readonly client: string;
  readonly deadlineMicros: number;
}

export class Nonces {
  readonly #clock: Clock;
  /** By hex, oldest first. */
  readonly #open = new Map<string, OpenNonce>();
  readonly #perClient = new Map<string, number>();

  constructor(clock: Clock) { this.#clock = clock; }

  get open(): number { this.#expire(); return this.#open.size; }

  /** Throws `verifier.busy` when this client, or all together, hold as many as they may. */
  issue(client: string): Buffer {
    this.#expire();
    const held = this.#perClient.get(client) ?? 0;
    if (held >= LIMITS.noncesPerClientMax) throw this.#busy(`${held} challenges of this client are open`);
    if (this.#open.size >= LIMITS.noncesOpenMax) throw this.#busy(`${this.#open.size} challenges are open`);
    const nonce = randomBytes(NONCE_BYTES);
    this.#open.set(toHex(nonce), { client, deadlineMicros: this.#clock.monoMicros() + LIMITS.nonceLifetimeMs * 1_000 });
    this.#perClient.set(client, held + 1);
    return nonce;
  }

  /** Takes the nonce out, whatever becomes of the answer. Throws `verifier.nonce`. */
  redeem(nonce: Uint8Array, client: string): void {
    this.#expire();
    const found = this.#open.get(toHex(nonce));
    if (found?.client !== client) throw new TenzroError('verifier.nonce', 'the nonce was answered before, is too old, or was never given to this client');
    this.#drop(toHex(nonce), found);
  }

  #busy(why: string): TenzroError {
    const [oldest] = this.#open.values();
    const waitMicros = oldest ? oldest.deadlineMicros - this.#clock.monoMicros() : 0;
    return new TenzroError('verifier.busy', why, { retryAfterMs: Math.max(1, Math.ceil(waitMicros / 1_000)) });
  }

  #expire(): void {
    const now = this.#clock.monoMicros();
    for (const [nonce, open] of this.#open) {
      if (open.deadlineMicros > now) return;
      this.#drop(nonce, open);
    }
  }

  #drop(nonce: string, { client }: OpenNonce): void {
    this.#open.delete(nonce);
    const left = (this.#perClient.get(client) ?? 1) - 1;
    if (left === 0) this.#perClient.delete(client);
    else this.#perClient.set(client, left);
  }
}
