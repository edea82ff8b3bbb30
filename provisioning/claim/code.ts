/**
 * The claim code TZ1, which a gateway shows and an operator scans or types: `TZ1:` and base-38 of deterministic CBOR
 * `[version, transports, key digest, one-time secret, discriminator]` and two bytes of checksum. docs/reference/claim-code.md is its reference.
 */
import { randomBytes, randomInt } from 'node:crypto';
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError, invariant } from '#runtime/core/errors.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { decodeBase38, encodeBase38, GROUP_CHARACTERS, slipsOf } from './base38.ts';

const PREFIX = 'TZ1:';
const ANY_PREFIX = /^TZ([1-9]\d{0,2}):/;
const VERSION = 1;
/** Of the text without white space: also of the versions to come, so that they are recognised. */
const CHARACTERS_MAX = 256;
const CHECKSUM_BYTES = 2;
/** 192 bits of SHA-256. */
const KEY_DIGEST_BYTES = 24;
const SECRET_BYTES = 16;
/** 12 bits, as a name's ending tells the gateways of one room apart. */
const DISCRIMINATOR_MAX = 0xfff;

/** How the gateway can be reached, as bits. Readers skip bits that they do not know. */
const TRANSPORT_BIT = { accessPoint: 1, lan: 2, ble: 4 } as const;
export type Transport = keyof typeof TRANSPORT_BIT;
export const TRANSPORTS = Object.keys(TRANSPORT_BIT) as readonly Transport[];
/** Keeps the field one byte long (RFC 8949 §3). */
const TRANSPORT_BITS_MAX = 0x17;

export interface ClaimCode {
  readonly transports: readonly Transport[];
  /** What `claimKeyDigest` makes of the gateway's keys, 24 bytes. */
  readonly keyDigest: Uint8Array;
  /** 16 bytes. Whoever is done with it zeroes it. */
  readonly secret: Uint8Array;
  /** 0 to 4095: names the gateway on the air and on the LAN until it is claimed. */
  readonly discriminator: number;
}

/** What a code pins: SHA-256 over a label, SHA-256 of the ML-DSA-65 public key, and SHA-256 of the AK's TPMT_PUBLIC where there is a TPM; its first 24 bytes. */
export function claimKeyDigest({ signingKey, ak }: { readonly signingKey: Uint8Array; readonly ak?: Uint8Array }): Buffer {
  return sha256(Buffer.from('tenzro/claim/keys/1'), signingKey, ak ?? new Uint8Array(0)).subarray(0, KEY_DIGEST_BYTES);
}

/** A fresh secret and discriminator for the gateway with these keys. */
export function newClaimCode(keyDigest: Uint8Array, transports: readonly Transport[]): ClaimCode {
  return { transports, keyDigest, secret: randomBytes(SECRET_BYTES), discriminator: randomInt(DISCRIMINATOR_MAX + 1) };
}

/** At most 89 characters, all of QR's alphanumeric set. Throws `core.invariant` for fields beyond their bounds. */
export function encodeClaimCode({ transports, keyDigest, secret, discriminator }: ClaimCode): string {
  invariant(keyDigest.length === KEY_DIGEST_BYTES && secret.length === SECRET_BYTES && transports.length > 0, 'a claim code has a digest, a secret and a transport');
  invariant(Number.isInteger(discriminator) && discriminator >= 0 && discriminator <= DISCRIMINATOR_MAX, 'a discriminator has 12 bits');
  const bits = transports.reduce((sum, transport) => sum | TRANSPORT_BIT[transport], 0);
  return codeText(PREFIX, encodeCbor([VERSION, bits, keyDigest, secret, discriminator]));
}

/** Base-38 of a body and its checksum, behind a prefix. Zeroes the body. */
export function codeText(prefix: string, body: Uint8Array): string {
  const whole = Buffer.concat([body, checksumOf(body)]);
  body.fill(0);
  const text = prefix + encodeBase38(whole);
  whole.fill(0);
  return text;
}

/** The body behind a prefix, typed as people type. No message holds a character of it. Throws `claim.code_malformed`, `claim.code_mistyped`. */
export function codeBody(prefix: string, typed: string): Uint8Array {
  const text = normalised(typed);
  if (!text.startsWith(prefix)) throw malformed(`it does not begin with ${prefix}`);
  return checkedBody(text.slice(prefix.length));
}

function normalised(typed: string): string {
  const text = typed.length > CHARACTERS_MAX * 2 ? typed : typed.replaceAll(/\s/g, '').replaceAll(/[a-z]/g, (letter) => letter.toUpperCase());
  if (text.length > CHARACTERS_MAX) throw malformed('it is too long');
  return text;
}

