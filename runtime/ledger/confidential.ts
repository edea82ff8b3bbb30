/**
 * Confidential entries: what a `keyEpoch` entry and the entries sealed under it hold, and how a recipient opens them. Pure; docs/reference/confidential.md
 * is its reference.
 */
import type { KeyObject } from 'node:crypto';
import { u64be } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { KEY_EPOCH_BODY, KIND, SEALED_BODY, type Cbor, type Entry, type KindNumber } from '#runtime/core/types.ts';
import { AES_256_GCM, openAead, sealAead } from '#runtime/crypto/aead.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import type { CborWriter } from '#runtime/crypto/cborWriter.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { HPKE_SUITE, openOnce, sealOnce } from '#runtime/crypto/hpke.ts';
import { XWING, type ExchangeKey } from '#runtime/crypto/xwing.ts';

export const CONTEXT_BYTES = 16;
const CONTENT_KEY_BYTES = AES_256_GCM.keyBytes;
const TAG_BYTES = 16;
const KEY_ID_BYTES = 32;
const KEY_EPOCH_INFO = Buffer.from('tenzro/key-epoch/1');
/** What fits the last six bytes of a nonce. */
const SEQUENCE_MAX = 2 ** 48 - 1;
const ENTRY_INFO = 'tenzro/confidential/1';

export interface Recipient {
  readonly name: string;
  /** X-Wing, 1216 bytes. */
  readonly publicKey: Uint8Array;
}

export interface KeyEpoch {
  readonly context: Uint8Array;
  readonly recipients: readonly { readonly name: string; /** SHA-256 of the public key. */ readonly keyId: Uint8Array; readonly enc: Uint8Array; readonly wrapped: Uint8Array }[];
}

/** What of a sealed entry is in clear, beside its kind and source. */
export interface Sealed {
  readonly topic: string;
  readonly flags: number;
  readonly packetId: number | undefined;
  readonly context: Uint8Array;
  readonly sequence: number;
  readonly ciphertext: Uint8Array;
  readonly tag: Uint8Array | undefined;
}

/** A content key's name: when it began, and eight bytes that no other has. `monoMicros` MUST be that of its `keyEpoch` entry. */
export const contextOf = (monoMicros: number, random: Uint8Array): Buffer => Buffer.concat([u64be(monoMicros), random]);
export const contextMicros = (context: Uint8Array): number => Number(Buffer.from(context).readBigUInt64BE());

/** Body of the `keyEpoch` entry that begins `context`. */
export function keyEpochBody(context: Uint8Array, contentKey: Uint8Array, recipients: readonly Recipient[]): ReadonlyMap<number, Cbor> {
  const wrapped = recipients.map(({ name, publicKey }): Cbor => {
    const { enc, ciphertext } = sealOnce(publicKey, KEY_EPOCH_INFO, contentKey, context);
    return [name, sha256(publicKey), enc, ciphertext];
  });
  return new Map<number, Cbor>([[KEY_EPOCH_BODY.context, context], [KEY_EPOCH_BODY.suite, [...HPKE_SUITE]], [KEY_EPOCH_BODY.recipients, wrapped]]);
}

/** Throws `entry.malformed`. */
export function keyEpochOf(body: Cbor): KeyEpoch {
  const fields = mapOf(body);
  const [context, suite, recipients] = [fields.get(KEY_EPOCH_BODY.context), fields.get(KEY_EPOCH_BODY.suite), fields.get(KEY_EPOCH_BODY.recipients)];
  if (!isBytes(context, CONTEXT_BYTES)) throw malformed('the context is not 16 bytes');
  if (!isList(suite) || suite.length !== HPKE_SUITE.length || !HPKE_SUITE.every((number, i) => suite[i] === number)) throw malformed(`the HPKE suite is not ${HPKE_SUITE.join(', ')}`);
  if (!isList(recipients) || recipients.length > LIMITS.recipientsMax) throw malformed(`not a list of at most ${LIMITS.recipientsMax} recipients`);
  return {
    context,
    recipients: recipients.map((item) => {
      const [name, keyId, enc, wrapped] = isList(item) ? item : [];
      if (typeof name !== 'string' || !isBytes(keyId, KEY_ID_BYTES) || !isBytes(enc, XWING.ciphertextBytes) || !isBytes(wrapped, CONTENT_KEY_BYTES + TAG_BYTES)) throw malformed('a recipient is not [name, key id, enc, sealed key]');
      return { name, keyId, enc, wrapped };
    }),
  };
}

/** The content key, 32 bytes; the caller zeroes it. Throws `confidential.not_recipient`, or `hpke.open` for an altered one. */
export function contentKeyOf({ context, recipients }: KeyEpoch, key: ExchangeKey): Buffer {
  const keyId = sha256(key.publicKey);
  const own = recipients.find((recipient) => keyId.equals(recipient.keyId));
  if (!own) throw new TenzroError('confidential.not_recipient', `sealed to ${recipients.map(({ name }) => name).join(', ') || 'nobody'}, not to this key`);
  return openOnce(own.enc, key, KEY_EPOCH_INFO, own.wrapped, context);
}

const SEALED_KEYS: ReadonlySet<number> = new Set(Object.values(SEALED_BODY));

