/**
 * Strict records of the claim protocol: a shape says which fields there are, in which order and within which bounds; on the wire it is a deterministic CBOR
 * map `{1 version, 2 type, 3 … fields}`. The type keeps one kind of record from passing for another, also under a signature.
 */
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';

const VERSION = 1;
const KEY = { version: 1, type: 2, firstField: 3 } as const;

export interface Field<T> {
  write(value: T): Cbor;
  /** Throws for what is not of this field; undefined: the key is absent. */
  read(value: Cbor | undefined): T;
}

export type Shape = Readonly<Record<string, Field<unknown>>>;
export type Values<S extends Shape> = { readonly [Name in keyof S]: S[Name] extends Field<infer T> ? T : never };

export const exactly = (sizeBytes: number): Field<Uint8Array> => bytesOf(sizeBytes, sizeBytes);
export const atMost = (bytesMax: number): Field<Uint8Array> => bytesOf(1, bytesMax);

function bytesOf(least: number, most: number): Field<Uint8Array> {
  return {
    write: (value) => value,
    read: (value) => {
      if (!(value instanceof Uint8Array) || value.length < least || value.length > most) throw odd(least === most ? `is not ${least} bytes` : `is not ${least} to ${most} bytes`);
      return value;
    },
  };
}

/** `pattern` MUST bound the length. */
export const text = (pattern: RegExp): Field<string> => ({
  write: (value) => value,
  read: (value) => {
    if (typeof value !== 'string' || !pattern.test(value)) throw odd(`is not text like ${pattern.source}`);
    return value;
  },
});

export const wholeNumber = (most = Number.MAX_SAFE_INTEGER): Field<number> => ({
  write: (value) => value,
  read: (value) => {
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0 || value > most) throw odd(`is not a whole number up to ${most}`);
    return value;
  },
});

/** On the wire: the place of the name, from 1. */
export const oneOf = <const T extends string>(names: readonly T[]): Field<T> => ({
  write: (value) => names.indexOf(value) + 1,
  read: (value) => {
    const name = typeof value === 'number' ? names[value - 1] : undefined;
    if (name === undefined) throw odd('is none of the known ones');
    return name;
  },
});

export const listOf = <T>(field: Field<T>, least: number, most: number): Field<readonly T[]> => ({
  write: (values) => values.map((value) => field.write(value)),
  read: (value) => {
    if (!Array.isArray(value) || value.length < least || value.length > most) throw odd(`is not a list of ${least} to ${most}`);
    return (value as readonly Cbor[]).map((item) => field.read(item));
  },
});

export const optional = <T>(field: Field<T>): Field<T | undefined> => ({
  write: (value) => (value === undefined ? null : field.write(value)),
  read: (value) => (value === undefined ? undefined : field.read(value)),
});

export function encodeRecord<S extends Shape>(type: number, shape: S, values: Values<S>): Buffer {
  const map = new Map<number, Cbor>([[KEY.version, VERSION], [KEY.type, type]]);
  for (const [at, [name, field]] of Object.entries(shape).entries()) if (values[name] !== undefined) map.set(KEY.firstField + at, field.write(values[name]));
  return encodeCbor(map);
}

/** Throws `claim.malformed`. */
export const decodeRecord = <S extends Shape>(type: number, shape: S, bytes: Uint8Array): Values<S> => readFields(openRecord(bytes), type, shape);

/** The fields of any record, and its type. Throws `claim.malformed`. */
export function openRecord(bytes: Uint8Array): ReadonlyMap<number, Cbor> {
  if (bytes.length > LIMITS.claimMessageBytesMax) throw malformed(`${bytes.length} bytes, more than ${LIMITS.claimMessageBytesMax}`);
  let map: Cbor;
  try {
    map = decodeCbor(bytes);
  } catch (cause) {
    throw malformed(messageOf(cause), cause);
  }
  if (!(map instanceof Map)) throw malformed('not a map');
  const fields = map as ReadonlyMap<number, Cbor>;
  if (fields.get(KEY.version) !== VERSION) throw malformed(`not of version ${VERSION}`);
  return fields;
}

export const typeOf = (fields: ReadonlyMap<number, Cbor>): Cbor | undefined => fields.get(KEY.type);

/** Throws `claim.malformed`; keys beyond the shape's are refused. */
export function readFields<S extends Shape>(fields: ReadonlyMap<number, Cbor>, type: number, shape: S): Values<S> {
  if (typeOf(fields) !== type) throw malformed(`not of type ${type}`);
  const names = Object.entries(shape);
  for (const key of fields.keys()) if (key < KEY.version || key >= KEY.firstField + names.length) throw malformed(`unknown key ${key}`);
  return Object.fromEntries(names.map(([name, field], at) => {
    try {
      return [name, field.read(fields.get(KEY.firstField + at))];
    } catch (cause) {
      throw malformed(`${name} ${messageOf(cause)}`, cause);
    }
  })) as Values<S>;
}

/** `readFields` says of which field. */
const odd = (why: string): TenzroError => new TenzroError('claim.malformed', why);
const malformed = (why: string, cause?: unknown): TenzroError => new TenzroError('claim.malformed', `claim message: ${why}`, cause === undefined ? {} : { cause });
