/**
 * A segment: the entries of one batch as one LMDB value. Big-endian: magic u32, count u32, count × offset u32, then the leaves back to back,
 * each as RFC 9162 hashes it: 0x00 and the entry. An offset counts from the start of the value to that 0x00. docs/reference/store.md.
 */
import { asBuffer } from '#runtime/core/bytes.ts';
import { TenzroError, invariant } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { CborWriter } from '#runtime/crypto/cborWriter.ts';
import { LEAF_PREFIX } from '#runtime/crypto/merkle.ts';

/** ASCII "TZS1". */
const SEGMENT_MAGIC = 0x545a5331;
const HEAD_BYTES = 8;
const OFFSET_BYTES = 4;
const RESERVED_BYTES = HEAD_BYTES + LIMITS.batchEntriesMax * OFFSET_BYTES;
const FIRST_CAPACITY_BYTES = 256 * 1024;

/** Builds segments in place: entries are written behind room for the longest header, which is then put right before them. */
export class SegmentBuilder {
  #writer = new CborWriter(FIRST_CAPACITY_BYTES);
  readonly #starts = new Uint32Array(LIMITS.batchEntriesMax);
  #count = 0;
  #isLent = false;

  constructor() { this.#writer.length = RESERVED_BYTES; }

  get count(): number { return this.#count; }
  get isFull(): boolean { return this.#count === LIMITS.batchEntriesMax || this.#writer.length - RESERVED_BYTES >= LIMITS.batchBytesMax; }

  /** Begins a leaf; the caller writes the entry into what is returned, then calls `end` or `undo`. */
  begin(): CborWriter {
    if (this.#isLent) { // the value taken before is not released yet: leave its bytes alone
      this.#writer = new CborWriter(FIRST_CAPACITY_BYTES);
      this.#restart();
    }
    this.#starts[this.#count] = this.#writer.length;
    this.#writer.byte(LEAF_PREFIX);
    return this.#writer;
  }

  /** Ends the leaf and gives its bytes, 0x00 included; valid until the next `begin`. */
  end(): Buffer {
    const start = this.#starts[this.#count++] ?? 0;
    return this.#writer.buffer.subarray(start, this.#writer.length);
  }

  undo(): void { this.#writer.length = this.#starts[this.#count] ?? RESERVED_BYTES; }

  /** The finished value; it stays valid until `release`. */
  take(): Buffer {
    invariant(this.#count > 0, 'a segment has at least one entry');
    const { buffer, length } = this.#writer;
    const start = RESERVED_BYTES - HEAD_BYTES - this.#count * OFFSET_BYTES;
    buffer.writeUInt32BE(SEGMENT_MAGIC, start);
    buffer.writeUInt32BE(this.#count, start + OFFSET_BYTES);
    for (let i = 0; i < this.#count; i++) buffer.writeUInt32BE((this.#starts[i] ?? 0) - start, start + HEAD_BYTES + i * OFFSET_BYTES);
    this.#count = 0;
    this.#isLent = true;
    return buffer.subarray(start, length);
  }

  /** The values taken are no longer needed. */
  release(): void { this.#restart(); }

  #restart(): void {
    this.#isLent = false;
    this.#count = 0;
    this.#writer.length = RESERVED_BYTES;
  }
}

/** A decoded segment: a view, nothing is copied. */
export class Segment {
  readonly first: number;
  readonly count: number;
  readonly #bytes: Buffer;

  /** Throws `entry.malformed` unless header and offsets fit. `first` is the index of the first entry, from the key. */
  constructor(first: number, value: Uint8Array) {
    this.first = first;
    this.#bytes = asBuffer(value);
    if (value.length < HEAD_BYTES || this.#bytes.readUInt32BE(0) !== SEGMENT_MAGIC) throw malformed(0, 'no segment begins here');
    this.count = this.#bytes.readUInt32BE(OFFSET_BYTES);
    if (this.count === 0 || this.count > LIMITS.batchEntriesMax) throw malformed(OFFSET_BYTES, `a segment does not have ${this.count} entries`);
    let floor = HEAD_BYTES + this.count * OFFSET_BYTES;
    for (let i = 0; i < this.count; i++) {
      const at = HEAD_BYTES + i * OFFSET_BYTES;
      if (at + OFFSET_BYTES > value.length) throw malformed(value.length, 'the value ends within its offsets');
      const offset = this.#bytes.readUInt32BE(at);
      if (i === 0 ? offset !== floor : offset < floor) throw malformed(at, 'an offset is out of order');
      if (offset + 1 >= value.length) throw malformed(at, 'an offset points past the end');
      if (value[offset] !== LEAF_PREFIX) throw malformed(offset, 'a leaf does not begin with 0x00');
      floor = offset + 2;
    }
  }

  /** Index after the last entry. */
  get end(): number { return this.first + this.count; }

  /** Where in the value the leaf of entry `index` begins. */
  offsetOf(index: number): number {
    const place = index - this.first;
    invariant(place >= 0 && place < this.count, `entry ${index} is not in the segment of ${this.first}`);
    return this.#bytes.readUInt32BE(HEAD_BYTES + place * OFFSET_BYTES);
  }

  /** 0x00 and the entry: what the leaf hash covers. */
  leaf(index: number): Buffer {
    return this.#bytes.subarray(this.offsetOf(index), index + 1 === this.end ? this.#bytes.length : this.offsetOf(index + 1));
  }

  entry(index: number): Buffer { return this.leaf(index).subarray(1); }

  /** Whether some entry may contain the bytes. */
  mayHold(needle: Uint8Array): boolean { return this.#bytes.includes(asBuffer(needle)); }
}

/** `offset` in bytes from the start of the value. */
export class SegmentError extends TenzroError {
  readonly offset: number;
  constructor(offset: number, why: string) {
    super('entry.malformed', `segment, byte ${offset}: ${why}`);
    this.offset = offset;
  }
}
const malformed = (offset: number, why: string): SegmentError => new SegmentError(offset, why);
