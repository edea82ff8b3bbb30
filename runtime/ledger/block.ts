/**
 * A block says: at this moment the log of this chain has `treeSize` leaves and this root. Pure codec; docs/reference/block-format.md is its
 * reference. The payload is deterministic CBOR with integer keys, signed as COSE_Sign1 (see crypto/cose.ts).
 */
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Cbor, Maybe } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { sha256 } from '#runtime/crypto/hash.ts';

const BLOCK_VERSION = 1;
const BLOCK_DOMAIN = Buffer.from('tenzro/block/1', 'utf8');
export const HASH_BYTES = 32;
export const ZERO_HASH: Uint8Array = new Uint8Array(HASH_BYTES);

export interface Identity {
  /** ML-DSA-65 public key, 1952 bytes. */
  readonly signingKey: Uint8Array;
  /** TPMT_PUBLIC of the attestation key; absent on a chain that began without a TPM. */
  readonly akPublic?: Uint8Array;
  /** TPMT_PUBLIC of the endorsement key. */
  readonly ekPublic?: Uint8Array;
  /** X.509 DER, where the TPM holds one. */
  readonly ekCertificate?: Uint8Array;
  /** X.509 DER of its issuers, in any order, where the TPM or its owner keeps them. */
  readonly ekChain?: readonly Uint8Array[];
  /** X-Wing public key (X25519 with ML-KEM-768), 1216 bytes: what is sealed to this gateway. */
  readonly exchangeKey?: Uint8Array;
}

/**
 * Entries that a verifier of this block wants to see beside those it asked for: their places in the log. A proof carries them along.
 * An index at or beyond `treeSize` is covered by a later block only.
 */
export interface Support {
  /** The enroller's word on the identity. */
  readonly enrolment?: number;
  /** The lease that the block names. */
  readonly lease?: number;
  /** The TCG event log of this boot. */
  readonly bootLog?: number;
  /** The chunks of IMA's measurement list of this boot, in order. */
  readonly imaLog?: readonly number[];
  /** The software measurement in force. */
  readonly software?: number;
}

/** Where the NV counter stands in a chain: at the last block that counts (see anchors.ts). */
export interface AnchorMark {
  readonly sequence: number;
  /** The counter's value that this block certified; it was incremented afterwards. */
  readonly counter: bigint;
  /** Increments from the chain's first anchor to this one that no block names. */
  readonly missing: bigint;
}

export interface BlockPayload {
  /** SHA-256 of the genesis payload; undefined only in the genesis itself. */
  readonly chainId?: Uint8Array;
  /** 0 is the genesis. */
  readonly sequence: number;
  /** `blockHash` of the previous payload; zeros in the genesis. */
  readonly previous: Uint8Array;
  readonly wallMicros: number;
  readonly treeSize: number;
  readonly root: Uint8Array;
  /** SHA-256 over the runtime's files. */
  readonly softwareDigest: Uint8Array;
  readonly bootEpoch: number;
  readonly modelDigests: readonly Uint8Array[];
  /** `value`: SHA-256 of the verifier's lease in force; `none`: why there is none. Absent where no verifier is configured. */
  readonly lease?: Maybe<Uint8Array>;
  /** A verifier's nonce: the block, and with it its quote and counter, was made after the challenge. */
  readonly challenge?: Uint8Array;
  /** SHA-256 of the controller's newest receipt; absent while there is none. */
  readonly receipt?: Uint8Array;
  readonly support?: Support;
  /** The last anchor before this block; absent while there is none. */
  readonly anchor?: AnchorMark;
  /** PCR 14 before this block's own extension, present on the first block after the TPM was reset (or PCR 14 was found changed by another). */
  readonly pcrStart?: Uint8Array;
  /** Genesis only. */
  readonly identity?: Identity;
}

