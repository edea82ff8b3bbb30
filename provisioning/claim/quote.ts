/** What booted, said by the device's TPM about one claim: a quote whose `extraData` is made of the claim's transcript. Pure codec and check. */
import type { AnchorStatement } from '#runtime/core/ports.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { parsePublic } from '#runtime/crypto/tpmEvidence.ts';
import { StatementJudge } from '#runtime/crypto/tpmStatement.ts';
import { atMost, decodeRecord, encodeRecord, exactly, listOf, wholeNumber, type Field, type Values } from './record.ts';

const TYPE = { quote: 37, pcr: 38 } as const;
const DOMAIN = Buffer.from('tenzro/claim/1/quote');
const PCR_MAX = 23;

const PCR = { index: wholeNumber(PCR_MAX), value: exactly(32) } as const;
const pcr: Field<Values<typeof PCR>> = {
  write: (value) => encodeRecord(TYPE.pcr, PCR, value),
  read: (value) => decodeRecord(TYPE.pcr, PCR, atMost(64).read(value)),
};
/** TPMS_ATTEST and TPMT_SIGNATURE, as the TPM sent them, and the SHA-256 PCRs that they are about. */
const QUOTE = { attest: atMost(1_024), signature: atMost(512), pcrs: listOf(pcr, 1, PCR_MAX + 1) } as const;

export type PcrValues = readonly (readonly [index: number, value: Uint8Array])[];

/** What the device has quoted: `Anchor.quote(claimQuoteDigest(transcript))`. */
export const claimQuoteDigest = (transcript: Uint8Array): Buffer => sha256(DOMAIN, transcript);

export const encodeQuote = ({ attest, signature, pcrs }: AnchorStatement & { readonly pcrs: PcrValues }): Buffer =>
  encodeRecord(TYPE.quote, QUOTE, { attest, signature, pcrs: pcrs.map(([index, value]) => ({ index, value })) });

/** The PCRs that booted this claim's device. `akPublic`: TPMT_PUBLIC that enrolment bound to the EK. Throws `claim.malformed`, and `claim.evidence` unless that AK quoted them for this claim. */
export function openQuote(bytes: Uint8Array, akPublic: Uint8Array, transcript: Uint8Array): PcrValues {
  const { attest, signature, pcrs } = decodeRecord(TYPE.quote, QUOTE, bytes);
  const values = pcrs.map(({ index, value }) => [index, value] as const);
  try {
    if (new StatementJudge(parsePublic(akPublic)).isQuoteOf({ attest, signature }, claimQuoteDigest(transcript), values)) return values;
  } catch (cause) {
    if (cause instanceof TenzroError && cause.class !== 'bug') throw new TenzroError('claim.evidence', `the quote: ${cause.message}`, { cause });
    throw cause;
  }
  throw new TenzroError('claim.evidence', 'the quote is about other PCR values than were sent');
}
