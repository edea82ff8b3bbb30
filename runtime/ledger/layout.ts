/** How the chain lies on disk: directories, LMDB databases, keys and small values. Pure; docs/reference/store.md is its reference. */
import { join } from 'node:path';
import { asBuffer, u64be } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { EPOCH_BODY, type Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';

/** Version of everything in this file. A store with a higher one is left untouched. */
const FORMAT_VERSION = 1;

export const DATABASES = ['segments', 'tiles', 'blocks', 'meta', 'cursors', 'pending'] as const;
export type DbName = (typeof DATABASES)[number];

/** One put (or removal, without a value) of a transaction. */
export interface Change {
  readonly db: DbName;
  readonly key: Uint8Array;
  readonly value?: Uint8Array;
}

export interface LedgerPaths {
  readonly root: string;
  /** The LMDB environment of the living chain. */
  readonly chain: string;
  readonly quarantine: string;
  readonly lock: string;
}

export function ledgerPaths(dataDir: string): LedgerPaths {
  const root = join(dataDir, 'ledger');
  return { root, chain: join(root, 'chain'), quarantine: join(root, 'quarantine'), lock: join(root, 'writer.lock') };
}

/** Names inside a chain's directory. */
export const CHAIN_FILE = {
  data: 'data.mdb',
  /** Written by the writer when the store contradicts itself while it runs: the next start quarantines the chain. */
  suspect: 'suspect.cbor',
  /** Why a quarantined chain was set aside. */
  found: 'found.cbor',
} as const;

export const segmentKey = (first: number): Buffer => u64be(first);
export const blockKey = (sequence: number): Buffer => u64be(sequence);
export const cursorKey = (name: string): Buffer => Buffer.from(name, 'utf8');
export const STATE_KEY: Buffer = Buffer.from('state');
export const PENDING_KEY: Buffer = Buffer.from('block');
/** Level (one byte), then index (u64). */
export const tileKey = (level: number, index: number): Buffer => Buffer.concat([Uint8Array.of(level), u64be(index)]);

/** A u64 that is a safe integer. Throws `ledger.corrupt`. */
export function readU64(bytes: Uint8Array, at = 0): number {
  const value = bytes.length === at + 8 ? Number(asBuffer(bytes).readBigUInt64BE(at)) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw corrupt(`${bytes.length} bytes are not an index`);
  return value;
}

/** The one record of database `meta`. */
export interface ChainState {
  /** Counts starts of the writer on this chain, from 1. */
  readonly bootEpoch: number;
  /** The last writer stopped in order. */
  readonly isClean: boolean;
  /** Index of the oldest entry that was not pruned. */
  readonly oldest: number;
  readonly lastBlock?: { readonly sequence: number; readonly pcrAfter?: Uint8Array; readonly resetCount?: number };
}

const STATE = { format: 1, bootEpoch: 2, isClean: 3, oldest: 4, sequence: 5, pcrAfter: 6, resetCount: 7 } as const;

export function encodeState(state: ChainState): Buffer {
  const map = new Map<number, Cbor>([[STATE.format, FORMAT_VERSION], [STATE.bootEpoch, state.bootEpoch], [STATE.isClean, state.isClean], [STATE.oldest, state.oldest]]);
  if (state.lastBlock) {
    map.set(STATE.sequence, state.lastBlock.sequence);
    if (state.lastBlock.pcrAfter) map.set(STATE.pcrAfter, state.lastBlock.pcrAfter);
    if (state.lastBlock.resetCount !== undefined) map.set(STATE.resetCount, state.lastBlock.resetCount);
  }
  return encodeCbor(map);
}

/** Throws `ledger.newer_version` before anything else is looked at, and `ledger.corrupt`. */
export function decodeState(bytes: Uint8Array): ChainState {
  const map = decodeMap(bytes, 'the state record');
  const format = map.get(STATE.format);
  if (typeof format === 'number' && format > FORMAT_VERSION) throw new TenzroError('ledger.newer_version', `the chain has format ${format}, this version reads up to ${FORMAT_VERSION}`);
  const [bootEpoch, isClean, oldest] = [map.get(STATE.bootEpoch), map.get(STATE.isClean), map.get(STATE.oldest)];
  const [sequence, pcrAfter, resetCount] = [map.get(STATE.sequence), map.get(STATE.pcrAfter), map.get(STATE.resetCount)];
  if (format !== FORMAT_VERSION || typeof bootEpoch !== 'number' || typeof isClean !== 'boolean' || typeof oldest !== 'number') throw corrupt('the state record does not fit');
  if (sequence === undefined) return { bootEpoch, isClean, oldest };
  if (typeof sequence !== 'number') throw corrupt('the state record does not fit');
  return {
    bootEpoch, isClean, oldest,
    lastBlock: { sequence, ...(pcrAfter instanceof Uint8Array ? { pcrAfter } : {}), ...(typeof resetCount === 'number' ? { resetCount } : {}) },
  };
}

/** Value of database `blocks`. */
export interface BlockRecord {
  readonly payload: Uint8Array;
  readonly cose: Uint8Array;
  readonly evidence: Uint8Array;
}

export const encodeBlockRecord = ({ payload, cose, evidence }: BlockRecord): Buffer => encodeCbor([payload, cose, evidence]);

/** Throws `ledger.corrupt`. */
export function decodeBlockRecord(bytes: Uint8Array): BlockRecord {
  const parts = decodeOr(bytes, 'a block record');
  const [payload, cose, evidence] = Array.isArray(parts) ? (parts as readonly Cbor[]) : [];
  if (!(payload instanceof Uint8Array) || !(cose instanceof Uint8Array) || !(evidence instanceof Uint8Array)) throw corrupt('a block record does not fit');
  return { payload, cose, evidence };
}

/** What was found wrong with a chain: written beside it, and the body of the new chain's first entry. */
export interface Finding {
  readonly code: string;
  readonly detail: string;
  readonly chainId?: Uint8Array;
  readonly lastBlockHash?: Uint8Array;
}

export function findingBody(finding: Finding): Map<number, Cbor> {
  const map = new Map<number, Cbor>([[EPOCH_BODY.code, finding.code], [EPOCH_BODY.detail, finding.detail]]);
  if (finding.chainId) map.set(EPOCH_BODY.chainId, finding.chainId);
  if (finding.lastBlockHash) map.set(EPOCH_BODY.lastBlockHash, finding.lastBlockHash);
  return map;
}

/** Tolerant: a damaged note is itself told as a finding. */
export function readFinding(bytes: Uint8Array): Finding {
  const map = decodeMap(bytes, 'the finding');
  const [code, detail, chainId, lastBlockHash] = [map.get(EPOCH_BODY.code), map.get(EPOCH_BODY.detail), map.get(EPOCH_BODY.chainId), map.get(EPOCH_BODY.lastBlockHash)];
  return {
    code: typeof code === 'string' ? code : 'ledger.corrupt', detail: typeof detail === 'string' ? detail : 'unknown',
    ...(chainId instanceof Uint8Array ? { chainId } : {}), ...(lastBlockHash instanceof Uint8Array ? { lastBlockHash } : {}),
  };
}

function decodeMap(bytes: Uint8Array, what: string): ReadonlyMap<number, Cbor> {
  const value = decodeOr(bytes, what);
  if (!(value instanceof Map)) throw corrupt(`${what} is not a map`);
  return value as ReadonlyMap<number, Cbor>;
}

function decodeOr(bytes: Uint8Array, what: string): Cbor {
  try {
    return decodeCbor(bytes);
  } catch (cause) {
    throw new TenzroError('ledger.corrupt', `${what} does not decode`, { cause });
  }
}

const corrupt = (why: string): TenzroError => new TenzroError('ledger.corrupt', why);
