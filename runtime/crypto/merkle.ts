/** The Merkle tree of RFC 6962 §2.1 / RFC 9162 §2.1, as far as it only grows: leaf and node hashes, and the root at any time. Pure. */
import { invariant } from '#runtime/core/errors.ts';
import { sha256 } from './hash.ts';

/** Domain separation, RFC 9162 §2.1.1. */
export const LEAF_PREFIX = 0x00;
const LEAF_PREFIX_BYTES = Uint8Array.of(LEAF_PREFIX);
const NODE_PREFIX_BYTES = Uint8Array.of(0x01);

/** MTH({}) = HASH(), RFC 9162 §2.1.1. */
export const EMPTY_ROOT: Uint8Array = sha256(new Uint8Array(0));

export const leafHash = (entry: Uint8Array): Buffer => sha256(LEAF_PREFIX_BYTES, entry);
export const nodeHash = (left: Uint8Array, right: Uint8Array): Buffer => sha256(NODE_PREFIX_BYTES, left, right);

const isOdd = (value: number): boolean => value % 2 === 1;
const half = (value: number): number => Math.floor(value / 2);

/** The right edge of a growing tree: at most one hash per level; enough to append leaves and to know the root at any time. */
export class CompactRange {
  #size = 0;
  /** Hash of the complete subtree of 2^level leaves at the right edge, where the size has that bit. */
  readonly #edge: (Uint8Array | undefined)[] = [];

  /** From what `hashes` gave. Throws `core.invariant` where there is not one hash for each bit of the size. */
  static of(size: number, hashes: readonly Uint8Array[]): CompactRange {
    const range = new CompactRange();
    const left = [...hashes];
    for (let [level, rest] = [0, size]; rest > 0; rest = half(rest), level++) range.#edge[level] = isOdd(rest) ? left.shift() : undefined;
    invariant(Number.isSafeInteger(size) && left.length === 0 && range.hashes().length === hashes.length, 'an edge has one hash for each bit of the size');
    range.#size = size;
    return range;
  }

  get size(): number { return this.#size; }

  /** The edge, smallest subtree first: at most one hash per bit of the size. */
  hashes(): readonly Uint8Array[] { return this.#edge.filter((hash) => hash !== undefined); }

  append(leaf: Uint8Array): void {
    let [hash, level, rest] = [leaf, 0, this.#size];
    for (; isOdd(rest); rest = half(rest), level++) {
      const left = this.#edge[level];
      invariant(left !== undefined, 'the edge has a hash where the size has a bit');
      hash = nodeHash(left, hash);
      this.#edge[level] = undefined;
    }
    this.#edge[level] = hash;
    this.#size++;
  }

  root(): Uint8Array {
    let root: Uint8Array | undefined;
    for (const hash of this.#edge) {
      if (hash !== undefined) root = root === undefined ? hash : nodeHash(hash, root);
    }
    return root ?? EMPTY_ROOT;
  }
}
