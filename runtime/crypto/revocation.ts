/**
 * What an owner of a fleet takes back: operator keys, authorities, the receipt key of a controller. A JSON object with a JWS over its RFC 8785 form, the same
 * for every gateway of the fleet. Each owner key has a list of its own, whose versions rise; what once was taken back stays so. Pure: both sides judge by it;
 * docs/reference/revocation.md is the reference.
 */
import { asBuffer, toHex } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { canonicalJson, isJsonObject, parseBoundedJson, type Json, type JsonObject } from '#runtime/core/json.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { sha256 } from './hash.ts';
import { parseDetached, signDetached, thumbprintOf } from './jws.ts';
import type { Signer } from './mldsa.ts';

/** Digests are SHA-256, lower-case hexadecimal; `why` is for people. */
export interface RevocationList {
  /** Rises with each list of one owner key. */
  readonly version: number;
  /** Seconds since 1970, by the signer's clock. */
  readonly issued: number;
  /** Of the SubjectPublicKeyInfo of the fleet's root: a list is for one fleet. */
  readonly authority: string;
  /** Operator and owner keys that count no more, by JWK thumbprint. */
  readonly keys: readonly { readonly kid: string; readonly why: string }[];
  /** Of the SubjectPublicKeyInfo of intermediates and brokers that count no more. */
  readonly authorities: readonly { readonly spki: string; readonly why: string }[];
  /** Receipt keys in whose place another one counts from now on. */
  readonly receiptKeys: readonly { readonly key: string; readonly next: string; readonly why: string }[];
}

/** A list whose form holds. Who signed it is for `isSignedBy` to say. */
export interface SignedRevocation {
  readonly list: RevocationList;
  readonly kid: string;
  readonly isSignedBy: (publicKey: Uint8Array) => boolean;
}

const TYP = 'tenzro-revocation+json';
const DIGEST = /^[0-9a-f]{64}$/;
const KID = /^[A-Za-z0-9_-]{43}$/;
const MEMBERS = ['version', 'issued', 'authority', 'keys', 'authorities', 'receiptKeys', 'signature'];
const SECONDS_MAX = 253_402_300_799; // 9999-12-31T23:59:59Z

/** On the fleet's broker, retained: one for each owner key that signed a list. */
export const revocationTopic = (gateway: string, kid: string): string => `te/${gateway}/revoked/${kid}`;

/** As it is published. Throws `fleet.revocation` for what no gateway would read. */
export function signRevocation(signer: Signer, list: RevocationList): Buffer {
  const members = { ...list, keys: list.keys.map((key) => ({ ...key })), authorities: list.authorities.map((one) => ({ ...one })), receiptKeys: list.receiptKeys.map((key) => ({ ...key })) };
  const message = Buffer.from(canonicalJson({ ...members, signature: signDetached(signer, signedBytes(members), TYP) }));
  parseRevocation(message);
  return message;
}

/** Hostile bytes. Throws `fleet.revocation` and `jws.malformed`. */
export function parseRevocation(bytes: Uint8Array): SignedRevocation {
  const message = parseBoundedJson(bytes, { bytesMax: LIMITS.revocationBytesMax, depthMax: 4, valuesMax: LIMITS.revocationsMax * 4 + 16 }, malformed);
  if (!isJsonObject(message) || Object.keys(message).some((key) => !MEMBERS.includes(key))) throw malformed('not an object of the members that a list has');
  const { signature, ...members } = message;
  const list: RevocationList = {
    version: countOf(message, 'version', Number.MAX_SAFE_INTEGER), issued: countOf(message, 'issued', SECONDS_MAX), authority: textOf(message, 'authority', DIGEST),
    keys: rowsOf(message, 'keys', (row) => ({ kid: textOf(row, 'kid', KID), why: whyOf(row) })),
    authorities: rowsOf(message, 'authorities', (row) => ({ spki: textOf(row, 'spki', DIGEST), why: whyOf(row) })),
    receiptKeys: rowsOf(message, 'receiptKeys', (row) => ({ key: textOf(row, 'key', DIGEST), next: textOf(row, 'next', DIGEST), why: whyOf(row) })),
  };
  if (list.keys.length + list.authorities.length + list.receiptKeys.length > LIMITS.revocationsMax) throw malformed(`more than ${LIMITS.revocationsMax} things are taken back`);
  if (typeof signature !== 'string') throw malformed('it is not signed');
  const jws = parseDetached(signature, TYP);
  return { list, kid: jws.kid, isSignedBy: (publicKey) => jws.isSignedBy(publicKey, signedBytes(members)) };
}

const signedBytes = (members: JsonObject): Buffer => Buffer.from(canonicalJson(members));

/** What is taken back as of now, by all lists that were taken. */
export interface Revoked {
  /** Newest version by the owner key that signed it. */
  readonly versions: ReadonlyMap<string, number>;
  /** Thumbprints. */
  readonly keys: ReadonlySet<string>;
  /** SHA-256, hexadecimal. */
  readonly authorities: ReadonlySet<string>;
  readonly receiptKeys: ReadonlyMap<string, string>;
}

export const NOTHING_REVOKED: Revoked = { versions: new Map(), keys: new Set(), authorities: new Set(), receiptKeys: new Map() };

