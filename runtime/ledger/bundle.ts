/**
 * The proof bundle: one file with everything that an offline verifier needs. Pure codec; docs/reference/proof-bundle.md is its reference.
 * File: `["tenzro-proof", SHA-256 of body, body]`; the body is a deterministic CBOR map. One bundle has one encoding.
 */
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { equalBytes } from '#runtime/core/bytes.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { HASH_BYTES } from './block.ts';

export const BUNDLE_MAGIC = 'tenzro-proof';
const BUNDLE_VERSION = 1;
/** A tree of fewer than 2^53 leaves has paths of at most 53 hashes (RFC 9162 §2.1.3). */
const PATH_HASHES_MAX = 53;

/** A block as it was sealed: its COSE_Sign1 and its evidence, byte for byte. */
export interface BundleBlock {
  readonly cose: Uint8Array;
  readonly evidence: Uint8Array;
}

export interface BundleEntry {
  /** Position in the log, from 0. */
  readonly index: number;
  /** The exact leaf bytes. */
  readonly bytes: Uint8Array;
  /** RFC 9162 §2.1.3.1 inclusion path in the head block's tree, leaf side first; 32 bytes each. */
  readonly path: readonly Uint8Array[];
}

/** The counter's certification in an anchor between start and head: with its link, enough to judge that anchor. */
export interface LinkAnchor {
  readonly sequence: number;
  /** TPMS_ATTEST, raw. */
  readonly attest: Uint8Array;
  /** TPMT_SIGNATURE, raw. */
  readonly signature: Uint8Array;
}

/** RFC 9162 §2.1.4.1: the log of `fromSize` entries is the beginning of the head's. */
export interface BundleConsistency {
  readonly fromSize: number;
  /** 32 bytes each. */
  readonly path: readonly Uint8Array[];
}

export interface Bundle {
  /** At least one, indices strictly ascending. */
  readonly entries: readonly BundleEntry[];
  readonly genesis: BundleBlock;
  /** Where the PCR 14 fold begins; absent when that is the genesis or the head itself. */
  readonly start?: BundleBlock;
  /** Payloads of every block between start (else genesis) and head, oldest first. */
  readonly links: readonly Uint8Array[];
  /** Of the anchors among the links, sequences strictly ascending. */
  readonly anchors: readonly LinkAnchor[];
  /** First block that covers the entries, or the block that answers a challenge; absent when that is the genesis. */
  readonly head?: BundleBlock;
  /** Only in an answer to a challenge that asked for more blocks than fit. */
  readonly consistency?: BundleConsistency;
  /** Of fleets that had blocks of the segment, COSE_Sign1 as they gave them; absent where there is none. */
  readonly receipts?: readonly Uint8Array[];
}

const KEY = { version: 1, entries: 2, genesis: 3, start: 4, links: 5, head: 6, anchors: 7, consistency: 8, receipts: 9 } as const;
/** As many as a gateway may have upstreams, and one owner. */
const RECEIPTS_MAX = 16;

/** Throws `bundle.too_large` for what `decodeBundleBody` would refuse. */
export function encodeBundle(bundle: Bundle): Buffer {
  const blockOf = ({ cose, evidence }: BundleBlock): Cbor => [cose, evidence];
  const map = new Map<number, Cbor>([
    [KEY.version, BUNDLE_VERSION],
    [KEY.entries, bundle.entries.map(({ index, bytes, path }) => [index, bytes, [...path]])],
    [KEY.genesis, blockOf(bundle.genesis)],
    [KEY.links, [...bundle.links]],
  ]);
  if (bundle.start) map.set(KEY.start, blockOf(bundle.start));
  if (bundle.head) map.set(KEY.head, blockOf(bundle.head));
  if (bundle.anchors.length > 0) map.set(KEY.anchors, bundle.anchors.map(({ sequence, attest, signature }) => [sequence, attest, signature]));
  if (bundle.consistency) map.set(KEY.consistency, [bundle.consistency.fromSize, [...bundle.consistency.path]]);
  if (bundle.receipts) map.set(KEY.receipts, [...bundle.receipts]);
  const body = encodeCbor(map);
  if (countItems([body]) > LIMITS.bundleItemsMax || countItems(bundle.entries.map(({ bytes }) => bytes)) > LIMITS.bundleItemsMax) throw tooLarge(`more than ${LIMITS.bundleItemsMax} CBOR items`);
  const file = encodeCbor([BUNDLE_MAGIC, sha256(body), body]);
  if (file.length > LIMITS.bundleBytesMax) throw tooLarge(`${file.length} bytes, more than ${LIMITS.bundleBytesMax}`);
  return file;
}

