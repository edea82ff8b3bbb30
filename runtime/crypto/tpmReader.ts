/** Reads the big-endian structures of TCG TPM 2.0 Library Part 2. Every read is bounded; short or left-over bytes throw `tpm.structure`. */
import { asBuffer } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';

export class TpmReader {
  readonly #bytes: Buffer;
  #offset = 0;

  /** `name` is what an error calls the structure. */
  readonly #name: string;

  constructor(bytes: Uint8Array, name: string) {
    this.#bytes = asBuffer(bytes);
    this.#name = name;
  }

  get left(): number { return this.#bytes.length - this.#offset; }

  u8(): number { return this.#take(1).readUInt8(); }
  u16(): number { return this.#take(2).readUInt16BE(); }
  u32(): number { return this.#take(4).readUInt32BE(); }
  u64(): bigint { return this.#take(8).readBigUInt64BE(); }

  /** A copy: it does not keep the response alive. */
  bytes(size: number): Buffer { return Buffer.from(this.#take(size)); }
  /** TPM2B: size in 2 bytes, then that many bytes (§10.4.1). */
  sized(): Buffer { return this.bytes(this.u16()); }
  rest(): Buffer { return this.bytes(this.left); }

  end(): void {
    if (this.left !== 0) throw this.error(`${this.left} bytes are left over`);
  }

  error(why: string): TenzroError { return new TenzroError('tpm.structure', `${this.#name}: ${why}`); }

  #take(size: number): Buffer {
    if (size > this.left) throw this.error(`it is truncated: ${size} bytes wanted, ${this.left} left`);
    const part = this.#bytes.subarray(this.#offset, this.#offset + size);
    this.#offset += size;
    return part;
  }
}
