/**
 * Whether what came back from a TPM is its own word on what was asked. A plain Quote or NV_Certify has no session that would prove the way it came: what
 * proves it is the attestation key's signature, over the challenge and over the values that stand beside it. Pure; sections: TCG TPM 2.0 Library, Part 2.
 */
import type { KeyObject } from 'node:crypto';
import { asBuffer, equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { sha256 } from './hash.ts';
import { NV_ATTRIBUTE, parseAttest, parseNvPublic, publicKeyOf, qualifiedNameOf, TPM_ALG, verifyAttestSignature, type Attested, type TpmPublic } from './tpmEvidence.ts';

/** TPMS_ATTEST and TPMT_SIGNATURE as they came. */
interface Statement {
  readonly attest: Uint8Array;
  readonly signature: Uint8Array;
}

type PcrValues = readonly (readonly [index: number, value: Uint8Array])[];

/** TPM_NT_COUNTER holds 64 bits, Part 2 §13.2. */
const COUNTER_BYTES = 8;

/** One attestation key of the endorsement hierarchy, and what it signs. */
export class StatementJudge {
  readonly #key: KeyObject;
  readonly #signer: Uint8Array;

  /** Throws `tpm.structure` for a key that is none. */
  constructor(ak: TpmPublic) {
    this.#key = publicKeyOf(ak.area);
    this.#signer = qualifiedNameOf(ak);
  }

  /** Throws `tpm.statement` unless the key signed a quote of just these SHA-256 PCRs over `extraData`; false when the values are not those that were quoted, as when a PCR moved in between. */
  isQuoteOf(statement: Statement, extraData: Uint8Array, pcrs: PcrValues): boolean {
    const attested = this.#open(statement, extraData);
    if (attested.kind !== 'quote') throw untrue('it is no quote');
    const [selection, ...others] = attested.selections;
    if (selection?.hash !== TPM_ALG.sha256 || others.length > 0 || selection.pcrs.join() !== pcrs.map(([index]) => index).join()) throw untrue('it quotes other PCRs than were asked for');
    return equalBytes(attested.pcrDigest, sha256(...pcrs.map(([, value]) => value)));
  }

  /** The counter's value. Throws `tpm.statement` unless the key certified the whole counter that `nvPublic` describes, over `extraData`. */
  counterIn(statement: Statement, extraData: Uint8Array, nvPublic: Uint8Array): bigint {
    const attested = this.#open(statement, extraData);
    const { name, attributes } = parseNvPublic(nvPublic);
    if (attested.kind !== 'nv' || !equalBytes(attested.name, name)) throw untrue('it certifies something else than the counter');
    if ((attributes & NV_ATTRIBUTE.typeMask) !== NV_ATTRIBUTE.typeCounter || attested.offset !== 0 || attested.contents.length !== COUNTER_BYTES) throw untrue('it does not certify a whole counter');
    return asBuffer(attested.contents).readBigUInt64BE();
  }

  #open({ attest, signature }: Statement, extraData: Uint8Array): Attested {
    if (!verifyAttestSignature(this.#key, attest, signature)) throw untrue('the attestation key did not sign it');
    const { attested, extraData: about, qualifiedSigner } = parseAttest(attest);
    if (!equalBytes(about, extraData)) throw untrue('it is about something else than was asked');
    if (!equalBytes(qualifiedSigner, this.#signer)) throw untrue('its signer is not the attestation key as a primary key of the endorsement hierarchy');
    return attested;
  }
}

const untrue = (why: string): TenzroError => new TenzroError('tpm.statement', `the answer is not the TPM's word on what it was asked: ${why}`);