/** Keys of the payload map. */
const KEY = {
  version: 1, chainId: 2, sequence: 3, previous: 4, time: 5, treeSize: 6, root: 7, software: 8, bootEpoch: 9, lease: 10, models: 11, receipt: 12, pcrStart: 13, identity: 14,
  challenge: 15, support: 16, anchor: 17,
} as const;
const ID_KEY = { signingKey: 1, akPublic: 2, ekPublic: 3, ekCertificate: 4, exchangeKey: 5, ekChain: 6 } as const;
const SUPPORT_KEY = { enrolment: 1, lease: 2, bootLog: 3, imaLog: 4, software: 5 } as const;
/** Room for any verifier's nonce (RFC 9711 §4.1 wants 8 to 64 bytes; below 16 it could repeat). */
export const NONCE_BYTES = { min: 16, max: 64 } as const;
const REASON_CHARACTERS_MAX = 512;
/** Chunks of IMA's list that a block may name; beyond, the list is recorded anew in larger ones. */
export const IMA_CHUNKS_MAX = 64;

/** `h`: what PCR 14 is extended with, what the quote's extraData carries, what the next block names as previous. */
export const blockHash = (payload: Uint8Array): Buffer => sha256(BLOCK_DOMAIN, payload);
/** PCR extension: new = SHA-256(old ‖ digest), TPM 2.0 Part 1 §17 (PCR operations). */
export const foldPcr = (pcr: Uint8Array, digest: Uint8Array): Buffer => sha256(pcr, digest);
export const chainIdOf = (genesisPayload: Uint8Array): Buffer => sha256(genesisPayload);

export function encodeBlock(block: BlockPayload): Buffer {
  const map = new Map<number, Cbor>([
    [KEY.version, BLOCK_VERSION], [KEY.sequence, block.sequence], [KEY.previous, block.previous], [KEY.time, block.wallMicros],
    [KEY.treeSize, block.treeSize], [KEY.root, block.root], [KEY.software, block.softwareDigest], [KEY.bootEpoch, block.bootEpoch], [KEY.models, [...block.modelDigests]],
  ]);
  if (block.chainId) map.set(KEY.chainId, block.chainId);
  if (block.lease) map.set(KEY.lease, block.lease.kind === 'value' ? block.lease.value : block.lease.reason.slice(0, REASON_CHARACTERS_MAX));
  if (block.challenge) map.set(KEY.challenge, block.challenge);
  if (block.receipt) map.set(KEY.receipt, block.receipt);
  if (block.support) map.set(KEY.support, encodeSupport(block.support));
  if (block.anchor) map.set(KEY.anchor, [block.anchor.sequence, block.anchor.counter, block.anchor.missing]);
  if (block.pcrStart) map.set(KEY.pcrStart, block.pcrStart);
  if (block.identity) map.set(KEY.identity, encodeIdentity(block.identity));
  return encodeCbor(map);
}

function encodeIdentity(identity: Identity): ReadonlyMap<number, Cbor> {
  const map = new Map<number, Cbor>([[ID_KEY.signingKey, identity.signingKey]]);
  if (identity.akPublic) map.set(ID_KEY.akPublic, identity.akPublic);
  if (identity.ekPublic) map.set(ID_KEY.ekPublic, identity.ekPublic);
  if (identity.ekCertificate) map.set(ID_KEY.ekCertificate, identity.ekCertificate);
  if (identity.exchangeKey) map.set(ID_KEY.exchangeKey, identity.exchangeKey);
  if (identity.ekChain && identity.ekChain.length > 0) map.set(ID_KEY.ekChain, [...identity.ekChain]);
  return map;
}

function encodeSupport({ enrolment, lease, bootLog, imaLog, software }: Support): ReadonlyMap<number, Cbor> {
  const map = new Map<number, Cbor>();
  if (enrolment !== undefined) map.set(SUPPORT_KEY.enrolment, enrolment);
  if (lease !== undefined) map.set(SUPPORT_KEY.lease, lease);
  if (bootLog !== undefined) map.set(SUPPORT_KEY.bootLog, bootLog);
  if (imaLog !== undefined) map.set(SUPPORT_KEY.imaLog, [...imaLog]);
  if (software !== undefined) map.set(SUPPORT_KEY.software, software);
  return map;
}

