/**
 * Proofs of the Merkle tree of RFC 6962 §2.1 / RFC 9162 §2.1 and their verification; `crypto/merkle.ts` hashes and grows it. Pure. Proofs are
 * made from a `NodeSource`, so that who stores which hash is not decided here. Sizes and indices are integers below 2^53: no 32-bit operators.
 */
import { equalBytes } from '#runtime/core/bytes.ts';
import { invariant } from '#runtime/core/errors.ts';
import { EMPTY_ROOT, nodeHash } from '#runtime/crypto/merkle.ts';
import { HASH_BYTES } from './block.ts';

/** Hash of the complete subtree over leaves [index·2^level, (index+1)·2^level). */
export type NodeSource = (level: number, index: number) => Uint8Array;

const isOdd = (value: number): boolean => value % 2 === 1;
const half = (value: number): number => Math.floor(value / 2);

/** Largest power of two smaller than `size` (size ≥ 2): RFC 9162 §2.1.1's k. */
function splitOf(size: number): number {
  let k = 1;
  while (k * 2 < size) k *= 2;
  return k;
}

/** MTH(D[start:end]); `start` is a multiple of the smallest power of two ≥ end − start, as in every subtree of RFC 9162. */
function rangeHash(start: number, end: number, node: NodeSource): Uint8Array {
  const size = end - start;
  const level = Math.log2(size);
  if (Number.isInteger(level)) return node(level, start / size);
  const k = splitOf(size);
  return nodeHash(rangeHash(start, start + k, node), rangeHash(start + k, end, node));
}

/** Root over the first `size` leaves. */
export const rootOf = (size: number, node: NodeSource): Uint8Array => (size === 0 ? EMPTY_ROOT : rangeHash(0, size, node));

/** PATH(index, D[size]) of RFC 9162 §2.1.3.1, leaf side first. */
export function inclusionPath(index: number, size: number, node: NodeSource): Uint8Array[] {
  invariant(Number.isSafeInteger(size) && index >= 0 && index < size, `no leaf ${index} in a tree of ${size}`);
  const path: Uint8Array[] = [];
  let [start, end] = [0, size];
  while (end - start > 1) {
    const middle = start + splitOf(end - start);
    if (index < middle) { path.push(rangeHash(middle, end, node)); end = middle; }
    else { path.push(rangeHash(start, middle, node)); start = middle; }
  }
  return path.toReversed();
}

/** PROOF(from, D[to]) of RFC 9162 §2.1.4.1. Empty when `from` equals `to` or is 0. */
export function consistencyPath(from: number, to: number, node: NodeSource): Uint8Array[] {
  invariant(from >= 0 && from <= to, `no consistency from ${from} to ${to}`);
  if (from === 0 || from === to) return [];
  const path: Uint8Array[] = [];
  let [start, end, whole] = [0, to, true];
  while (from !== end) {
    const middle = start + splitOf(end - start);
    if (from <= middle) { path.push(rangeHash(middle, end, node)); end = middle; }
    else { path.push(rangeHash(start, middle, node)); start = middle; whole = false; }
  }
  if (!whole) path.push(rangeHash(start, end, node));
  return path.toReversed();
}

/** RFC 9162 §2.1.3.2. False on any input that does not fit; never throws on hostile values. */
export function verifyInclusion(leaf: Uint8Array, index: number, size: number, path: readonly Uint8Array[], root: Uint8Array): boolean {
  if (!Number.isSafeInteger(index) || !Number.isSafeInteger(size) || index < 0 || index >= size) return false;
  if (!allHashes([leaf, root, ...path])) return false;
  let [fn, sn, hash] = [index, size - 1, leaf];
  for (const sibling of path) {
    if (sn === 0) return false;
    if (isOdd(fn) || fn === sn) {
      hash = nodeHash(sibling, hash);
      while (!isOdd(fn) && fn !== 0) [fn, sn] = [half(fn), half(sn)];
    } else hash = nodeHash(hash, sibling);
    [fn, sn] = [half(fn), half(sn)];
  }
  return sn === 0 && equalBytes(hash, root);
}

/** RFC 9162 §2.1.4.2. */
export function verifyConsistency(from: number, to: number, path: readonly Uint8Array[], fromRoot: Uint8Array, toRoot: Uint8Array): boolean {
  if (!Number.isSafeInteger(from) || !Number.isSafeInteger(to) || from < 0 || from > to || !allHashes([fromRoot, toRoot, ...path])) return false;
  if (from === to) return path.length === 0 && equalBytes(fromRoot, toRoot);
  if (from === 0) return path.length === 0 && equalBytes(fromRoot, EMPTY_ROOT);
  const hashes = Number.isInteger(Math.log2(from)) ? [fromRoot, ...path] : [...path];
  const first = hashes.shift();
  if (first === undefined) return false;
  let [fn, sn] = [from - 1, to - 1];
  while (isOdd(fn)) [fn, sn] = [half(fn), half(sn)];
  let [fr, sr] = [first, first];
  for (const hash of hashes) {
    if (sn === 0) return false;
    if (isOdd(fn) || fn === sn) {
      [fr, sr] = [nodeHash(hash, fr), nodeHash(hash, sr)];
      while (!isOdd(fn) && fn !== 0) [fn, sn] = [half(fn), half(sn)];
    } else sr = nodeHash(sr, hash);
    [fn, sn] = [half(fn), half(sn)];
  }
  return sn === 0 && equalBytes(fr, fromRoot) && equalBytes(sr, toRoot);
}

const allHashes = (hashes: readonly Uint8Array[]): boolean => hashes.every((hash) => hash.length === HASH_BYTES);