/** Undefined for a body in clear. Throws `entry.malformed` for one that is sealed and not whole. */
export function sealedOf(body: Cbor): Sealed | undefined {
  if (!isSealed(body)) return undefined;
  const fields = mapOf(body);
  const [topic, flags, packetId, context, sequence, ciphertext, tag] =
    [SEALED_BODY.topic, SEALED_BODY.flags, SEALED_BODY.packetId, SEALED_BODY.context, SEALED_BODY.sequence, SEALED_BODY.ciphertext, SEALED_BODY.tag].map((key) => fields.get(key));
  if (typeof topic !== 'string' || typeof flags !== 'number' || !isBytes(context, CONTEXT_BYTES) || !(ciphertext instanceof Uint8Array)) throw malformed('a field is missing');
  if (typeof sequence !== 'number' || !Number.isInteger(sequence) || sequence < 0 || sequence > SEQUENCE_MAX) throw malformed('the sequence is not a number of 48 bits');
  if (packetId !== undefined && typeof packetId !== 'number') throw malformed('the packet identifier is not a number');
  if (tag !== undefined && !(tag instanceof Uint8Array)) throw malformed('the tag is not bytes');
  for (const key of fields.keys()) if (!SEALED_KEYS.has(key)) throw malformed(`unknown key ${key}`);
  return { topic, flags, packetId, context, sequence, ciphertext, tag };
}

/** Reads no more than whether there is a ciphertext. */
export const isSealed = (body: Cbor): boolean => body instanceof Map && body.has(SEALED_BODY.ciphertext);

/** Key 7 is the packet identifier of messages, the Merkle root of summaries. */
const isClear = (kind: KindNumber, key: number): boolean => key === SEALED_BODY.topic || key === SEALED_BODY.flags || (key === SEALED_BODY.packetId && kind !== KIND.summary);

export interface Place {
  readonly kind: KindNumber;
  readonly source: string;
  readonly context: Uint8Array;
  /** MUST never come twice under one content key. */
  readonly sequence: number;
  readonly tag?: Uint8Array | undefined;
}

/** The body that is recorded in the place of `body`. `contentKey`: a KeyObject, which OpenSSL takes three times as fast as bytes. `scratch` is overwritten. */
export function sealBody(body: ReadonlyMap<number, Cbor>, place: Place, contentKey: KeyObject, scratch: CborWriter): Map<number, Cbor> {
  const [clear, hidden] = [new Map<number, Cbor>(), new Map<number, Cbor>()];
  for (const [key, value] of body) (isClear(place.kind, key) ? clear : hidden).set(key, value);
  clear.set(SEALED_BODY.context, place.context);
  clear.set(SEALED_BODY.sequence, place.sequence);
  scratch.length = 0;
  scratch.value(hidden);
  const plaintextBytes = scratch.length;
  scratch.value(aadOf(place, clear));
  const [plaintext, aad] = [scratch.buffer.subarray(0, plaintextBytes), scratch.buffer.subarray(plaintextBytes, scratch.length)];
  clear.set(SEALED_BODY.ciphertext, sealAead(AES_256_GCM, contentKey, nonceOf(place.sequence), plaintext, aad));
  if (place.tag) clear.set(SEALED_BODY.tag, place.tag);
  return clear;
}

/** The body as it would have been recorded in clear. Throws `hpke.open` for another key or an altered entry, `entry.malformed` for what is not sealed. */
export function openBody({ kind, source, body }: Pick<Entry, 'kind' | 'source' | 'body'>, contentKey: Uint8Array): ReadonlyMap<number, Cbor> {
  const sealed = sealedOf(body);
  if (!sealed) throw malformed('it is not sealed');
  const clear = mapOf(body);
  const place = { kind, source, context: sealed.context, sequence: sealed.sequence, tag: sealed.tag };
  const hidden = decodeCbor(openAead(AES_256_GCM, contentKey, nonceOf(sealed.sequence), sealed.ciphertext, encodeCbor(aadOf(place, clear))));
  const shown = [...clear].filter(([key]) => isClear(kind, key));
  return new Map([...shown, ...mapOf(hidden)].toSorted(([a], [b]) => a - b));
}

/** What nobody can change without the recipient seeing it, though all can read it. */
const aadOf = ({ kind, source, context, sequence, tag }: Place, clear: ReadonlyMap<number, Cbor>): Cbor =>
  [ENTRY_INFO, kind, source, clear.get(SEALED_BODY.topic) ?? null, clear.get(SEALED_BODY.flags) ?? null, kind === KIND.summary ? null : (clear.get(SEALED_BODY.packetId) ?? null), context, sequence, tag ?? null];

/** The sequence as a 96-bit number: each content key is random and has one. */
function nonceOf(sequence: number): Buffer {
  const nonce = Buffer.alloc(AES_256_GCM.nonceBytes);
  nonce.writeUIntBE(sequence, nonce.length - 6, 6);
  return nonce;
}

const isBytes = (value: Cbor | undefined, sizeBytes: number): value is Uint8Array => value instanceof Uint8Array && value.length === sizeBytes;
const isList = (value: Cbor | undefined): value is readonly Cbor[] => Array.isArray(value);

function mapOf(body: Cbor): ReadonlyMap<number, Cbor> {
  if (!(body instanceof Map)) throw malformed('the body is not a map');
  return body as ReadonlyMap<number, Cbor>;
}

const malformed = (why: string): TenzroError => new TenzroError('entry.malformed', `confidential entry: ${why}`);
