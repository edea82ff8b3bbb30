/** Holds the TPM for the sealer: opens it when needed, lets go of it when it fails, and asks again after growing waits. A missing TPM is data. */
import { equalBytes } from '#runtime/core/bytes.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Anchor, Counters, Log } from '#runtime/core/ports.ts';
import type { Maybe } from '#runtime/core/types.ts';

export type OpenAnchor = (signal: AbortSignal) => Promise<Anchor>;

export interface AnchorLinkOptions {
  /** None: this gateway has no TPM, with the reason that its blocks state. */
  readonly openAnchor: Maybe<OpenAnchor>;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
}

export class AnchorLink {
  readonly #options: AnchorLinkOptions;
  #anchor: Anchor | undefined;
  #pinned: { readonly akPublic: Uint8Array | undefined } | undefined;
  #failure: { readonly reason: string; readonly retryAtMicros: number; readonly delayMs: number } | undefined;

  constructor(options: AnchorLinkOptions) { this.#options = options; }

  /** From now on only the TPM of the genesis will do; `undefined`: the chain began without one. */
  pin(akPublic: Uint8Array | undefined): void { this.#pinned = { akPublic }; }

  /** Runs `work` on the TPM. Whatever the environment does wrong becomes an absence with its reason; a defect of ours is thrown. */
  async use<T>(work: (anchor: Anchor) => Promise<T>, signal: AbortSignal): Promise<Maybe<T>> {
    const { openAnchor, clock } = this.#options;
    if (openAnchor.kind === 'none') return openAnchor;
    if (this.#failure && clock.monoMicros() < this.#failure.retryAtMicros) return { kind: 'none', reason: this.#failure.reason };
    try {
      this.#anchor ??= await this.#open(openAnchor.value, signal);
      const value = await work(this.#anchor);
      this.#failure = undefined;
      return { kind: 'value', value };
    } catch (error) {
      return { kind: 'none', reason: this.fail(error) };
    }
  }

  /** Lets go of the TPM after an error, and says the reason. Throws what is not the environment's fault. */
  fail(error: unknown): string {
    if (!(error instanceof TenzroError) || error.class === 'bug' || error.class === 'usage') throw error;
    const { clock, counters, log } = this.#options;
    const delayMs = Math.min((this.#failure?.delayMs ?? LIMITS.anchorRetryDelayMs / 2) * 2, LIMITS.anchorRetryDelayMaxMs);
    const reason = `${error.code}: ${error.message}`;
    this.#anchor = undefined;
    this.#failure = { reason, delayMs, retryAtMicros: clock.monoMicros() + delayMs * 1_000 };
    counters.add(`attest.error.${error.code}`);
    log.warn({ code: error.code, retryAfterMs: delayMs, hint: error.hint }, `no TPM evidence: ${error.message}`);
    return reason;
  }

  async #open(open: OpenAnchor, signal: AbortSignal): Promise<Anchor> {
    const anchor = await open(signal);
    if (!this.#pinned) return anchor;
    const { akPublic } = this.#pinned;
    if (!akPublic) throw new TenzroError('attest.foreign_tpm', 'the chain began without a TPM, so that nothing ties this one to it');
    if (!equalBytes(akPublic, anchor.akPublic)) throw new TenzroError('attest.foreign_tpm', 'the attestation key is not that of the genesis: another TPM, or one with a new endorsement seed');
    return anchor;
  }
}
