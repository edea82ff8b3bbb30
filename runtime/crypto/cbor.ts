/** Deterministic CBOR (RFC 8949 §4.2.1) behind one face; the only file that imports `cborg`. */
import { decode, encode, rfc8949EncodeOptions } from 'cborg';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { equalBytes } from '#runtime/core/bytes.ts';

export function encodeCbor(value: Cbor): Buffer {
  return Buffer.from(encode(value, rfc8949EncodeOptions));
}

/**
 * Decodes one item and refuses everything that a deterministic encoder would not have written: indefinite lengths, duplicate or unsorted
 * keys, long forms, trailing bytes. One value has one encoding, so a flipped byte cannot hide in a second spelling.
 */
export function decodeCbor(bytes: Uint8Array): Cbor {
  let value: Cbor;
  try {
    value = decode(bytes, { useMaps: true, strict: true, rejectDuplicateMapKeys: true, allowIndefinite: false, allowUndefined: false, allowNaN: false, allowInfinity: false }) as Cbor;
  } catch (cause) {
    throw new TenzroError('cbor.malformed', `not CBOR: ${messageOf(cause)}`, { cause });
  }
  if (!equalBytes(encodeCbor(value), bytes)) throw new TenzroError('cbor.malformed', 'CBOR is not in deterministic form (RFC 8949 §4.2.1)');
  return value;
}
