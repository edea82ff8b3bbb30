/**
 * A block says: at this moment the log of this chain has `treeSize` leaves and this root. Pure codec; docs/reference/block-format.md is its
 * reference. The payload is deterministic CBOR with integer keys, signed as COSE_Sign1 (see crypto/cose.ts).
 */
import { TenzroError } from '#runtime/core/errors.ts';
import type { Cbor } from '#runtime/core/types.ts';
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
  /** PCR 14 before this block's own extension, present on the first block after the TPM was reset (or PCR 14 was found changed by another). */
  readonly pcrStart?: Uint8Array;
  /** Genesis only. */
  readonly identity?: Identity;
}

/** Keys of the payload map. 10 (lease id) and 12 (previous receipt) are reserved by the design for what comes later. */
const KEY = { version: 1, chainId: 2, sequence: 3, previous: 4, time: 5, treeSize: 6, root: 7, software: 8, bootEpoch: 9, models: 11, pcrStart: 13, identity: 14 } as const;
const ID_KEY = { signingKey: 1, akPublic: 2, ekPublic: 3, ekCertificate: 4 } as const;

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
  if (block.pcrStart) map.set(KEY.pcrStart, block.pcrStart);
  if (block.identity) map.set(KEY.identity, encodeIdentity(block.identity));
  return encodeCbor(map);
}

function encodeIdentity(identity: Identity): ReadonlyMap<number, Cbor> {
  const map = new Map<number, Cbor>([[ID_KEY.signingKey, identity.signingKey]]);
  if (identity.akPublic) map.set(ID_KEY.akPublic, identity.akPublic);
  if (identity.ekPublic) map.set(ID_KEY.ekPublic, identity.ekPublic);
  if (identity.ekCertificate) map.set(ID_KEY.ekCertificate, identity.ekCertificate);
  return map;
}

/** Throws `block.malformed` or `cbor.malformed`. Unknown keys are refused: version 1 has none. */
export function decodeBlock(payload: Uint8Array): BlockPayload {
  const map = asMap(decodeCbor(payload), 'payload');
  const known = new Set<number>(Object.values(KEY));
  for (const key of map.keys()) if (!known.has(key)) throw malformed(`unknown key ${key}`);
  if (map.get(KEY.version) !== BLOCK_VERSION) throw malformed(`not of version ${BLOCK_VERSION}`);
  const models = map.get(KEY.models);
  if (!Array.isArray(models)) throw malformed('model digests are not a list');
  const chainId = map.get(KEY.chainId);
  const pcrStart = map.get(KEY.pcrStart);
  const identity = map.get(KEY.identity);
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
    ...(pcrStart === undefined ? {} : { pcrStart: asHash(pcrStart, 'PCR start') }),
    ...(identity === undefined ? {} : { identity: decodeIdentity(identity) }),
  };
}

function decodeIdentity(value: Cbor): Identity {
  const map = asMap(value, 'identity');
  const known = new Set<number>(Object.values(ID_KEY));
  for (const key of map.keys()) if (!known.has(key)) throw malformed(`unknown identity key ${key}`);
  const optional = (key: number, name: string): Uint8Array | undefined => (map.has(key) ? asBytes(map.get(key), name) : undefined);
  const akPublic = optional(ID_KEY.akPublic, 'AK public');
  const ekPublic = optional(ID_KEY.ekPublic, 'EK public');
  const ekCertificate = optional(ID_KEY.ekCertificate, 'EK certificate');
  return {
    signingKey: asBytes(map.get(ID_KEY.signingKey), 'signing key'),
    ...(akPublic ? { akPublic } : {}), ...(ekPublic ? { ekPublic } : {}), ...(ekCertificate ? { ekCertificate } : {}),
  };
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
function asCount(value: Cbor | undefined, name: string): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw malformed(`${name} is not a non-negative integer`);
  return value;
}

const malformed = (why: string): TenzroError => new TenzroError('block.malformed', `block: ${why}`);