/** Throws `block.malformed` or `cbor.malformed`. Unknown keys are refused: version 1 has none. */
export function decodeBlock(payload: Uint8Array): BlockPayload {
  const map = asMap(decodeCbor(payload), 'payload');
  expectKeys(map, KEY, 'key');
  if (map.get(KEY.version) !== BLOCK_VERSION) throw malformed(`not of version ${BLOCK_VERSION}`);
  const models = map.get(KEY.models);
  if (!Array.isArray(models)) throw malformed('model digests are not a list');
  const chainId = map.get(KEY.chainId);
  const pcrStart = map.get(KEY.pcrStart);
  const identity = map.get(KEY.identity);
  const challenge = map.get(KEY.challenge);
  const receipt = map.get(KEY.receipt);
  const support = map.get(KEY.support);
  const anchor = map.get(KEY.anchor);
  return {
    sequence: asCount(map.get(KEY.sequence), 'sequence'),
    previous: asHash(map.get(KEY.previous), 'previous'),
    wallMicros: asCount(map.get(KEY.time), 'time'),
    treeSize: asCount(map.get(KEY.treeSize), 'tree size'),
    root: asHash(map.get(KEY.root), 'root'),
    softwareDigest: asHash(map.get(KEY.software), 'software digest'),
    bootEpoch: asCount(map.get(KEY.bootEpoch), 'boot epoch'),
    modelDigests: (models as readonly Cbor[]).map((digest) => asHash(digest, 'model digest')),
    ...(chainId === undefined ? {} : { chainId: asHash(chainId, 'chain id') }),
    ...(map.has(KEY.lease) ? { lease: decodeLease(map.get(KEY.lease)) } : {}),
    ...(challenge === undefined ? {} : { challenge: asNonce(challenge) }),
    ...(receipt === undefined ? {} : { receipt: asHash(receipt, 'receipt') }),
    ...(support === undefined ? {} : { support: decodeSupport(support) }),
    ...(anchor === undefined ? {} : { anchor: decodeAnchor(anchor) }),
    ...(pcrStart === undefined ? {} : { pcrStart: asHash(pcrStart, 'PCR start') }),
    ...(identity === undefined ? {} : { identity: decodeIdentity(identity) }),
  };
}

function decodeIdentity(value: Cbor): Identity {
  const map = asMap(value, 'identity');
  expectKeys(map, ID_KEY, 'identity key');
  const optional = (key: number, name: string): Uint8Array | undefined => (map.has(key) ? asBytes(map.get(key), name) : undefined);
  const akPublic = optional(ID_KEY.akPublic, 'AK public');
  const ekPublic = optional(ID_KEY.ekPublic, 'EK public');
  const ekCertificate = optional(ID_KEY.ekCertificate, 'EK certificate');
  const exchangeKey = optional(ID_KEY.exchangeKey, 'exchange key');
  const ekChain = map.has(ID_KEY.ekChain) ? asChain(map.get(ID_KEY.ekChain)) : undefined;
  return {
    signingKey: asBytes(map.get(ID_KEY.signingKey), 'signing key'),
    ...(akPublic ? { akPublic } : {}), ...(ekPublic ? { ekPublic } : {}), ...(ekCertificate ? { ekCertificate } : {}),
    ...(exchangeKey ? { exchangeKey } : {}), ...(ekChain ? { ekChain } : {}),
  };
}

function asChain(value: Cbor | undefined): readonly Uint8Array[] {
  if (!Array.isArray(value) || value.length === 0 || value.length >= LIMITS.ekCertificatesMax) throw malformed(`the EK's issuers are not a list of 1 to ${LIMITS.ekCertificatesMax - 1}`);
  return (value as readonly Cbor[]).map((certificate) => asBytes(certificate, 'issuer of the EK'));
}

