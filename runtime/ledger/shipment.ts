/**
 * A stretch of a chain on its way to the controller: leaves, and the blocks that cover them. An entry that does not leave the site is replaced by its leaf
 * hash, so that every root still comes out. Pure codec; docs/reference/uplink.md is its reference.
 */
import { deflateRaw, inflateRaw } from 'node:zlib';
import { promisify } from 'node:util';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { leafHash } from '#runtime/crypto/merkle.ts';
import { HASH_BYTES } from './block.ts';
import { countItems, type BundleBlock } from './bundle.ts';

/** An entry's exact bytes, or, where it stays on the site or was pruned, its leaf hash. */
export type Leaf = { readonly entry: Uint8Array } | { readonly hash: Uint8Array };

export interface Shipment {
  readonly chainId: Uint8Array;
  /** Index of the first leaf. */
  readonly first: number;
  readonly leaves: readonly Leaf[];
  /** In order. */
  readonly blocks: readonly BundleBlock[];
}

const VERSION = 1;
const KEY = { version: 1, chainId: 2, first: 3, leaves: 4, blocks: 5 } as const;
/** Two items per leaf, three per block, and the frame. */
const ITEMS_MAX = 2 * LIMITS.shipmentLeavesMax + 3 * LIMITS.shipmentBlocksMax + 16;
/** RFC 1951 with little effort: entries are alike, and the gateway has other work. */
const DEFLATE_LEVEL = 3;
const ABOUT_BYTES = 16;

const deflate = promisify(deflateRaw);
/** Not inflateRawSync: that keeps its state for ever when the bytes are bad (Node 24.21). */
const inflate = promisify(inflateRaw);

export const hashOfLeaf = (leaf: Leaf): Uint8Array => ('entry' in leaf ? leafHash(leaf.entry) : leaf.hash);

/** By what an answer names the shipment that it is about: 16 bytes. */
export const shipmentId = (packed: Uint8Array): Buffer => sha256(packed).subarray(0, ABOUT_BYTES);

export const encodeLeaves = (leaves: readonly Leaf[]): Cbor => leaves.map((leaf) => ('entry' in leaf ? leaf.entry : [leaf.hash]));

/** Deterministic CBOR, deflated. */
export async function packShipment({ chainId, first, leaves, blocks }: Shipment): Promise<Buffer> {
  const bytes = encodeCbor(new Map<number, Cbor>([
    [KEY.version, VERSION], [KEY.chainId, chainId], [KEY.first, first], [KEY.leaves, encodeLeaves(leaves)], [KEY.blocks, blocks.map(({ cose, evidence }) => [cose, evidence])],
  ]));
  return deflate(bytes, { level: DEFLATE_LEVEL });
}

/** Rejects with `uplink.shipment`, and `uplink.newer_version` for a version that this program does not know. */
export async function unpackShipment(packed: Uint8Array): Promise<Shipment> {
  if (packed.length > LIMITS.shipmentBytesMax) throw malformed(`${packed.length} bytes, more than ${LIMITS.shipmentBytesMax}`);
  return decodeShipment(await inflated(packed));
}

/** What was packed, inflated. Throws what `unpackShipment` rejects with. */
export function decodeShipment(bytes: Uint8Array): Shipment {
  if (countItems([bytes]) > ITEMS_MAX) throw malformed(`more than ${ITEMS_MAX} CBOR items`);
  const fields = fieldsOf(bytes);
  const version = fields.get(KEY.version);
  if (typeof version === 'number' && version > VERSION) throw new TenzroError('uplink.newer_version', `a shipment of version ${version}; this program reads version ${VERSION}`);
  if (version !== VERSION || fields.size !== Object.keys(KEY).length) throw malformed('its keys do not fit');
  const [chainId, first, blocks] = [fields.get(KEY.chainId), fields.get(KEY.first), fields.get(KEY.blocks)];
  if (!isHash(chainId)) throw malformed('the chain id is not a SHA-256');
  if (typeof first !== 'number' || !Number.isSafeInteger(first + LIMITS.shipmentLeavesMax) || first < 0) throw malformed('the first leaf has no index');
  if (!Array.isArray(blocks) || blocks.length > LIMITS.shipmentBlocksMax) throw malformed(`the blocks are not a list of at most ${LIMITS.shipmentBlocksMax}`);
  return { chainId, first, leaves: decodeLeaves(fields.get(KEY.leaves)), blocks: (blocks as readonly Cbor[]).map(blockOf) };
}

/** Throws `uplink.shipment`. */
export function decodeLeaves(value: Cbor | undefined): readonly Leaf[] {
  if (!Array.isArray(value) || value.length > LIMITS.shipmentLeavesMax) throw malformed(`the leaves are not a list of at most ${LIMITS.shipmentLeavesMax}`);
  return (value as readonly Cbor[]).map(leafOf);
}

function leafOf(value: Cbor): Leaf {
  if (value instanceof Uint8Array && value.length > 0 && value.length <= LIMITS.entryBytesMax) return { entry: value };
  const [hash, ...others] = Array.isArray(value) ? (value as readonly Cbor[]) : [];
  if (isHash(hash) && others.length === 0) return { hash };
  throw malformed(`a leaf is neither an entry of at most ${LIMITS.entryBytesMax} bytes nor a hash`);
}

function blockOf(value: Cbor): BundleBlock {
  const parts = Array.isArray(value) ? (value as readonly Cbor[]) : [];
  const [cose, evidence] = parts;
  if (parts.length !== 2 || !isBlockPart(cose) || !isBlockPart(evidence)) throw malformed('a block is not a pair of COSE_Sign1 and evidence');
  return { cose, evidence };
}

async function inflated(packed: Uint8Array): Promise<Buffer> {
  try {
    return await inflate(packed, { maxOutputLength: LIMITS.shipmentBytesMax });
  } catch (cause) {
    throw new TenzroError('uplink.shipment', `a shipment does not inflate: ${messageOf(cause)}`, { cause });
  }
}

function fieldsOf(bytes: Uint8Array): ReadonlyMap<number, Cbor> {
  let value: Cbor;
  try {
    value = decodeCbor(bytes);
  } catch (cause) {
    throw new TenzroError('uplink.shipment', messageOf(cause), { cause });
  }
  if (!(value instanceof Map)) throw malformed('not a map');
  return value as ReadonlyMap<number, Cbor>;
}

const isHash = (value: Cbor | undefined): value is Uint8Array => value instanceof Uint8Array && value.length === HASH_BYTES;
const isBlockPart = (value: Cbor | undefined): value is Uint8Array => value instanceof Uint8Array && value.length <= LIMITS.blockBytesMax;
const malformed = (why: string): TenzroError => new TenzroError('uplink.shipment', `shipment: ${why}`);
