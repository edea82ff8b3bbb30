/** `tpm.pcr`: platform configuration registers of the SHA-256 bank (Part 3 §22). */
import { TenzroError } from '#runtime/core/errors.ts';
import { readPcrSelections, TPM_ALG } from '#runtime/crypto/tpmEvidence.ts';
import { EMPTY, garbled, pcrSelection, TpmWriter } from './codec.ts';
import { nothing, permanent, type Executor } from './command.ts';
import { COMMAND } from './constants.ts';
import type { Authorization } from './session.ts';

export type PcrValues = readonly (readonly [index: number, value: Uint8Array])[];

const TRIES_FOR_ALL_PCRS = 24;
const SHA256_BYTES = 32;

export class Pcrs {
  readonly #executor: Executor;

  constructor(executor: Executor) { this.#executor = executor; }

  /** TPM2_PCR_Read, as often as it takes: SHA-256 values, ascending by PCR. Throws `tpm.unsupported` when the bank is off. */
  async read(pcrs: readonly number[], signal: AbortSignal): Promise<PcrValues> {
    const values = new Map<number, Uint8Array>();
    for (let tries = 0; tries < TRIES_FOR_ALL_PCRS && values.size < pcrs.length; tries += 1) {
      const wanted = pcrs.filter((pcr) => !values.has(pcr));
      const answered = await this.#readSome(wanted, signal);
      if (answered.length === 0) throw new TenzroError('tpm.unsupported', `the TPM has no SHA-256 value for PCR ${wanted.join(', ')}`);
      for (const [pcr, value] of answered) values.set(pcr, value);
    }
    return [...values].toSorted(([a], [b]) => a - b);
  }

  /** TPM2_PCR_Extend: the new value is SHA-256(old value ‖ digest). */
  extend(pcr: number, digest: Uint8Array, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<void> {
    const parameters = new TpmWriter().u32(1).u16(TPM_ALG.sha256).bytes(digest).done(); // TPML_DIGEST_VALUES, Part 2 §10.9.6
    return this.#executor.execute({ code: COMMAND.pcrExtend, entities: [permanent(pcr)], authorized: 1, authorizations, parameters }, nothing, signal);
  }

  /** TPM2_PCR_Reset: from the operating system only 16 and 23 (PC Client Platform TPM Profile). */
  reset(pcr: number, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<void> {
    return this.#executor.execute({ code: COMMAND.pcrReset, entities: [permanent(pcr)], authorized: 1, authorizations }, nothing, signal);
  }

  #readSome(pcrs: readonly number[], signal: AbortSignal): Promise<PcrValues> {
    return this.#executor.execute({ code: COMMAND.pcrRead, parameters: pcrSelection(pcrs) }, (reader) => {
      reader.u32(); // update counter
      const selected = readPcrSelections(reader).filter(({ hash }) => hash === TPM_ALG.sha256).flatMap(({ pcrs: some }) => some);
      const digests = Array.from({ length: Math.min(reader.u32(), selected.length) }, () => reader.sized());
      if (selected.some((pcr) => !pcrs.includes(pcr)) || digests.some(({ length }) => length !== SHA256_BYTES)) throw garbled('PCRs that were not asked for, or values that are no SHA-256');
      return selected.slice(0, digests.length).map((pcr, at) => [pcr, digests[at] ?? EMPTY] as const);
    }, signal);
  }
}