/**
 * White space and lower case are a typist's and do not count; otherwise one code has one text. No message holds a character of the code.
 * Throws `claim.code_malformed`, `claim.code_mistyped` (with the place where it can be told) and `claim.code_newer_version`.
 */
export function decodeClaimCode(typed: string): ClaimCode {
  const text = normalised(typed);
  const prefix = ANY_PREFIX.exec(text)?.[0];
  if (prefix === undefined) throw malformed(`it does not begin with ${PREFIX}`);
  if (prefix !== PREFIX) throw newer(`it begins with ${prefix}`);
  return readBody(checkedBody(text.slice(PREFIX.length)));
}

/** In fives, as a person reads and types it. `decodeClaimCode` takes it as it is. */
export function spacedClaimCode(text: string): string {
  return `${PREFIX} ${text.slice(PREFIX.length).replaceAll(new RegExp(`.{${GROUP_CHARACTERS}}(?=.)`, 'g'), '$& ')}`;
}

const checksumOf = (body: Uint8Array): Buffer => sha256(body).subarray(0, CHECKSUM_BYTES);

/** The CBOR, with its checksum taken off. */
function checkedBody(text: string): Buffer {
  const whole = decodeBase38(text);
  if ('why' in whole) {
    const { at, why } = whole;
    if (why === 'length') throw mistyped('characters are missing at its end, or one is too much');
    throw mistyped(why === 'character' ? `character ${at % GROUP_CHARACTERS + 1} of ${groupAt(at)} is none of a code` : `${groupAt(at)} cannot be`);
  }
  if (isWhole(whole)) return whole.subarray(0, -CHECKSUM_BYTES);
  throw mistyped(whereIsTheSlip(text));
}

function isWhole(bytes: Uint8Array): boolean {
  const body = bytes.subarray(0, -CHECKSUM_BYTES);
  return body.length > 0 && equalBytes(checksumOf(body), bytes.subarray(-CHECKSUM_BYTES));
}

/** The checksum cannot correct, but where a single slip explains it in one place only, that place is worth looking at. */
function whereIsTheSlip(text: string): string {
  const groups = new Set<string>();
  for (const slip of slipsOf(text)) {
    const bytes = decodeBase38(slip.text);
    if (bytes instanceof Buffer && isWhole(bytes)) groups.add(groupAt(slip.at));
  }
  const [only] = groups;
  return groups.size === 1 && only !== undefined ? `its checksum is wrong, probably because of ${only}` : 'its checksum is wrong';
}

/** `at`: index behind the prefix. */
const groupAt = (at: number): string => `group ${Math.floor(at / GROUP_CHARACTERS) + 1} of five characters after the colon`;

function readBody(body: Uint8Array): ClaimCode {
  const parts = asArray(body);
  const [version, bits, keyDigest, secret, discriminator] = parts;
  if (!isCount(version) || version === 0) throw malformed('it has no version');
  if (version !== VERSION) throw newer(`it has version ${version}`);
  if (parts.length !== 5) throw malformed(`it has ${parts.length} parts`);
  if (!isBytes(keyDigest, KEY_DIGEST_BYTES)) throw malformed('its digest of keys has the wrong form');
  if (!isBytes(secret, SECRET_BYTES)) throw malformed('its secret has the wrong form');
  if (!isCount(bits) || bits === 0 || bits > TRANSPORT_BITS_MAX) throw malformed('its transports have the wrong form');
  if (!isCount(discriminator) || discriminator > DISCRIMINATOR_MAX) throw malformed('its discriminator has the wrong form');
  const transports = TRANSPORTS.filter((transport) => (bits & TRANSPORT_BIT[transport]) !== 0);
  if (transports.length === 0) throw newer('this version knows none of its transports');
  return { transports, keyDigest, secret, discriminator };
}

function asArray(body: Uint8Array): readonly Cbor[] {
  try {
    const parts = decodeCbor(body);
    if (Array.isArray(parts)) return parts as readonly Cbor[];
  } catch {
    throw malformed('it holds no CBOR'); // without the cause, whose message might quote the secret
  }
  throw malformed('it holds no array');
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && typeof value === 'number' && value >= 0;
const isBytes = (value: unknown, sizeBytes: number): value is Uint8Array => value instanceof Uint8Array && value.length === sizeBytes;

const malformed = (why: string): TenzroError => new TenzroError('claim.code_malformed', `this is no claim code: ${why}`);
const mistyped = (why: string): TenzroError => new TenzroError('claim.code_mistyped', `the claim code is not as it was shown: ${why}`);
const newer = (why: string): TenzroError => new TenzroError('claim.code_newer_version', `the claim code was made by a newer Tenzro Edge: ${why}`);