function decodeLease(value: Cbor | undefined): Maybe<Uint8Array> {
  if (typeof value !== 'string') return { kind: 'value', value: asHash(value, 'lease') };
  if (value.length > REASON_CHARACTERS_MAX) throw malformed(`the lease's reason has more than ${REASON_CHARACTERS_MAX} characters`);
  return { kind: 'none', reason: value };
}

function decodeAnchor(value: Cbor): AnchorMark {
  const parts = Array.isArray(value) ? (value as readonly Cbor[]) : [];
  if (parts.length !== 3) throw malformed('the anchor is not a list of three');
  return { sequence: asCount(parts[0], 'anchor'), counter: asU64(parts[1], 'anchor counter'), missing: asU64(parts[2], 'missing increments') };
}

function decodeSupport(value: Cbor): Support {
  const map = asMap(value, 'support');
  expectKeys(map, SUPPORT_KEY, 'support key');
  const index = (key: number, name: string): number | undefined => (map.has(key) ? asCount(map.get(key), name) : undefined);
  const chunks = map.get(SUPPORT_KEY.imaLog);
  if (chunks !== undefined && (!Array.isArray(chunks) || chunks.length > IMA_CHUNKS_MAX)) throw malformed(`the IMA log is not a list of at most ${IMA_CHUNKS_MAX} places`);
  const [enrolment, lease, bootLog, software] = [index(SUPPORT_KEY.enrolment, 'enrolment'), index(SUPPORT_KEY.lease, 'lease'), index(SUPPORT_KEY.bootLog, 'boot log'), index(SUPPORT_KEY.software, 'software')];
  return {
    ...(enrolment === undefined ? {} : { enrolment }), ...(lease === undefined ? {} : { lease }), ...(bootLog === undefined ? {} : { bootLog }),
    ...(chunks === undefined ? {} : { imaLog: (chunks as readonly Cbor[]).map((chunk) => asCount(chunk, 'IMA chunk')) }), ...(software === undefined ? {} : { software }),
  };
}

function expectKeys(map: ReadonlyMap<number, Cbor>, keys: Readonly<Record<string, number>>, name: string): void {
  const known = new Set(Object.values(keys));
  for (const key of map.keys()) if (!known.has(key)) throw malformed(`unknown ${name} ${key}`);
}

function asMap(value: Cbor | undefined, name: string): ReadonlyMap<number, Cbor> {
  if (!(value instanceof Map)) throw malformed(`${name} is not a map`);
  return value as ReadonlyMap<number, Cbor>;
}
function asBytes(value: Cbor | undefined, name: string): Uint8Array {
  if (!(value instanceof Uint8Array)) throw malformed(`${name} is not a byte string`);
  return value;
}
function asHash(value: Cbor | undefined, name: string): Uint8Array {
  const bytes = asBytes(value, name);
  if (bytes.length !== HASH_BYTES) throw malformed(`${name} has ${bytes.length} bytes, not ${HASH_BYTES}`);
  return bytes;
}
function asNonce(value: Cbor): Uint8Array {
  const bytes = asBytes(value, 'challenge');
  if (bytes.length < NONCE_BYTES.min || bytes.length > NONCE_BYTES.max) throw malformed(`a challenge of ${bytes.length} bytes, not ${NONCE_BYTES.min} to ${NONCE_BYTES.max}`);
  return bytes;
}
function asCount(value: Cbor | undefined, name: string): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw malformed(`${name} is not a non-negative integer`);
  return value;
}
/** CBOR of 64 bits decodes to a number where that is exact. */
function asU64(value: Cbor | undefined, name: string): bigint {
  if (typeof value === 'bigint' && value >= 0n) return value;
  return BigInt(asCount(value, name));
}

const malformed = (why: string): TenzroError => new TenzroError('block.malformed', `block: ${why}`);