/** The envelope only. `intact`: the digest fits the body. Throws `bundle.malformed` or `cbor.malformed`. */
export function openBundle(file: Uint8Array): { readonly body: Uint8Array; readonly intact: boolean } {
  if (file.length > LIMITS.bundleBytesMax) throw malformed(`${file.length} bytes, more than ${LIMITS.bundleBytesMax}`);
  const parts = decodeCbor(file);
  if (!isList(parts) || parts.length !== 3 || parts[0] !== BUNDLE_MAGIC) throw malformed(`does not begin with "${BUNDLE_MAGIC}"`);
  const digest = asBytes(parts[1], 'digest');
  const body = asBytes(parts[2], 'body');
  return { body, intact: equalBytes(digest, sha256(body)) };
}

/** Throws `bundle.malformed`, `cbor.malformed`, or `bundle.newer_version` for a version that this program does not know. */
export function decodeBundleBody(body: Uint8Array): Bundle {
  if (countItems([body]) > LIMITS.bundleItemsMax) throw malformed(`more than ${LIMITS.bundleItemsMax} CBOR items`);
  const map = decodeCbor(body);
  if (!(map instanceof Map)) throw malformed('the body is not a map');
  const fields = map as ReadonlyMap<number, Cbor>;
  const version = fields.get(KEY.version);
  if (typeof version === 'number' && version > BUNDLE_VERSION) throw new TenzroError('bundle.newer_version', `proof bundle of version ${version}; this program reads version ${BUNDLE_VERSION}`);
  if (version !== BUNDLE_VERSION) throw malformed('no version');
  const known = new Set<number>(Object.values(KEY));
  for (const key of fields.keys()) if (!known.has(key)) throw malformed(`unknown key ${String(key)}`);
  const start = fields.get(KEY.start);
  const head = fields.get(KEY.head);
  const consistency = fields.get(KEY.consistency);
  const receipts = fields.get(KEY.receipts);
  return {
    entries: decodeEntries(fields.get(KEY.entries)),
    genesis: decodeBlockPair(fields.get(KEY.genesis), 'genesis'),
    links: decodeLinks(fields.get(KEY.links)),
    anchors: fields.has(KEY.anchors) ? decodeAnchors(fields.get(KEY.anchors)) : [],
    ...(start === undefined ? {} : { start: decodeBlockPair(start, 'start') }),
    ...(head === undefined ? {} : { head: decodeBlockPair(head, 'head') }),
    ...(consistency === undefined ? {} : { consistency: decodeConsistency(consistency) }),
    ...(receipts === undefined ? {} : { receipts: decodeReceipts(receipts) }),
  };
}

function decodeReceipts(value: Cbor): readonly Uint8Array[] {
  if (!isList(value) || value.length === 0 || value.length > RECEIPTS_MAX) throw malformed(`receipts are not a list of 1 to ${RECEIPTS_MAX}`);
  return value.map((receipt, at) => asBlockBytes(receipt, `receipt ${at}`));
}

function decodeEntries(value: Cbor | undefined): readonly BundleEntry[] {
  if (!isList(value) || value.length === 0) throw malformed('no entries');
  let last = -1;
  const entries = value.map((item) => {
    const parts = isList(item) && item.length === 3 ? item : [];
    const [index, bytes, path] = parts;
    if (typeof index !== 'number' || !Number.isSafeInteger(index) || index <= last) throw malformed('entry indices are not strictly ascending');
    last = index;
    if (!isList(path) || path.length > PATH_HASHES_MAX) throw malformed(`entry ${index}: no path, or one of more than ${PATH_HASHES_MAX} hashes`);
    const leaf = asBytes(bytes, `entry ${index}`);
    if (leaf.length > LIMITS.entryBytesMax) throw malformed(`entry ${index} has ${leaf.length} bytes, more than ${LIMITS.entryBytesMax}`);
    return { index, bytes: leaf, path: path.map((hash) => asHash(hash, `entry ${index}: path`)) };
  });
  if (countItems(entries.map(({ bytes }) => bytes)) > LIMITS.bundleItemsMax) throw malformed(`more than ${LIMITS.bundleItemsMax} CBOR items in its entries`);
  return entries;
}

