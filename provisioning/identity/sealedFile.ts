/**
 * The file `identity/sealed.cbor`: deterministic CBOR `[magic, version, header, box, key]`, then SHA-256 of it, which finds damage (it protects
 * against nobody). `box` is nonce ‖ ciphertext ‖ tag of the secrets (AES-256-GCM, associated data = header bytes). `key` is what opens it:
 * `[TPMT_PUBLIC, TPM2B_PRIVATE]` of the wrapping key sealed by a TPM, or, where there is none, the wrapping key itself.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { SealedSecret, SealingPolicy, VaultNames } from '#runtime/core/ports.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { AUTHORITY } from './authority.ts';

const MAGIC = 'tenzro identity';
const VERSION = 1;
const FILE_BYTES_MAX = 8_192;
const HASH_BYTES = 32;
export const WRAPPING_KEY_BYTES = 32;
const REFERENCE_BYTES = 16;
/** TPM name: algorithm and SHA-256, Part 1 §16. */
const NAME_BYTES = 34;
/** SP 800-38D §8.2.2 and §5.2.1.2. */
const BOX = { nonceBytes: 12, tagBytes: 16 } as const;
const REASON_CHARACTERS_MAX = 512;

/** What may be known of an identity. None of it names the chain: keys come before it. */
export interface IdentityHeader {
  /** SHA-256 of the ML-DSA-65 public key. */
  readonly signingKeyDigest: Uint8Array;
  /** SHA-256 of the X-Wing public key. */
  readonly exchangeKeyDigest: Uint8Array;
  readonly createdMicros: number;
  /** Random, 16 bytes: approvals for other keys, or for an earlier sealing of these, do not open this file. */
  readonly reference: Uint8Array;
  readonly protection:
    /** `revocation`: the only value of the TPM's counter at which they open. */
    | { readonly kind: 'tpm'; readonly authority: Uint8Array; readonly names: VaultNames; readonly revocation: bigint }
    /** Only the file's mode protects it. */
    | { readonly kind: 'file'; readonly reason: string };
}

export interface IdentityFile {
  readonly header: IdentityHeader;
  /** As stored: the associated data of the box. */
  readonly headerBytes: Uint8Array;
  readonly box: Uint8Array;
  readonly key: { readonly kind: 'tpm'; readonly sealed: SealedSecret } | { readonly kind: 'file'; readonly wrappingKey: Buffer };
}

export const newReference = (): Buffer => randomBytes(REFERENCE_BYTES);

/** What approvals of this file sign. Throws `core.invariant` for keys in a file, which nobody approves. */
export function sealingPolicyOf({ signingKeyDigest, reference, protection }: IdentityHeader): SealingPolicy {
  if (protection.kind !== 'tpm') throw new TenzroError('core.invariant', 'keys in a file open without approval');
  return { authority: protection.authority, policyRef: sha256(Buffer.from('tenzro/identity/1'), reference, signingKeyDigest) };
}

const HEADER = { signingKey: 1, exchangeKey: 2, created: 3, reference: 4, authority: 5, parent: 6, attestationKey: 7, revocation: 8, reason: 9 } as const;

export function encodeHeader({ signingKeyDigest, exchangeKeyDigest, createdMicros, reference, protection }: IdentityHeader): Buffer {
  const map = new Map<number, Cbor>([[HEADER.signingKey, signingKeyDigest], [HEADER.exchangeKey, exchangeKeyDigest], [HEADER.created, createdMicros], [HEADER.reference, reference]]);
  if (protection.kind === 'file') map.set(HEADER.reason, protection.reason.slice(0, REASON_CHARACTERS_MAX));
  else map.set(HEADER.authority, protection.authority).set(HEADER.parent, protection.names.parent).set(HEADER.attestationKey, protection.names.attestationKey).set(HEADER.revocation, protection.revocation);
  return encodeCbor(map);
}

export function encryptSecrets(secrets: Uint8Array, wrappingKey: Uint8Array, headerBytes: Uint8Array): Buffer {
  const nonce = randomBytes(BOX.nonceBytes);
  const cipher = createCipheriv('aes-256-gcm', wrappingKey, nonce).setAAD(headerBytes);
  return Buffer.concat([nonce, cipher.update(secrets), cipher.final(), cipher.getAuthTag()]);
}

