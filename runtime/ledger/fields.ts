/** Reads the fields of our own stored CBOR records; `corrupt` makes what is thrown when one does not fit. Pure. */
import type { Cbor } from '#runtime/core/types.ts';
import { HASH_BYTES } from './block.ts';

export interface FieldReaders {
  readonly listOf: (value: Cbor | undefined) => readonly Cbor[];
  /** 32 bytes. */
  readonly hashOf: (value: Cbor | undefined) => Uint8Array;
  /** Not negative. */
  readonly countOf: (value: Cbor | undefined) => number;
}

export const fieldReaders = (corrupt: () => Error): FieldReaders => ({
  listOf: (value) => {
    if (!Array.isArray(value)) throw corrupt();
    return value as readonly Cbor[];
  },
  hashOf: (value) => {
    if (!(value instanceof Uint8Array) || value.length !== HASH_BYTES) throw corrupt();
    return value;
  },
  countOf: (value) => {
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw corrupt();
    return value;
  },
});
