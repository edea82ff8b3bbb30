/**
 * Deterministic CBOR (RFC 8949 §4.2.1) behind one face; the only file that imports `cborg`. It decodes; encoding is ours, because cborg 6.1
 * writes some numbers that binary16 holds as a subnormal in binary32, which is not their shortest form (§4.2.2).
 */
import { decode } from 'cborg';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { equalBytes } from '#runtime/core/bytes.ts';
import { CborWriter } from './cborWriter.ts';

const FIRST_CAPACITY_BYTES = 512;

/** Throws `core.invariant` for NaN, infinities and integers beyond 64 bits. */
export function encodeCbor(value: Cbor): Buffer {
  const writer = new CborWriter(FIRST_CAPACITY_BYTES);
  writer.value(value);
  return writer.buffer.subarray(0, writer.length);
}

/**
 * Decodes one item and refuses everything that a deterministic encoder would not have written: indefinite lengths, duplicate or unsorted
 * keys, long forms, trailing bytes. One value has one encoding, so a flipped byte cannot hide in a second spelling.
 */
export function decodeCbor(bytes: Uint8Array): Cbor {
  try {
    const value = decode(bytes, { useMaps: true, strict: true, rejectDuplicateMapKeys: true, allowIndefinite: false, allowUndefined: false, allowNaN: false, allowInfinity: false }) as Cbor;
    if (equalBytes(encodeCbor(value), bytes)) return value;
  } catch (cause) { // also what decodes and has no form of ours: keys that are no integers, nesting beyond the stack
    throw new TenzroError('cbor.malformed', `not CBOR: ${messageOf(cause)}`, { cause });
  }
  throw new TenzroError('cbor.malformed', 'CBOR is not in deterministic form (RFC 8949 §4.2.1)');
}
