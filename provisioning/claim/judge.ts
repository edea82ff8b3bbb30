/** What the claimer MUST hold a device's evidence to before anything is handed over; what booted may be judged beyond that. */
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { Enroller } from '#provisioning/enrolment/enroller.ts';
import { decodeAnswer, decodeChallenge, decodeRequest } from '#provisioning/enrolment/messages.ts';
import type { Candidate } from './claimerRun.ts';
import { decodeDeviceEvidence } from './handOver.ts';
import { openQuote, type PcrValues } from './quote.ts';

export interface JudgedDevice {
  /** Enrolment's, for the hand-over; undefined without a TPM. */
  readonly statement: Uint8Array | undefined;
  /** What booted; empty without a TPM. */
  readonly pcrs: PcrValues;
}

/**
 * A code that names an AK is answered by that AK, in its TPM, in this very claim: another claim's answer would enrol another device. Throws `claim.evidence`,
 * `claim.malformed` and what `Enroller.finish` throws; the attempt is then over.
 */
export function judgeDevice({ offer, challenge, evidence, transcript }: Candidate, enroller: Pick<Enroller, 'finish'>): JudgedDevice {
  const { answer, quote } = decodeDeviceEvidence(evidence);
  if (!offer.request) return { statement: undefined, pcrs: [] };
  if (!answer || !quote || !challenge) throw new TenzroError('claim.evidence', 'the gateway has a TPM and does not let it speak');
  if (!equalBytes(decodeAnswer(answer).nonce, decodeChallenge(challenge).nonce)) throw new TenzroError('claim.evidence', 'the answer is to another challenge than this claim\'s');
  const pcrs = openQuote(quote, decodeRequest(offer.request).akPublic, transcript);
  return { statement: enroller.finish(answer), pcrs };
}