function decodeBlockPair(value: Cbor | undefined, name: string): BundleBlock {
  if (!isList(value) || value.length !== 2) throw malformed(`${name} is not a pair of block and evidence`);
  return { cose: asBlockBytes(value[0], `${name} block`), evidence: asBlockBytes(value[1], `${name} evidence`) };
}

function decodeLinks(value: Cbor | undefined): readonly Uint8Array[] {
  if (!isList(value) || value.length > LIMITS.proofLinksMax) throw malformed(`links are not a list of at most ${LIMITS.proofLinksMax} payloads`);
  return value.map((link, i) => asBlockBytes(link, `link ${i}`));
}

/** Never empty: one bundle has one encoding. */
function decodeAnchors(value: Cbor | undefined): readonly LinkAnchor[] {
  if (!isList(value) || value.length === 0 || value.length > LIMITS.proofLinksMax) throw malformed(`anchors are not a list of 1 to ${LIMITS.proofLinksMax}`);
  let last = 0;
  return value.map((item) => {
    const [sequence, attest, signature] = isList(item) && item.length === 3 ? item : [];
    if (typeof sequence !== 'number' || !Number.isSafeInteger(sequence) || sequence <= last) throw malformed('anchors are not in strictly ascending order');
    last = sequence;
    return { sequence, attest: asBlockBytes(attest, `anchor ${sequence}`), signature: asBlockBytes(signature, `anchor ${sequence}`) };
  });
}

function decodeConsistency(value: Cbor): BundleConsistency {
  const [fromSize, path] = isList(value) && value.length === 2 ? value : [];
  if (typeof fromSize !== 'number' || !Number.isSafeInteger(fromSize) || fromSize < 0) throw malformed('consistency from no size');
  if (!isList(path) || path.length > PATH_HASHES_MAX + 1) throw malformed(`consistency has no path, or one of more than ${PATH_HASHES_MAX + 1} hashes`);
  return { fromSize, path: path.map((hash) => asHash(hash, 'consistency')) };
}

/** Walks the item heads (RFC 8949 §3) without building anything: what would decode to too many objects is refused first. Stops beyond the bound. */
export function countItems(texts: readonly Uint8Array[]): number {
  let items = 0;
  for (const bytes of texts) {
    for (let at = 0; at < bytes.length && items <= LIMITS.bundleItemsMax; items++) {
      const head = bytes[at] ?? 0;
      const major = head >> 5;
      const extraBytes = (head & 31) < 24 ? 0 : 1 << ((head & 31) - 24);
      let argument = extraBytes === 0 ? head & 31 : 0;
      for (let i = 1; i <= extraBytes; i++) argument = argument * 256 + (bytes[at + i] ?? 0);
      const isString = major === 2 || major === 3;
      at += 1 + extraBytes + (isString ? argument : 0);
    }
  }
  return items;
}

const isList = (value: Cbor | undefined): value is readonly Cbor[] => Array.isArray(value);

function asBytes(value: Cbor | undefined, name: string): Uint8Array {
  if (!(value instanceof Uint8Array)) throw malformed(`${name} is not a byte string`);
  return value;
}

function asBlockBytes(value: Cbor | undefined, name: string): Uint8Array {
  const bytes = asBytes(value, name);
  if (bytes.length > LIMITS.blockBytesMax) throw malformed(`${name} has ${bytes.length} bytes, more than ${LIMITS.blockBytesMax}`);
  return bytes;
}

function asHash(value: Cbor | undefined, name: string): Uint8Array {
  const bytes = asBytes(value, name);
  if (bytes.length !== HASH_BYTES) throw malformed(`${name} has ${bytes.length} bytes, not ${HASH_BYTES}`);
  return bytes;
}

const tooLarge = (why: string): TenzroError => new TenzroError('bundle.too_large', `proof bundle: ${why}`);
const malformed = (why: string): TenzroError => new TenzroError('bundle.malformed', `proof bundle: ${why}`);
