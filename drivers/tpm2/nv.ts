/** `tpm.nv`: non-volatile memory (Part 3 §31). */
import { equalBytes } from '#runtime/core/bytes.ts';
import { NV_ATTRIBUTE, NV_TYPE, NV_TYPE_SHIFT, parseNvPublic, TPM_ALG, type TpmNvPublic } from '#runtime/crypto/tpmEvidence.ts';
import { EMPTY, garbled, TpmWriter } from './codec.ts';
import { nothing, one, permanent, type Entity, type Executor } from './command.ts';
import { COMMAND, COUNTER_BYTES, HANDLE, type CommandCode } from './constants.ts';
import type { Authorization } from './session.ts';

/** An index with the name that it had when it was read: the first write changes the name (attribute `written`), so read it anew then. */
export interface NvIndex extends Entity {
  readonly public: TpmNvPublic;
  /** Who authorises access instead of the index itself. Default: what the attributes allow, the index first, then the owner without a password. */
  readonly authority?: Entity;
}

/** The same index, accessed in the name of `authority`: `permanent(HANDLE.owner, ownerAuth)`. */
export const accessedBy = (index: NvIndex, authority: Entity): NvIndex => Object.create(index, { authority: { value: authority, enumerable: true } }) as NvIndex;

/** A new index, Part 2 §13.5. */
export interface NvDefinition {
  /** 0x01…; the owner's range is 0x01800000–0x01BFFFFF. */
  readonly index: number;
  /** Of NV_ATTRIBUTE; the type is left out. */
  readonly attributes: number;
  /** Default: ordinary. */
  readonly type?: keyof typeof NV_TYPE;
  /** Default: 8 for counters and bits, 32 for extended indices. */
  readonly sizeBytes?: number;
  readonly authValue?: Uint8Array;
  /** Digest; default: none. */
  readonly authPolicy?: Uint8Array;
}

/** TPM_PT_NV_BUFFER_MAX is at least this on every TPM we know. */
const NV_CHUNK_BYTES = 512;

const FIXED_SIZES: Partial<Record<keyof typeof NV_TYPE, number>> = { counter: COUNTER_BYTES, bits: COUNTER_BYTES, extend: 32 };

export class NvMemory {
  readonly #executor: Executor;

  constructor(executor: Executor) { this.#executor = executor; }

  /** TPM2_NV_ReadPublic. */
  readPublic(index: number, signal: AbortSignal): Promise<NvIndex> {
    return this.#executor.execute({ code: COMMAND.nvReadPublic, entities: [{ handle: index, name: EMPTY }] }, (reader) => {
      const area = parseNvPublic(reader.sized());
      if (area.index !== index || !equalBytes(reader.sized(), area.name)) throw garbled('another NV index than asked for, or not by its name');
      return { handle: index, name: area.name, public: area };
    }, signal);
  }

  /** TPM2_NV_DefineSpace, authorised by the owner. */
  async define(definition: NvDefinition, owner: Entity, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<NvIndex> {
    const { index, attributes, type = 'ordinary', authValue, authPolicy = EMPTY } = definition;
    const sizeBytes = definition.sizeBytes ?? FIXED_SIZES[type] ?? 0;
    const area = new TpmWriter().u32(index).u16(TPM_ALG.sha256).u32(attributes | (NV_TYPE[type] << NV_TYPE_SHIFT)).sized(authPolicy).u16(sizeBytes).done();
    const parameters = new TpmWriter().sized(authValue ?? EMPTY).sized(area).done();
    await this.#executor.execute({ code: COMMAND.nvDefineSpace, entities: [owner], authorized: 1, authorizations, parameters }, nothing, signal);
    const defined = parseNvPublic(area);
    return { handle: index, name: defined.name, public: defined, ...(authValue ? { authValue } : {}) };
  }

  /** A counter that anyone on this machine may read and increment: its worth is that it never goes back, not even over TPM2_Clear. */
  defineCounter(index: number, owner: Entity, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<NvIndex> {
    return this.define({ index, type: 'counter', attributes: ownerWrite | authWrite | ownerRead | authRead | NV_ATTRIBUTE.noDa }, owner, signal, ...authorizations);
  }

  /** TPM2_NV_UndefineSpace, authorised by the owner. */
  undefine(index: NvIndex, owner: Entity, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<void> {
    return this.#executor.execute({ code: COMMAND.nvUndefineSpace, entities: [owner, index], authorized: 1, authorizations }, nothing, signal);
  }

  /** TPM2_NV_Increment. */
  increment(index: NvIndex, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<void> {
    return this.#change(COMMAND.nvIncrement, index, Buffer.alloc(0), signal, authorizations);
  }

  /** TPM2_NV_Write: at most TPM_PT_NV_BUFFER_MAX bytes, 512 at least, at `offset`. */
  write(index: NvIndex, offset: number, data: Uint8Array, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<void> {
    return this.#change(COMMAND.nvWrite, index, new TpmWriter().sized(data).u16(offset).done(), signal, authorizations);
  }

  /** TPM2_NV_Extend: the new contents are SHA-256(old contents ‖ data). */
  extend(index: NvIndex, data: Uint8Array, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<void> {
    return this.#change(COMMAND.nvExtend, index, new TpmWriter().sized(data).done(), signal, authorizations);
  }

  /** TPM2_NV_Read. `sizeBytes` at most TPM_PT_NV_BUFFER_MAX, 512 at least. */
  read(index: NvIndex, offset: number, sizeBytes: number, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<Buffer> {
    const parameters = new TpmWriter().u16(sizeBytes).u16(offset).done();
    return this.#executor.execute({ code: COMMAND.nvRead, entities: [readAuthority(index), index], authorized: 1, authorizations, parameters }, one, signal);
  }

  /** TPM2_NV_Read of all of it, in pieces. For authorisations that serve more than once: not a policy session. */
  async readAll(index: NvIndex, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let offset = 0; offset < index.public.sizeBytes; offset += NV_CHUNK_BYTES) {
      parts.push(await this.read(index, offset, Math.min(NV_CHUNK_BYTES, index.public.sizeBytes - offset), signal, ...authorizations));
    }
    return Buffer.concat(parts);
  }

  /** The value of a counter. */
  async readCounter(index: NvIndex, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<bigint> {
    return (await this.read(index, 0, COUNTER_BYTES, signal, ...authorizations)).readBigUInt64BE();
  }

  #change(code: CommandCode, index: NvIndex, parameters: Buffer, signal: AbortSignal, authorizations: readonly Authorization[]): Promise<void> {
    return this.#executor.execute({ code, entities: [writeAuthority(index), index], authorized: 1, authorizations, parameters }, nothing, signal);
  }
}

const { ownerRead, ownerWrite, authRead, authWrite, policyRead, policyWrite } = NV_ATTRIBUTE;

function authorityOf(index: NvIndex, ownBits: number, ownerBit: number): Entity {
  if (index.authority) return index.authority;
  const { attributes } = index.public;
  return (attributes & ownBits) === 0 && (attributes & ownerBit) !== 0 ? permanent(HANDLE.owner) : index;
}

/** Also for TPM2_PolicyNV and TPM2_NV_Certify. */
export const readAuthority = (index: NvIndex): Entity => authorityOf(index, authRead | policyRead, ownerRead);
const writeAuthority = (index: NvIndex): Entity => authorityOf(index, authWrite | policyWrite, ownerWrite);