/** The caller zeroes what it gets. Throws `identity.damaged`. */
export function decryptSecrets({ box, headerBytes }: Pick<IdentityFile, 'box' | 'headerBytes'>, wrappingKey: Uint8Array): Buffer {
  const end = box.length - BOX.tagBytes;
  if (end < BOX.nonceBytes || wrappingKey.length !== WRAPPING_KEY_BYTES) throw damaged('its box is too small');
  const cipher = createDecipheriv('aes-256-gcm', wrappingKey, box.subarray(0, BOX.nonceBytes), { authTagLength: BOX.tagBytes }).setAAD(headerBytes).setAuthTag(box.subarray(end));
  try {
    return Buffer.concat([cipher.update(box.subarray(BOX.nonceBytes, end)), cipher.final()]);
  } catch (cause) {
    throw new TenzroError('identity.damaged', 'sealed.cbor: the secrets do not decrypt: header or box was altered', { cause });
  }
}

export function encodeIdentityFile({ headerBytes, box, key }: Omit<IdentityFile, 'header'>): Buffer {
  const opener: Cbor = key.kind === 'tpm' ? [key.sealed.publicArea, key.sealed.privateArea] : key.wrappingKey;
  const body = encodeCbor([MAGIC, VERSION, headerBytes, box, opener]);
  return Buffer.concat([body, sha256(body)]);
}

/** Throws `identity.damaged` and `identity.newer_version`. */
export function decodeIdentityFile(bytes: Uint8Array): IdentityFile {
  if (bytes.length <= HASH_BYTES || bytes.length > FILE_BYTES_MAX) throw damaged(`it has ${bytes.length} bytes`);
  const body = bytes.subarray(0, bytes.length - HASH_BYTES);
  if (!equalBytes(sha256(body), bytes.subarray(body.length))) throw damaged('its checksum is wrong');
  const parts = decoded(body);
  const [magic, version, headerBytes, box, key] = Array.isArray(parts) ? (parts as readonly Cbor[]) : [];
  if (magic !== MAGIC || typeof version !== 'number') throw damaged('it is no identity');
  if (version !== VERSION) throw new TenzroError('identity.newer_version', `sealed.cbor has version ${version}, this version reads ${VERSION}`);
  if (!(headerBytes instanceof Uint8Array) || !(box instanceof Uint8Array)) throw damaged('parts are missing');
  const header = decodeHeader(headerBytes);
  return { header, headerBytes, box, key: header.protection.kind === 'tpm' ? { kind: 'tpm', sealed: sealedOf(key) } : { kind: 'file', wrappingKey: Buffer.from(asBytes(key, WRAPPING_KEY_BYTES)) } };
}

function decodeHeader(bytes: Uint8Array): IdentityHeader {
  const map = decoded(bytes);
  if (!(map instanceof Map)) throw damaged('its header is no map');
  const get = (key: number): unknown => map.get(key);
  const [createdMicros, reason] = [get(HEADER.created), get(HEADER.reason)];
  if (typeof createdMicros !== 'number') throw damaged('its header lacks the time');
  return {
    signingKeyDigest: asBytes(get(HEADER.signingKey), HASH_BYTES), exchangeKeyDigest: asBytes(get(HEADER.exchangeKey), HASH_BYTES), createdMicros, reference: asBytes(get(HEADER.reference), REFERENCE_BYTES),
    protection: typeof reason === 'string' ? { kind: 'file', reason } : {
      kind: 'tpm', authority: asBytes(get(HEADER.authority), AUTHORITY.publicBytes), revocation: asCount(get(HEADER.revocation)),
      names: { parent: asBytes(get(HEADER.parent), NAME_BYTES), attestationKey: asBytes(get(HEADER.attestationKey), NAME_BYTES) },
    },
  };
}

function sealedOf(key: unknown): SealedSecret {
  const [publicArea, privateArea] = Array.isArray(key) ? (key as readonly unknown[]) : [];
  if (!(publicArea instanceof Uint8Array) || !(privateArea instanceof Uint8Array)) throw damaged('its sealed key is no pair');
  return { publicArea, privateArea };
}

function asBytes(value: unknown, sizeBytes: number): Uint8Array {
  if (!(value instanceof Uint8Array) || value.length !== sizeBytes) throw damaged('a part has the wrong form');
  return value;
}

function decoded(bytes: Uint8Array): Cbor {
  try {
    return decodeCbor(bytes);
  } catch (cause) {
    throw new TenzroError('identity.damaged', 'sealed.cbor does not decode', { cause });
  }
}

function asCount(value: unknown): bigint {
  if (typeof value !== 'number' && typeof value !== 'bigint') throw damaged('its revocation is no count');
  return BigInt(value);
}

const damaged = (why: string): TenzroError => new TenzroError('identity.damaged', `sealed.cbor: ${why}`);
