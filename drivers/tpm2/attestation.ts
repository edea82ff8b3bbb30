/** `tpm.attest`: what a key of the TPM signs about the TPM (Part 3 §18, §31.16). Parse with runtime/crypto/tpmEvidence.ts. */
import { TPM_ALG } from '#runtime/crypto/tpmEvidence.ts';
import type { TpmReader } from '#runtime/crypto/tpmReader.ts';
import { pcrSelection, TpmWriter } from './codec.ts';
import type { Executor } from './command.ts';
import { COMMAND } from './constants.ts';
import type { TpmObject } from './keys.ts';
import { readAuthority, type NvIndex } from './nv.ts';
import type { Authorization } from './session.ts';

/** Both exactly as the TPM sent them. */
export interface Statement {
  /** TPMS_ATTEST (Part 2 §10.12.12). */
  readonly attest: Uint8Array;
  /** TPMT_SIGNATURE (Part 2 §11.3.4). */
  readonly signature: Uint8Array;
}

export class Attestation {
  readonly #executor: Executor;

  constructor(executor: Executor) { this.#executor = executor; }

  /** TPM2_Quote of SHA-256 PCRs. `extraData`: at most 32 bytes that the caller chose, a nonce or a digest. */
  quote(ak: TpmObject, extraData: Uint8Array, pcrs: readonly number[], signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<Statement> {
    const parameters = new TpmWriter().sized(extraData).u16(TPM_ALG.null).bytes(pcrSelection(pcrs)).done();
    return this.#executor.execute({ code: COMMAND.quote, entities: [ak], authorized: 1, authorizations, parameters }, statement, signal);
  }

  /** TPM2_Certify: that `object` is loaded in this TPM, by name and qualified name. Authorisations: of `object`, then of `ak`. */
  certify(object: TpmObject, ak: TpmObject, extraData: Uint8Array, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<Statement> {
    const parameters = new TpmWriter().sized(extraData).u16(TPM_ALG.null).done();
    return this.#executor.execute({ code: COMMAND.certify, entities: [object, ak], authorized: 2, authorizations, parameters }, statement, signal);
  }

  /** TPM2_NV_Certify of the whole contents of an index, which must fit a response. Authorisations: of `ak`, then of who may read the index. */
  nv(ak: TpmObject, index: NvIndex, extraData: Uint8Array, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<Statement> {
    const parameters = new TpmWriter().sized(extraData).u16(TPM_ALG.null).u16(index.public.sizeBytes).u16(0).done();
    return this.#executor.execute({ code: COMMAND.nvCertify, entities: [ak, readAuthority(index), index], authorized: 2, authorizations, parameters }, statement, signal);
  }
}

const statement = (reader: TpmReader): Statement => ({ attest: reader.sized(), signature: reader.rest() });