export interface RevocationJudging {
  readonly owners: readonly Uint8Array[];
  /** Of this fleet's root. */
  readonly authority: string;
  readonly before: Revoked;
}

/**
 * What is taken back when this list is taken too. Costs a signature only for what could count. Throws `fleet.revocation`: a list for another fleet, by a key
 * that is no owner's or was taken back itself, that is not newer, or that would leave no owner.
 */
export function judgeRevocation({ list, kid, isSignedBy }: SignedRevocation, { owners, authority, before }: RevocationJudging): Revoked {
  if (list.authority !== authority) throw refused('it is for another fleet');
  const signer = owners.find((key) => thumbprintOf(key) === kid);
  if (!signer) throw refused(`no owner has key ${kid.slice(0, 43)}`);
  if (before.keys.has(kid)) throw refused('the key that signed it was revoked itself');
  const newest = before.versions.get(kid) ?? 0;
  if (list.version <= newest) throw refused(`version ${list.version} is not newer than ${newest}, which counts`);
  if (!isSignedBy(signer)) throw refused('the signature does not fit');
  const after = mergeRevocation(before, list, kid);
  if (owners.every((key) => after.keys.has(thumbprintOf(key)))) throw refused('it would leave no owner');
  if (after.keys.size + after.authorities.size + after.receiptKeys.size > LIMITS.revocationsMax * owners.length) throw refused('more is taken back than is remembered');
  return after;
}

/** Without judging it: for lists that were judged when they were taken. */
export function mergeRevocation(before: Revoked, list: RevocationList, kid: string): Revoked {
  return {
    versions: new Map([...before.versions, [kid, list.version]]), keys: new Set([...before.keys, ...list.keys.map((key) => key.kid)]),
    authorities: new Set([...before.authorities, ...list.authorities.map(({ spki }) => spki)]),
    receiptKeys: new Map([...list.receiptKeys.map(({ key, next }) => [key, next] as const), ...before.receiptKeys]),
  };
}

/** The receipt key (SHA-256) that counts where that one was pinned. */
export function receiptKeyNow(pinned: Uint8Array, { receiptKeys }: Revoked): Uint8Array {
  let key = toHex(pinned);
  for (let steps = 0; steps <= receiptKeys.size; steps++) {
    const next = receiptKeys.get(key);
    if (next === undefined) break;
    key = next;
  }
  return Buffer.from(key, 'hex');
}

export const spkiDigestOf = (spki: Uint8Array): string => toHex(sha256(asBuffer(spki)));

export const encodeRevoked = ({ versions, keys, authorities, receiptKeys }: Revoked): Buffer =>
  Buffer.from(canonicalJson({ versions: Object.fromEntries(versions), keys: [...keys], authorities: [...authorities], receiptKeys: Object.fromEntries(receiptKeys) }));

/** Our own bytes. Throws `ledger.corrupt`. */
export function decodeRevoked(bytes: Uint8Array): Revoked {
  const value = parseBoundedJson(bytes, { bytesMax: LIMITS.revocationBytesMax * 4, depthMax: 4, valuesMax: LIMITS.revocationsMax * 16 }, corrupt);
  const { versions, keys, authorities, receiptKeys } = isJsonObject(value) ? value : {};
  if (!isJsonObject(versions) || !isJsonObject(receiptKeys) || !Array.isArray(keys) || !Array.isArray(authorities)) throw corrupt();
  return {
    versions: new Map(Object.entries(versions).map(([kid, version]) => [kid, typeof version === 'number' ? version : 0])), keys: textsOf(keys), authorities: textsOf(authorities),
    receiptKeys: new Map(Object.entries(receiptKeys).flatMap(([key, next]) => (typeof next === 'string' ? [[key, next] as const] : []))),
  };
}

const textsOf = (values: readonly Json[]): ReadonlySet<string> => new Set(values.filter((value) => typeof value === 'string'));

function rowsOf<Row>(message: JsonObject, key: string, read: (row: JsonObject) => Row): readonly Row[] {
  const rows = message[key];
  if (!Array.isArray(rows)) throw malformed(`${key} is no list`);
  return (rows as readonly Json[]).map((row) => { if (!isJsonObject(row)) throw malformed(`${key} holds something else than objects`); return read(row); });
}

function textOf(row: JsonObject, key: string, form: RegExp): string {
  const value = row[key];
  if (typeof value !== 'string' || !form.test(value)) throw malformed(`${key} does not have its form`);
  return value;
}

function whyOf(row: JsonObject): string {
  const { why } = row;
  if (typeof why !== 'string' || Buffer.byteLength(why) > LIMITS.revocationWhyBytesMax) throw malformed(`why is no text of at most ${LIMITS.revocationWhyBytesMax} bytes`);
  return why;
}

function countOf(message: JsonObject, key: string, max: number): number {
  const value = message[key];
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1 || value > max) throw malformed(`${key} is no whole number`);
  return value;
}

const malformed = (why: string): TenzroError => new TenzroError('fleet.revocation', `revocation: ${why}`);
const refused = (why: string): TenzroError => new TenzroError('fleet.revocation', `a list of what is revoked does not count: ${why}`);
const corrupt = (why = 'it does not decode'): TenzroError => new TenzroError('ledger.corrupt', `what owners revoked: ${why}`);
