/**
 * The follower that closes blocks. One block is sealed at a time, whoever asks; requests that come while one is being sealed share the next,
 * which covers everything flushed by then. A storm of alarms gets a block per LIMITS.alarmBlockIntervalMs.
 */
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { BlockStore, Counters, Follower, Log } from '#runtime/core/ports.ts';
import { isDue, nextLookMicros, type Cadence } from './schedule.ts';
import type { BlockInfo, SealRequest, Sealer } from './sealer.ts';

export type SealReason = 'boot' | 'interval' | 'alarm' | 'request' | 'shutdown';

export interface AttesterOptions {
  readonly sealer: Pick<Sealer, 'seal'>;
  readonly store: Pick<BlockStore, 'head'>;
  readonly cadence: Cadence;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
}

/** A block that is asked for and not begun. */
interface Turn {
  readonly reasons: Set<SealReason>;
  /** Aborts when somebody other than an alarm joins. */
  readonly urgent: AbortController;
  readonly sealed: Promise<BlockInfo>;
}

export class Attester implements Follower {
  readonly name = 'attest';
  readonly #options: AttesterOptions;
  /** Aborts when `follow` does: a block under way then no longer waits for the TPM. */
  readonly #hurry = new AbortController();
  #busy: Promise<unknown> = Promise.resolve();
  #next: Turn | undefined;
  #sealedSize = 0;
  #sealedMicros: number;

  constructor(options: AttesterOptions) {
    this.#options = options;
    this.#sealedMicros = options.clock.monoMicros();
  }

  /** Entries under the last block. */
  processed(): number { return this.#sealedSize; }

  /** A block of its own over a verifier's nonce, 16 to 64 bytes, with quote and counter. Rejects like `Sealer.seal`. */
  challenge(nonce: Uint8Array): Promise<BlockInfo> {
    const sealed = this.#busy.then(() => this.#seal({ challenge: nonce }));
    this.#busy = sealed.catch(() => undefined); // who asked has the error
    return sealed;
  }

  /** Resolves with the sequence of a block that covers everything flushed at the time of the call; rejects like `Sealer.seal`. */
  async sealNow(reason: SealReason): Promise<number> { return (await this.#request(reason)).sequence; }

  /** Seals the boot's first block (and a genesis where there is none), then by the cadence. Failures are counted, and tried again at the next look. */
  async follow(signal: AbortSignal): Promise<void> {
    const { store, cadence, clock } = this.#options;
    const hurry = (): void => this.#hurry.abort(signal.reason);
    signal.addEventListener('abort', hurry, { once: true });
    let first: SealReason | undefined = 'boot';
    while (!signal.aborted) {
      const attempted = await this.#attempt(async () => {
        const state = { sealedMicros: this.#sealedMicros, sealedSize: this.#sealedSize, size: first ? 0 : (await store.head()).size };
        if (first || isDue(state, cadence, clock.monoMicros())) await this.#request(first ?? 'interval');
      });
      if (attempted) first = undefined;
      const now = clock.monoMicros();
      await sleep((nextLookMicros({ sealedMicros: this.#sealedMicros }, cadence, now) - now) / 1_000, signal);
    }
    await this.#busy;
  }

  #request(reason: SealReason): Promise<BlockInfo> {
    const waiting = this.#next;
    if (waiting) {
      waiting.reasons.add(reason);
      if (reason !== 'alarm') waiting.urgent.abort();
      return waiting.sealed;
    }
    const reasons = new Set([reason]);
    const urgent = new AbortController();
    if (reason !== 'alarm') urgent.abort();
    const sealed = this.#busy.then(async () => {
      const restMicros = this.#sealedMicros + LIMITS.alarmBlockIntervalMs * 1_000 - this.#options.clock.monoMicros();
      await sleep(restMicros / 1_000, AbortSignal.any([urgent.signal, this.#hurry.signal]));
      this.#next = undefined;
      return this.#seal({ counter: reasons.has('shutdown') });
    });
    this.#next = { reasons, urgent, sealed };
    this.#busy = sealed.catch(() => undefined); // who asked has the error
    return sealed;
  }

  async #seal(request: SealRequest): Promise<BlockInfo> {
    const info = await this.#options.sealer.seal(request, this.#hurry.signal);
    this.#sealedSize = info.treeSize;
    this.#sealedMicros = this.#options.clock.monoMicros();
    return info;
  }

  /** False when the environment failed. */
  async #attempt(work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      if (!(error instanceof TenzroError)) throw error;
      this.#options.counters.add(`attest.error.${error.code}`);
      this.#options.log.error({ code: error.code, hint: error.hint }, `no block: ${error.message}`);
      return false;
    }
  }
}

/** Until `ms` have passed or `signal` aborts; at once for 0 and less. */
function sleep(ms: number, signal: AbortSignal): Promise<void> {
  if (ms <= 0 || signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done, { once: true });
  });
}
