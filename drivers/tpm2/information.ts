/** `tpm.info`: what the TPM is and can (Part 3 §30), its clock (§29), self-tests (§10) and random numbers (§16). */
import { TenzroError } from '#runtime/core/errors.ts';
import { readClockInfo, readPcrSelections, type PcrSelection, type TpmClockInfo } from '#runtime/crypto/tpmEvidence.ts';
import type { TpmReader } from '#runtime/crypto/tpmReader.ts';
import { garbled, TpmWriter } from './codec.ts';
import { nothing, one, type Executor } from './command.ts';
import { CAPABILITY, COMMAND, PROPERTY } from './constants.ts';
import type { Authorization } from './session.ts';

export interface TpmProperties {
  /** TCG vendor id, e.g. `IFX`, `STM`, `IBM` (swtpm). */
  readonly manufacturer: string;
  readonly vendor: string;
  /** 64 bits, in the vendor's own meaning. */
  readonly firmwareVersion: bigint;
}

const CAPABILITY_ITEMS_MAX = 1_024;
const PAGE_ITEMS = 64;

export class Information {
  readonly #executor: Executor;

  constructor(executor: Executor) { this.#executor = executor; }

  async identity(signal: AbortSignal): Promise<TpmProperties> {
    const found = await this.properties(PROPERTY.manufacturer, PROPERTY.firmwareVersion2, signal);
    const text = (from: number, to: number): string => {
      const words = new TpmWriter();
      for (let property = from; property <= to; property += 1) words.u32(found.get(property) ?? 0);
      return words.done().toString('latin1').replaceAll('\0', '').trim();
    };
    const firmware = (property: number): bigint => BigInt(found.get(property) ?? 0);
    return {
      manufacturer: text(PROPERTY.manufacturer, PROPERTY.manufacturer),
      vendor: text(PROPERTY.vendorString1, PROPERTY.vendorString4),
      firmwareVersion: (firmware(PROPERTY.firmwareVersion1) << 32n) | firmware(PROPERTY.firmwareVersion2),
    };
  }

  /** TPM_PTs (Part 2 §6.13) from `first` to `last`, as far as the TPM has them. */
  async properties(first: number, last: number, signal: AbortSignal): Promise<ReadonlyMap<number, number>> {
    const found = await this.#list(CAPABILITY.properties, first, (reader) => [reader.u32(), reader.u32()] as const, ([property]) => property, signal, last);
    return new Map(found);
  }

  /** Handles in use from `first` (HANDLE_RANGE) to the end of its range: persistent keys, NV indices, loaded keys and sessions. */
  handles(first: number, signal: AbortSignal): Promise<number[]> {
    return this.#list(CAPABILITY.handles, first, (reader) => reader.u32(), (handle) => handle, signal, (first | 0xffffff) >>> 0);
  }

  /** TPM_ALG_IDs that the TPM has, with their TPMA_ALGORITHM. */
  async algorithms(signal: AbortSignal): Promise<ReadonlyMap<number, number>> {
    return new Map(await this.#list(CAPABILITY.algorithms, 0, (reader) => [reader.u16(), reader.u32()] as const, ([algorithm]) => algorithm, signal));
  }

  /** TPM_CCs that the TPM has. */
  commands(signal: AbortSignal): Promise<number[]> {
    return this.#list(CAPABILITY.commands, 0, (reader) => reader.u32() & 0xffff, (code) => code, signal);
  }

  /** Which PCRs are allocated in which bank. */
  pcrBanks(signal: AbortSignal): Promise<readonly PcrSelection[]> {
    return this.#page(CAPABILITY.pcrs, 0, PAGE_ITEMS, (reader) => ({ more: false, items: readPcrSelections(reader) }), signal).then(({ items }) => items);
  }

  /** TPM2_ReadClock. */
  readClock(signal: AbortSignal): Promise<TpmClockInfo> {
    return this.#executor.execute({ code: COMMAND.readClock }, (reader) => {
      reader.u64(); // time since the last power-on; TPMS_TIME_INFO, Part 2 §10.11.6
      return readClockInfo(reader);
    }, signal);
  }

  /** TPM2_GetRandom: at most as many bytes as the TPM's largest digest, 32 at least; fewer than asked for are an error. */
  getRandom(sizeBytes: number, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<Buffer> {
    return this.#executor.execute({ code: COMMAND.getRandom, authorizations, parameters: new TpmWriter().u16(sizeBytes).done() }, (reader) => {
      const random = reader.sized();
      if (random.length !== sizeBytes) throw garbled(`${random.length} random bytes instead of ${sizeBytes}`);
      return random;
    }, signal);
  }

  /** TPM2_StirRandom: adds up to 128 bytes to the state of the generator. */
  stirRandom(bytes: Uint8Array, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<void> {
    return this.#executor.execute({ code: COMMAND.stirRandom, authorizations, parameters: new TpmWriter().sized(bytes).done() }, nothing, signal);
  }

  /** TPM2_SelfTest of everything, or only of what was not tested yet. */
  selfTest({ full }: { readonly full: boolean }, signal: AbortSignal): Promise<void> {
    return this.#executor.execute({ code: COMMAND.selfTest, parameters: new TpmWriter().u8(full ? 1 : 0).done() }, nothing, signal);
  }

  /** TPM2_GetTestResult: a TPM_RC (0: passed, or nothing is known to have failed) and what the vendor adds. */
  testResult(signal: AbortSignal): Promise<{ readonly code: number; readonly detail: Uint8Array }> {
    return this.#executor.execute({ code: COMMAND.getTestResult }, (reader) => {
      const detail = one(reader);
      return { code: reader.u32(), detail };
    }, signal);
  }

  /** TPM2_GetCapability, page after page, up to `last`. */
  async #list<T>(capability: number, first: number, item: (reader: TpmReader) => T, keyOf: (item: T) => number, signal: AbortSignal, last = Number.MAX_SAFE_INTEGER): Promise<T[]> {
    const items: T[] = [];
    let from = first;
    while (items.length < CAPABILITY_ITEMS_MAX) {
      const page = await this.#page(capability, from, PAGE_ITEMS, (reader, more) => ({ more, items: Array.from({ length: Math.min(reader.u32(), PAGE_ITEMS) }, () => item(reader)) }), signal);
      const wanted = page.items.filter((one_) => keyOf(one_) <= last);
      items.push(...wanted);
      const newest = page.items.at(-1);
      if (!page.more || newest === undefined || wanted.length < page.items.length) return items;
      if (keyOf(newest) < from) throw garbled('a list that does not go on');
      from = keyOf(newest) + 1;
    }
    throw new TenzroError('tpm.response', `the TPM lists more than ${CAPABILITY_ITEMS_MAX} of capability ${capability}`);
  }

  #page<T>(capability: number, first: number, count: number, parse: (reader: TpmReader, more: boolean) => T, signal: AbortSignal): Promise<T> {
    return this.#executor.execute({ code: COMMAND.getCapability, parameters: new TpmWriter().u32(capability).u32(first).u32(count).done() }, (reader) => {
      const more = reader.u8() !== 0;
      if (reader.u32() !== capability) throw garbled('another capability than asked for');
      return parse(reader, more);
    }, signal);
  }
}
