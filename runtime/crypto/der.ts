/**
 * Reads DER (X.690 §10) that others wrote: definite lengths in their shortest form, one-byte tags, nothing read beyond its parent. Throws `x509.malformed`.
 * There is no recursion here: how deep a structure goes is what its reader's code says.
 */
import { asBuffer } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';

/** Universal tags, X.690 §8 and X.680 §8.4. */
export const DER_TAG = {
  boolean: 0x01, integer: 0x02, bitString: 0x03, octetString: 0x04, null: 0x05, oid: 0x06, utf8String: 0x0c, printableString: 0x13, teletexString: 0x14, ia5String: 0x16,
  utcTime: 0x17, generalizedTime: 0x18, bmpString: 0x1e, sequence: 0x30, set: 0x31,
} as const;
/** Constructed and context-specific: `[n]` explicit. */
export const contextTag = (n: number): number => 0xa0 | n;
/** Primitive and context-specific: `[n]` implicit. */
export const implicitTag = (n: number): number => 0x80 | n;

/** Bytes of an object identifier's content: real ones have fewer than 20. */
const OID_BYTES_MAX = 32;

export interface DerElement {
  readonly tag: number;
  readonly content: Buffer;
  /** Tag and length too. */
  readonly whole: Buffer;
}

export class DerReader {
  readonly #bytes: Buffer;
  readonly #name: string;
  #offset = 0;

  /** `name` is what an error calls the structure. */
  constructor(bytes: Uint8Array, name: string) {
    this.#bytes = asBuffer(bytes);
    this.#name = name;
  }

  get left(): number { return this.#bytes.length - this.#offset; }
  /** Tag of the next element; undefined at the end. */
  get tag(): number | undefined { return this.#bytes[this.#offset]; }

  next(): DerElement {
    const start = this.#offset;
    const tag = this.#byte();
    if ((tag & 0x1f) === 0x1f) throw this.error('a tag of more than one byte');
    const length = this.#length();
    if (length > this.left) throw this.error(`an element of ${length} bytes where ${this.left} are left`);
    const content = this.#bytes.subarray(this.#offset, this.#offset + length);
    this.#offset += length;
    return { tag, content, whole: this.#bytes.subarray(start, this.#offset) };
  }

  take(tag: number): DerElement {
    if (this.tag !== tag) throw this.error(`tag 0x${(this.tag ?? 0).toString(16)} where 0x${tag.toString(16)} belongs`);
    return this.next();
  }

  optional(tag: number): DerElement | undefined { return this.tag === tag ? this.next() : undefined; }

  /** A reader of the content of the next element, a SEQUENCE unless said otherwise. */
  inside(tag: number = DER_TAG.sequence): DerReader { return new DerReader(this.take(tag).content, this.#name); }

  oid(): string {
    const { content } = this.take(DER_TAG.oid);
    if (content.length === 0 || content.length > OID_BYTES_MAX || (content.at(-1) ?? 0) >= 0x80) throw this.error('an object identifier is not whole');
    const arcs: number[] = [];
    let arc = 0;
    for (const byte of content) {
      arc = arc * 128 + (byte & 0x7f);
      if (!Number.isSafeInteger(arc)) throw this.error('an arc of an object identifier is too large');
      if (byte < 0x80) { arcs.push(arc); arc = 0; }
    }
    const [first = 0, ...rest] = arcs;
    const root = Math.min(Math.floor(first / 40), 2);
    return [root, first - root * 40, ...rest].join('.');
  }

  /** BOOLEAN, X.690 §11.1. */
  boolean(): boolean {
    const { content } = this.take(DER_TAG.boolean);
    if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff)) throw this.error('a BOOLEAN that is neither');
    return content[0] === 0xff;
  }

  /** A non-negative INTEGER below 2^31. */
  count(): number {
    const value = this.unsigned();
    if (value.length > 4 || (value.length === 4 && (value[0] ?? 0) >= 0x80)) throw this.error('an INTEGER that is too large');
    return value.length === 0 ? 0 : value.readUIntBE(0, value.length);
  }

  /** A non-negative INTEGER, big-endian without leading zeros. */
  unsigned(): Buffer {
    const { content } = this.take(DER_TAG.integer);
    const [first = 0x80, second = 0x80] = content;
    if (content.length === 0 || first >= 0x80 || (first === 0 && content.length > 1 && second < 0x80)) throw this.error('an INTEGER that is negative, or not in its shortest form');
    return first === 0 ? content.subarray(1) : content;
  }

  /** BIT STRING of whole bytes. */
  bits(): Buffer {
    const { content } = this.take(DER_TAG.bitString);
    if (content[0] !== 0) throw this.error('a BIT STRING that is not whole bytes');
    return content.subarray(1);
  }

  end(): void {
    if (this.left !== 0) throw this.error(`${this.left} bytes are left over`);
  }

  error(why: string): TenzroError { return new TenzroError('x509.malformed', `${this.#name}: ${why}`); }

  #length(): number {
    const first = this.#byte();
    if (first < 0x80) return first;
    const size = first & 0x7f;
    if (size === 0 || size > 3) throw this.error('a length that is indefinite or too large');
    let length = 0;
    for (let i = 0; i < size; i++) length = length * 256 + this.#byte();
    if (length < 0x80 || length < 256 ** (size - 1)) throw this.error('a length that is not in its shortest form');
    return length;
  }

  #byte(): number {
    const byte = this.#bytes[this.#offset];
    if (byte === undefined) throw this.error('it is truncated');
    this.#offset += 1;
    return byte;
  }
}

/** Size of the DER element at the start, tag and length included; undefined where none of at most `maxBytes` lies: memory behind it is padded with anything. */
export function derSize(bytes: Uint8Array, maxBytes: number): number | undefined {
  try {
    const { tag, whole } = new DerReader(bytes.subarray(0, maxBytes), 'DER').next();
    return tag === DER_TAG.sequence ? whole.length : undefined;
  } catch (error) {
    if (error instanceof TenzroError && error.code === 'x509.malformed') return undefined;
    throw error;
  }
}
