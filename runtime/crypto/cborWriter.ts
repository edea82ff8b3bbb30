/**
 * Deterministic CBOR (RFC 8949 §4.2.1) written straight into one growing buffer, fast enough for the hot path.
 * Integral floats become integers, other floats take their shortest exact form (§4.2.1, §4.2.2); non-finite numbers are refused.
 */
import { invariant } from '#runtime/core/errors.ts';
import type { Cbor } from '#runtime/core/types.ts';

/** Major types, RFC 8949 §3.1, already shifted into the initial byte. */
const MAJOR = { unsigned: 0x00, negative: 0x20, bytes: 0x40, text: 0x60, array: 0x80, map: 0xa0 } as const;
/** Initial bytes of major type 7, RFC 8949 §3.3 table 4. */
const SIMPLE = { false: 0xf4, true: 0xf5, null: 0xf6, half: 0xf9, single: 0xfa, double: 0xfb } as const;
/** Longest head: initial byte and eight bytes of argument. */
const HEAD_BYTES_MAX = 9;
const TWO_POW_32 = 0x1_0000_0000;
/** Below this, a loop beats the call into native code. */
const SHORT_TEXT_MAX = 24;

const floatView = new DataView(new ArrayBuffer(8));

export class CborWriter {
  /** What was written is `buffer.subarray(0, length)`; growing replaces the buffer. */
  buffer: Buffer;
  /** Next write position, in bytes; the owner may set it back. */
  length = 0;

  constructor(capacityBytes: number) { this.buffer = Buffer.allocUnsafeSlow(capacityBytes); }

  /** Makes room for `more` bytes beyond `length`. */
  reserve(more: number): void {
    const needed = this.length + more;
    if (needed <= this.buffer.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(needed, this.buffer.length * 2));
    this.buffer.copy(grown, 0, 0, this.length);
    this.buffer = grown;
  }

  byte(value: number): void {
    this.reserve(1);
    this.buffer[this.length++] = value;
  }

  /** Bytes that are CBOR already. */
  raw(encoded: Uint8Array): void {
    this.reserve(encoded.length);
    this.buffer.set(encoded, this.length);
    this.length += encoded.length;
  }

  mapHead(pairs: number): void { this.reserve(HEAD_BYTES_MAX); this.#head(MAJOR.map, pairs); }

  integer(value: number): void {
    this.reserve(HEAD_BYTES_MAX);
    if (value >= 0) this.#head(MAJOR.unsigned, value);
    else this.#head(MAJOR.negative, -1 - value);
  }

  text(value: string): void {
    const { length: units } = value;
    this.reserve(HEAD_BYTES_MAX + units * 3);
    if (units < SHORT_TEXT_MAX && this.#shortAscii(value)) return;
    const start = this.length;
    const guess = headBytes(units);
    const bytes = this.buffer.write(value, start + guess);
    const head = headBytes(bytes);
    if (head !== guess) this.buffer.copyWithin(start + head, start + guess, start + guess + bytes);
    this.#head(MAJOR.text, bytes);
    this.length += bytes;
  }

  bytes(value: Uint8Array): void {
    this.reserve(HEAD_BYTES_MAX + value.length);
    this.#head(MAJOR.bytes, value.length);
    this.buffer.set(value, this.length);
    this.length += value.length;
  }

  number(value: number): void {
    if (Number.isSafeInteger(value)) { this.integer(value); return; }
    invariant(Number.isFinite(value), 'NaN and infinities are never recorded: absence is data');
    this.reserve(HEAD_BYTES_MAX);
    floatView.setFloat32(0, value);
    if (floatView.getFloat32(0) === value) this.#single(floatView.getUint32(0));
    else {
      this.buffer[this.length] = SIMPLE.double;
      this.buffer.writeDoubleBE(value, this.length + 1);
      this.length += 9;
    }
  }

  value(value: Cbor): void {
    if (typeof value === 'number') this.number(value);
    else if (typeof value === 'string') this.text(value);
    else if (value instanceof Uint8Array) this.bytes(value);
    else if (Array.isArray(value)) this.#array(value as readonly Cbor[]);
    else if (value instanceof Map) this.#map(value as ReadonlyMap<number, Cbor>);
    else if (typeof value === 'boolean') this.byte(value ? SIMPLE.true : SIMPLE.false);
    else if (typeof value === 'bigint') this.#bigint(value);
    else this.byte(SIMPLE.null);
  }

  #array(items: readonly Cbor[]): void {
    this.reserve(HEAD_BYTES_MAX);
    this.#head(MAJOR.array, items.length);
    for (const item of items) this.value(item);
  }

  /** Keys in the order of their encodings (§4.2.1): 0, 1, 2 … then −1, −2 … */
  #map(map: ReadonlyMap<number, Cbor>): void {
    this.mapHead(map.size);
    let last = -1;
    for (const key of map.keys()) {
      if (key <= last) { this.#unsortedMap(map); return; }
      last = key;
    }
    for (const [key, item] of map) { this.integer(key); this.value(item); }
  }

  #unsortedMap(map: ReadonlyMap<number, Cbor>): void {
    const rank = (key: number): number => (key >= 0 ? key : TWO_POW_32 * TWO_POW_32 - key);
    for (const [key, item] of [...map].toSorted(([a], [b]) => rank(a) - rank(b))) { this.integer(key); this.value(item); }
  }

