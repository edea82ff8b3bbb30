/**
 * Answers to challenges: a block over the asker's nonce, and the proof that it is the chain's newest. Whoever asks (the control socket, a verifier over
 * the network) asks here, so that one bound holds for all: a challenge costs the TPM two signatures and the disk a block, and no NV write.
 */
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { NONCE_BYTES } from '#runtime/ledger/block.ts';
import { buildHeadProof, type ProofSource } from '#runtime/ledger/proofBuilder.ts';
import type { Attester } from './attester.ts';

export interface FreshProofOptions {
  readonly attester: Pick<Attester, 'challenge'>;
  readonly source: ProofSource;
  readonly clock: Clock;
}

export class FreshProofs {
  readonly #options: FreshProofOptions;
  /** Challenges that may come at once; one more grows back every `LIMITS.challengeIntervalMs`. */
  #credit: number = LIMITS.challengesAtOnceMax;
  #creditMicros: number;

  constructor(options: FreshProofOptions) {
    this.#options = options;
    this.#creditMicros = options.clock.monoMicros();
  }

  /**
   * A proof bundle whose head is a block over `nonce`, 16 to 64 bytes. `from`: sequence of a block that the asker knows; see `buildHeadProof`.
   * Rejects with `attest.challenge_malformed`, `attest.too_many_challenges` (with `retryAfterMs`), and like `Attester.challenge` and `buildHeadProof`.
   */
  async freshBundle(nonce: Uint8Array, options: { readonly from?: number } = {}): Promise<Uint8Array> { return (await this.prove(nonce, options)).bundle; }

  /** The same, with the sequence of that block. */
  async prove(nonce: Uint8Array, { from }: { readonly from?: number } = {}): Promise<{ readonly sequence: number; readonly bundle: Uint8Array }> {
    if (nonce.length < NONCE_BYTES.min || nonce.length > NONCE_BYTES.max) throw new TenzroError('attest.challenge_malformed', `a nonce of ${nonce.length} bytes`);
    if (from !== undefined && !(Number.isSafeInteger(from) && from >= 0)) throw new TenzroError('attest.challenge_malformed', `${from} is not the sequence of a block`);
    this.#spend();
    const { sequence } = await this.#options.attester.challenge(nonce);
    return { sequence, bundle: buildHeadProof(this.#options.source, sequence, from) };
  }

  #spend(): void {
    const intervalMicros = LIMITS.challengeIntervalMs * 1_000;
    const now = this.#options.clock.monoMicros();
    const grown = Math.floor((now - this.#creditMicros) / intervalMicros);
    this.#credit = Math.min(LIMITS.challengesAtOnceMax, this.#credit + grown);
    this.#creditMicros += grown * intervalMicros;
    if (this.#credit === 0) {
      const retryAfterMs = Math.ceil((this.#creditMicros + intervalMicros - now) / 1_000);
      throw new TenzroError('attest.too_many_challenges', `${LIMITS.challengesAtOnceMax} challenges were answered lately: again in ${retryAfterMs} ms`, { retryAfterMs });
    }
    this.#credit -= 1;
  }
}
