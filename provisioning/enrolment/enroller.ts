/**
 * The enroller's side: proves that a gateway's AK lives in the TPM of its EK, and that the gateway holds the identity key, then states it for good.
 *
 * Invariants: an attempt's tuple is fixed when it begins, and what is signed is that tuple and no other; an attempt ends with its first answer, right or
 * wrong, or with its time; secrets are zeroed when it ends. No table of enrolled pairs is kept that a later request could bend (Keylime
 * GHSA-jf66-3q76-h5p5): the statement is the record.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { toHex } from '#runtime/core/bytes.ts';
import type { Clock } from '#runtime/core/clock.ts';
import type { Enrolment, EnrolmentBinding, IdentityTuple } from '#runtime/core/enrolment.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { TimeSpan } from '#runtime/crypto/certificatePath.ts';
import { CREDENTIAL_BYTES_MAX, makeCredential } from '#runtime/crypto/credential.ts';
import type { EkVerdict } from '#runtime/crypto/ekCertificate.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { verifyMlDsa65 } from '#runtime/crypto/mldsa.ts';
import { parsePublic, type TpmPublic } from '#runtime/crypto/tpmEvidence.ts';
import { attestationKeyFault, endorsementKeyFault } from '#runtime/crypto/tpmKeys.ts';
import { answerDigest, answerMessage, decodeAnswer, decodeRequest, encodeChallenge, NONCE_BYTES, type EnrolmentRequest } from './messages.ts';

export interface EnrollerOptions {
  /** What statements name as their issuer. */
  readonly name: string;
  readonly clock: Clock;
  /** Judges the certificates (the EK's first) of an EK now: `judgeEkCertificates` with the enroller's anchors. */
  readonly judge: (ek: TpmPublic, certificates: readonly Uint8Array[], during: TimeSpan) => EkVerdict;
  /** Whether a TPM without a certificate of a known maker is enrolled too. */
  readonly firstUse: 'accept' | 'refuse';
  /** Signs what was proven: `signEnrolment` with the enroller's key. */
  readonly sign: (enrolment: Enrolment) => Uint8Array;
}

interface Attempt {
  readonly tuple: IdentityTuple;
  readonly binding: EnrolmentBinding;
  readonly signingKey: Uint8Array;
  readonly secret: Buffer;
  readonly digest: Uint8Array;
  readonly deadlineMicros: number;
}

export class Enroller implements Disposable {
  readonly #options: EnrollerOptions;
  /** By nonce, oldest first. */
  readonly #attempts = new Map<string, Attempt>();

  constructor(options: EnrollerOptions) { this.#options = options; }

  /** Attempts that wait for their answer. */
  get open(): number { return this.#attempts.size; }

  /** Request in, challenge out. Throws `enrol.request`, `enrol.certificate` or `enrol.busy`. */
  begin(request: Uint8Array): Uint8Array {
    this.#expire();
    const oldest = this.#attempts.values().next().value;
    if (oldest && this.#attempts.size >= LIMITS.enrolmentsOpenMax) {
      throw new TenzroError('enrol.busy', `${this.#attempts.size} enrolments are under way`, { retryAfterMs: Math.ceil((oldest.deadlineMicros - this.#options.clock.monoMicros()) / 1_000) });
    }
    const asked = decodeRequest(request);
    const { ek, ak } = keysOf(asked);
    const binding = this.#bindingOf(ek, asked.certificates);
    const secret = randomBytes(CREDENTIAL_BYTES_MAX);
    const nonce = randomBytes(NONCE_BYTES);
    const challenge = encodeChallenge({ nonce, ...makeCredential(ek, ak.name, secret) });
    this.#attempts.set(toHex(nonce), {
      tuple: tupleOf(asked), binding, signingKey: asked.signingKey, secret, digest: answerDigest(request, challenge),
      deadlineMicros: this.#options.clock.monoMicros() + LIMITS.enrolmentLifetimeMs * 1_000,
    });
    return challenge;
  }

  /** Answer in, signed statement out. Throws `enrol.answer`; the attempt is then over. */
  finish(answer: Uint8Array): Uint8Array {
    this.#expire();
    const { nonce, proof, signature } = decodeAnswer(answer);
    const attempt = this.#take(toHex(nonce));
    if (!attempt) throw new TenzroError('enrol.answer', 'no enrolment waits for this answer: it is late, or was answered before');
    const { tuple, binding, signingKey, secret, digest } = attempt;
    const expected = createHmac('sha256', secret).update(digest).digest();
    secret.fill(0);
    if (!timingSafeEqual(expected, proof)) throw new TenzroError('enrol.answer', 'the credential was not activated by the TPM of that EK, with that AK, for these keys');
    if (!verifyMlDsa65(signingKey, answerMessage(digest), signature)) throw new TenzroError('enrol.answer', 'the answer is not signed by the identity key that asks to be enrolled');
    const { name, clock, sign } = this.#options;
    return sign({ enroller: name, issuedAt: Math.floor(clock.wallMicros() / 1_000_000), tuple, binding });
  }

  /** Forgets every open attempt. */
  [Symbol.dispose](): void { for (const nonce of this.#attempts.keys()) this.#drop(nonce); }

  #bindingOf(ek: TpmPublic, certificates: readonly Uint8Array[]): EnrolmentBinding {
    const { judge, clock, firstUse } = this.#options;
    const nowMs = clock.wallMicros() / 1_000;
    const verdict = judge(ek, certificates, { fromMs: nowMs, toMs: nowMs });
    if (verdict.kind === 'broken') throw new TenzroError('enrol.certificate', verdict.why);
    if (verdict.kind === 'chained') return { kind: 'certified', certificate: verdict.certificate, root: verdict.root.fingerprint };
    if (firstUse === 'refuse') throw new TenzroError('enrol.certificate', `${verdict.why}, and this enroller takes no TPM on first use`);
    const [certificate] = certificates;
    return { kind: 'firstUse', ...(certificate ? { certificate: sha256(certificate) } : {}) };
  }

  #expire(): void {
    const now = this.#options.clock.monoMicros();
    for (const [nonce, { deadlineMicros }] of this.#attempts) {
      if (deadlineMicros > now) return;
      this.#drop(nonce);
    }
  }

  #take(nonce: string): Attempt | undefined {
    const attempt = this.#attempts.get(nonce);
    this.#attempts.delete(nonce);
    return attempt;
  }

  #drop(nonce: string): void { this.#take(nonce)?.secret.fill(0); }
}

function keysOf({ ekPublic, akPublic }: EnrolmentRequest): { readonly ek: TpmPublic; readonly ak: TpmPublic } {
  try {
    const [ek, ak] = [parsePublic(ekPublic), parsePublic(akPublic)];
    const fault = endorsementKeyFault(ek) ?? attestationKeyFault(ak);
    if (fault !== undefined) throw new TenzroError('enrol.request', `enrolment request: ${fault}`);
    return { ek, ak };
  } catch (cause) {
    if (cause instanceof TenzroError && cause.code === 'enrol.request') throw cause;
    throw new TenzroError('enrol.request', `enrolment request: ${messageOf(cause)}`, { cause });
  }
}

const tupleOf = ({ device, chainId, ekPublic, akPublic, signingKey, exchangeKey }: EnrolmentRequest): IdentityTuple => ({
  device, chainId, ek: sha256(ekPublic), ak: sha256(akPublic), signingKey: sha256(signingKey), ...(exchangeKey ? { exchangeKey: sha256(exchangeKey) } : {}),
});