  #bigint(value: bigint): void {
    const negative = value < 0n;
    const argument = negative ? -1n - value : value;
    if (argument <= BigInt(Number.MAX_SAFE_INTEGER)) { this.reserve(HEAD_BYTES_MAX); this.#head(negative ? MAJOR.negative : MAJOR.unsigned, Number(argument)); return; }
    invariant(argument < 1n << 64n, 'an integer beyond 64 bits has no plain CBOR form');
    this.reserve(HEAD_BYTES_MAX);
    this.buffer[this.length] = (negative ? MAJOR.negative : MAJOR.unsigned) | 27;
    this.buffer.writeBigUInt64BE(argument, this.length + 1);
    this.length += HEAD_BYTES_MAX;
  }

  /** Writes the head with its shortest argument; room is there already. */
  #head(major: number, argument: number): void {
    const { buffer } = this;
    let at = this.length;
    if (argument < 24) buffer[at++] = major | argument;
    else if (argument < 0x100) { buffer[at++] = major | 24; buffer[at++] = argument; }
    else if (argument < 0x1_0000) { buffer[at++] = major | 25; buffer[at++] = argument >>> 8; buffer[at++] = argument & 0xff; }
    else if (argument < TWO_POW_32) { buffer[at++] = major | 26; at = putUint32(buffer, at, argument); }
    else {
      buffer[at++] = major | 27;
      at = putUint32(buffer, at, Math.floor(argument / TWO_POW_32));
      at = putUint32(buffer, at, argument % TWO_POW_32);
    }
    this.length = at;
  }

  #shortAscii(value: string): boolean {
    const { buffer } = this;
    let at = this.length + 1;
    for (let i = 0; i < value.length; i++) {
      const unit = value.charCodeAt(i);
      if (unit > 0x7f) return false;
      buffer[at++] = unit;
    }
    buffer[this.length] = MAJOR.text | value.length;
    this.length = at;
    return true;
  }

  /** `bits`: an IEEE 754 binary32 that is exact; binary16 where that is exact too (RFC 8949 §4.2.2). */
  #single(bits: number): void {
    const half = halfOfSingle(bits);
    if (half < 0) {
      this.buffer[this.length] = SIMPLE.single;
      putUint32(this.buffer, this.length + 1, bits);
      this.length += 5;
    } else {
      this.buffer[this.length] = SIMPLE.half;
      this.buffer[this.length + 1] = half >>> 8;
      this.buffer[this.length + 2] = half & 0xff;
      this.length += 3;
    }
  }
}

const headBytes = (argument: number): number => (argument < 24 ? 1 : argument < 0x100 ? 2 : argument < 0x1_0000 ? 3 : 5);

function putUint32(buffer: Buffer, at: number, value: number): number {
  buffer[at] = value >>> 24;
  buffer[at + 1] = (value >>> 16) & 0xff;
  buffer[at + 2] = (value >>> 8) & 0xff;
  buffer[at + 3] = value & 0xff;
  return at + 4;
}

/** Bits of the binary16 with the same value, or −1 where there is none. Finite, non-zero input. */
function halfOfSingle(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const exponent = ((bits >>> 23) & 0xff) - 127;
  const mantissa = bits & 0x7f_ffff;
  if (exponent >= -14 && exponent <= 15) return (mantissa & 0x1fff) === 0 ? sign | ((exponent + 15) << 10) | (mantissa >>> 13) : -1;
  if (exponent < -24 || exponent > 15) return -1;
  const shift = 13 + (-14 - exponent); // subnormal: the leading one becomes explicit
  const full = 0x80_0000 | mantissa;
  return (full & ((1 << shift) - 1)) === 0 ? sign | (full >>> shift) : -1;
}
