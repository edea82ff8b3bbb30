/**
 * One leaf of the datachain: deterministic CBOR `{1 version, 2 kind, 3 source, 4 wall µs, 5 boot epoch, 6 monotonic µs, 7 body}`.
 * Pure; docs/reference/entry-format.md is its reference.
 */
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { EntryFilter } from '#runtime/core/ports.ts';
import { kindName, type Cbor, type Draft, type Entry, type KindNumber } from '#runtime/core/types.ts';
import { decodeCbor } from '#runtime/crypto/cbor.ts';
import { CborWriter } from '#runtime/crypto/cborWriter.ts';

const ENTRY_VERSION = 1;
const KEY = { version: 1, kind: 2, source: 3, wall: 4, bootEpoch: 5, mono: 6, body: 7 } as const;
const FIELDS = 7;
/** What every entry of this version begins with: map of seven, version, and the key of the kind. The kind is one byte: below 24. */
const PREFIX = Uint8Array.of(0xa0 | FIELDS, KEY.version, ENTRY_VERSION, KEY.kind);
const KIND_AT = PREFIX.length;
const SOURCE_AT = KIND_AT + 2;

/** Everything but the body; the caller appends exactly one CBOR item. */
export function writeEntryHead(writer: CborWriter, entry: Omit<Draft, 'body'>, bootEpoch: number): void {
  writer.raw(PREFIX);
  writer.byte(entry.kind);
  writer.byte(KEY.source);
  writer.text(entry.source);
  writer.byte(KEY.wall);
  writer.integer(entry.wallMicros);
  writer.byte(KEY.bootEpoch);
  writer.integer(bootEpoch);
  writer.byte(KEY.mono);
  writer.integer(entry.monoMicros);
  writer.byte(KEY.body);
}

export function encodeEntry(entry: Entry): Buffer {
  const writer = new CborWriter(256);
  writeEntryHead(writer, entry, entry.bootEpoch);
  writer.value(entry.body);
  return writer.buffer.subarray(0, writer.length);
}

/** Throws `entry.malformed`. Unknown keys, kinds and versions are refused. */
export function decodeEntry(bytes: Uint8Array): Entry {
  let map: Cbor;
  try {
    map = decodeCbor(bytes);
  } catch (cause) {
    throw new TenzroError('entry.malformed', `entry: ${messageOf(cause)}`, { cause });
  }
  if (!(map instanceof Map) || map.size !== FIELDS) throw malformed('not a map of seven');
  const fields = map as ReadonlyMap<number, Cbor>;
  const count = (key: number, name: string): number => {
    const value = fields.get(key);
    if (typeof value !== 'number' || !Number.isSafeInteger(value)) throw malformed(`${name} is not an integer`);
    return value;
  };
  if (fields.get(KEY.version) !== ENTRY_VERSION) throw malformed(`its version is not ${ENTRY_VERSION}`);
  const [kind, source, body] = [count(KEY.kind, 'kind'), fields.get(KEY.source), fields.get(KEY.body)];
  if (kindName(kind) === undefined) throw malformed(`unknown kind ${kind}`);
  if (typeof source !== 'string') throw malformed('the source is not text');
  if (body === undefined) throw malformed('there is no body');
  return {
    kind: kind as KindNumber, source, body,
    wallMicros: count(KEY.wall, 'wall time'), bootEpoch: count(KEY.bootEpoch, 'boot epoch'), monoMicros: count(KEY.mono, 'monotonic time'),
  };
}

/** Kind and source from the fixed prefix, without decoding the rest. Throws `entry.malformed` where the prefix does not fit. */
export function peek(bytes: Uint8Array): { readonly kind: KindNumber; readonly source: string } {
  for (const [at, byte] of PREFIX.entries()) if (bytes[at] !== byte) throw malformed('the prefix does not fit');
  const kind = bytes[KIND_AT] ?? 0;
  if (kindName(kind) === undefined) throw malformed(`unknown kind ${kind}`);
  const head = bytes[SOURCE_AT] ?? 0;
  let start = SOURCE_AT + 1;
  let length = head - 0x60; // text string, RFC 8949 §3.1: 0x60 + length, or 0x78 / 0x79 and a length of one / two bytes
  if (head === 0x78) length = bytes[start++] ?? 0;
  else if (head === 0x79) length = ((bytes[start++] ?? 0) << 8) | (bytes[start++] ?? 0);
  else if (length < 0 || length > 23) throw malformed('the source is not text');
  if (start + length > bytes.length) throw malformed('the source runs past the end');
  return { kind: kind as KindNumber, source: Buffer.from(bytes.buffer, bytes.byteOffset + start, length).toString('utf8') };
}

/** True when kind and source fit; reads no more than the prefix. */
export function matchesEntry(bytes: Uint8Array, filter: EntryFilter): boolean {
  if (filter.kinds !== undefined && !filter.kinds.includes((bytes[KIND_AT] ?? 0) as KindNumber)) return false;
  return filter.source === undefined || peek(bytes).source === filter.source;
}

const malformed = (why: string): TenzroError => new TenzroError('entry.malformed', `entry: ${why}`);
