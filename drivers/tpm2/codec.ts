/** Writes TPM structures, and frames commands and responses: Part 1 §18 (command and response structure). */
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { TPM_ALG } from '#runtime/crypto/tpmEvidence.ts';
import { TpmReader } from '#runtime/crypto/tpmReader.ts';
import { HEADER_BYTES, PCR_SELECT_BYTES, TAG, type CommandCode } from './constants.ts';

/** Big-endian, chained: `new TpmWriter().u16(1).sized(bytes).done()`. */
export class TpmWriter {
  readonly #parts: Uint8Array[] = [];

  u8(value: number): this { return this.bytes(Uint8Array.of(value)); }

  u16(value: number): this {
    const part = Buffer.allocUnsafe(2);
    part.writeUInt16BE(value);
    return this.bytes(part);
  }

  u32(value: number): this {
    const part = Buffer.allocUnsafe(4);
    part.writeUInt32BE(value >>> 0);
    return this.bytes(part);
  }

  u64(value: bigint): this {
    const part = Buffer.allocUnsafe(8);
    part.writeBigUInt64BE(value);
    return this.bytes(part);
  }

  bytes(value: Uint8Array): this {
    this.#parts.push(value);
    return this;
  }

  /** TPM2B. */
  sized(value: Uint8Array): this { return this.u16(value.length).bytes(value); }

  done(): Buffer { return Buffer.concat(this.#parts); }
}

export const EMPTY: Uint8Array = new Uint8Array(0);

/** TPML_PCR_SELECTION (Part 2 §10.9.7) of one SHA-256 bank. */
export function pcrSelection(pcrs: readonly number[]): Buffer {
  const bits = Buffer.alloc(PCR_SELECT_BYTES);
  for (const pcr of pcrs) bits.writeUInt8(bits.readUInt8(pcr >> 3) | (1 << (pcr & 7)), pcr >> 3);
  return new TpmWriter().u32(1).u16(TPM_ALG.sha256).u8(bits.length).bytes(bits).done();
}

export interface CommandFrame {
  readonly code: CommandCode;
  readonly handles: readonly number[];
  /** TPMS_AUTH_COMMAND structures, concatenated; empty: a command without sessions. */
  readonly authorization: Uint8Array;
  readonly parameters: Uint8Array;
}

export function encodeCommand({ code, handles, authorization, parameters }: CommandFrame): Buffer {
  const body = new TpmWriter();
  for (const handle of handles) body.u32(handle);
  if (authorization.length > 0) body.u32(authorization.length).bytes(authorization);
  const bytes = body.bytes(parameters).done();
  const size = HEADER_BYTES + bytes.length;
  if (size > LIMITS.tpmCommandBytesMax) throw new TenzroError('core.invariant', `a TPM command of ${size} bytes exceeds ${LIMITS.tpmCommandBytesMax}`);
  return new TpmWriter().u16(authorization.length > 0 ? TAG.sessions : TAG.noSessions).u32(size).u32(code).bytes(bytes).done();
}

/** Whole size of the response whose first bytes are at hand; undefined while the header is incomplete. Throws `tpm.response` for a size beyond reason. */
export function responseSize(head: Buffer): number | undefined {
  if (head.length < HEADER_BYTES) return undefined;
  const size = head.readUInt32BE(2);
  if (size < HEADER_BYTES || size > LIMITS.tpmCommandBytesMax) throw garbled(`its header says ${size} bytes`);
  return size;
}

export interface ResponseFrame {
  readonly code: number;
  readonly handle: number;
  readonly parameters: Buffer;
  /** After the parameters: TPMS_AUTH_RESPONSE structures; undefined in a response without sessions. */
  readonly authorization: TpmReader | undefined;
}

/**
 * Takes a response apart: tag, size and where parameters end. An error response (`code` not 0) has nothing behind its header.
 * Throws `tpm.response`.
 */
export function decodeResponse(bytes: Buffer, expect: { readonly handle: boolean; readonly sessions: boolean }): ResponseFrame {
  return guard(() => {
    const reader = new TpmReader(bytes, 'TPM response');
    const tag = reader.u16();
    const size = reader.u32();
    const code = reader.u32();
    if (size !== bytes.length) throw garbled(`its header says ${size} bytes, ${bytes.length} came`);
    if (code !== 0) {
      if (reader.left > 0) throw garbled('an error response carries parameters');
      return { code, handle: 0, parameters: Buffer.alloc(0), authorization: undefined };
    }
    if (tag !== (expect.sessions ? TAG.sessions : TAG.noSessions)) throw garbled(`tag 0x${tag.toString(16)}`);
    const handle = expect.handle ? reader.u32() : 0;
    if (!expect.sessions) return { code, handle, parameters: reader.rest(), authorization: undefined };
    return { code, handle, parameters: reader.bytes(reader.u32()), authorization: reader };
  });
}

/** Runs a parser over a response: bytes that do not parse become `tpm.response`, since the TPM or the way to it is at fault. */
export function guard<T>(parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    if (cause instanceof TenzroError && cause.code === 'tpm.structure') throw garbled(cause.message, cause);
    throw cause;
  }
}

export const garbled = (why: string, cause?: unknown): TenzroError => new TenzroError('tpm.response', `the TPM's response makes no sense: ${why}`, { cause });
