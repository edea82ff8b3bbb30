/**
 * Reads a chain from any thread or process, a live gateway's too: what it returns is flushed. In the gateway's own process it is opened after the writer
 * said that it is ready (see store.ts). Every read is bounded: a segment or a tile at a time.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { BlockStore, LastBlock, LedgerReader, SealedBlock } from '#runtime/core/ports.ts';
import type { StoredEntry, TreeHead } from '#runtime/core/types.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { HASH_BYTES } from './block.ts';
import { checkDataFile } from './dataFile.ts';
import {
  blockKey, CHAIN_FILE, cursorKey, decodeBlockRecord, decodeState, ledgerPaths, PENDING_KEY, readU64, segmentKey, STATE_KEY, tileKey, type BlockRecord, type ChainState,
} from './layout.ts';
import { consistencyPath, inclusionPath, rootOf } from './merkle.ts';
import type { ProofSource } from './proofBuilder.ts';
import { Segment } from './segment.ts';
import { Store } from './store.ts';
import { nodesFrom, type TileSource } from './tiles.ts';

const TILES_CACHED_MAX = 64;

/** Throws `ledger.no_chain`, `ledger.permission`, `ledger.newer_version`, `ledger.corrupt`. */
export async function openReader(dataDir: string, options: { readonly mapBytes?: number } = {}): Promise<ChainReader> {
  const { chain } = ledgerPaths(dataDir);
  const data = join(chain, CHAIN_FILE.data);
  if (!existsSync(data)) throw new TenzroError('ledger.no_chain', `there is no chain in ${dataDir}`);
  checkDataFile(data);
  await using opened = new AsyncDisposableStack();
  const store = opened.use(await Store.open(chain, { mode: 'read', ...options }));
  const state = store.get('meta', STATE_KEY);
  if (state) decodeState(state);
  opened.move();
  return new ChainReader(store);
}

export class ChainReader implements LedgerReader, ProofSource, AsyncDisposable {
  readonly #store: Store;
  /** The segment read last: entries are mostly read in order. Segments never change. */
  #segment: Segment | undefined;
  #size = 0;
  #lastSegmentFirst = -1;
  readonly #tiles = new Map<string, Uint8Array>();
  readonly #node = nodesFrom((level, index) => this.#tile(level, index));

  /** Takes the store over. */
  constructor(store: Store) { this.#store = store; }

  size(): number {
    this.#store.refresh();
    const key = this.#store.lastKey('segments');
    if (!key) return 0;
    const first = readU64(key);
    if (first !== this.#lastSegmentFirst) {
      this.#size = this.#load(first).end;
      this.#lastSegmentFirst = first;
    }
    return this.#size;
  }

  oldest(): number {
    const key = this.#store.firstKey('segments');
    return key ? readU64(key) : 0;
  }

  /** From `from`, or from the oldest entry that was not pruned, on. */
  *read(from: number, max: number): Generator<StoredEntry> {
    const end = Math.min(this.size(), Math.max(from, this.oldest()) + max);
    for (let index = Math.max(from, this.oldest()); index < end; index++) yield { index, bytes: this.#segmentOf(index).entry(index) };
  }

  seek(from: number, needles: readonly Uint8Array[]): number {
    const size = this.size();
    let index = Math.max(from, this.oldest());
    while (index < size) {
      const segment = this.#segmentOf(index);
      if (needles.some((needle) => segment.mayHold(needle))) return index;
      index = segment.end;
    }
    return size;
  }

  /** Exact leaf bytes. Throws `ledger.no_entry` or `ledger.pruned`. */
  entry(index: number): Buffer {
    if (!Number.isSafeInteger(index) || index < 0 || index >= this.size()) throw new TenzroError('ledger.no_entry', `there is no entry ${index}: the log has ${this.size()}`);
    if (index < this.oldest()) throw new TenzroError('ledger.pruned', `entry ${index} was pruned: the oldest is ${this.oldest()}`);
    return this.#segmentOf(index).entry(index);
  }

  /** Of entries that were pruned too. Throws `ledger.no_entry`. */
  leafHash(index: number): Uint8Array {
    if (!Number.isSafeInteger(index) || index < 0 || index >= this.size()) throw new TenzroError('ledger.no_entry', `there is no entry ${index}: the log has ${this.size()}`);
    return this.#node(0, index);
  }

  /** 0 for a cursor that was never set. */
  cursor(name: string): number {
    const value = this.#store.get('cursors', cursorKey(name));
    return value ? readU64(value) : 0;
  }

  head(): TreeHead {
    const size = this.size();
    return { size, root: rootOf(size, this.#node) };
  }

  inclusionPath(index: number, treeSize: number): Uint8Array[] {
    this.#checkSize(treeSize);
    if (index < 0 || index >= treeSize) throw new TenzroError('ledger.no_entry', `entry ${index} is not among the first ${treeSize}`);
    return inclusionPath(index, treeSize, this.#node);
  }

  /** RFC 9162 §2.1.4.1 proof between two sizes of this log. */
  consistency(from: number, to: number): Uint8Array[] {
    this.#checkSize(to);
    return consistencyPath(from, to, this.#node);
  }

  #checkSize(treeSize: number): void {
    const size = this.size();
    if (treeSize > size) throw new TenzroError('ledger.no_entry', `the log has ${size} entries, not ${treeSize}`);
  }

  blockCount(): number {
    this.#store.refresh();
    const key = this.#store.lastKey('blocks');
    return key ? readU64(key) + 1 : 0;
  }

  /** One that was committed since this turn's first read, too. Throws `ledger.no_entry`. */
  block(sequence: number): BlockRecord {
    const value = this.#storedBlock(sequence) ?? this.#refreshed().#storedBlock(sequence);
    if (!value) throw new TenzroError('ledger.no_entry', `there is no block ${sequence}`);
    return decodeBlockRecord(value);
  }

  state(): ChainState | undefined {
    this.#store.refresh();
    const value = this.#store.get('meta', STATE_KEY);
    return value ? decodeState(value) : undefined;
  }

  lastBlock(): LastBlock | undefined {
    const last = this.state()?.lastBlock;
    if (!last) return undefined;
    const { payload, evidence } = this.block(last.sequence);
    return { ...last, payload, evidence };
  }

  pending(): Uint8Array | undefined {
    this.#store.refresh();
    return this.#store.get('pending', PENDING_KEY);
  }

  /** Bytes of the pages in use. */
  usedBytes(): number { return this.#store.usedBytes(); }

  async [Symbol.asyncDispose](): Promise<void> { await this.#store[Symbol.asyncDispose](); }

  #refreshed(): this {
    this.#store.refresh();
    return this;
  }

  #storedBlock(sequence: number): Buffer | undefined { return this.#store.get('blocks', blockKey(sequence)); }

  #segmentOf(index: number): Segment {
    const held = this.#segment;
    if (held && index >= held.first && index < held.end) return held;
    const pair = this.#store.floor('segments', segmentKey(index));
    const segment = pair && new Segment(readU64(pair.key), pair.value);
    if (!segment || index >= segment.end) throw new TenzroError('ledger.corrupt', `entry ${index} is missing`);
    this.#segment = segment;
    return segment;
  }

  #load(first: number): Segment {
    const value = this.#store.get('segments', segmentKey(first));
    if (!value) throw new TenzroError('ledger.corrupt', `the segment of entry ${first} is missing`);
    this.#segment = new Segment(first, value);
    return this.#segment;
  }

  readonly #tile: TileSource = (level, index) => {
    const name = `${level}/${index}`;
    const cached = this.#tiles.get(name);
    if (cached) return cached;
    const stored = this.#store.get('tiles', tileKey(level, index));
    if (!stored && level > 0) throw new TenzroError('ledger.corrupt', `tile ${name} is missing`);
    const hashes = stored ?? this.#edgeHashes(index);
    if (hashes.length === LIMITS.tileHashes * HASH_BYTES) this.#remember(name, hashes);
    return hashes;
  };

  #remember(name: string, hashes: Uint8Array): void {
    const [eldest] = this.#tiles.keys();
    if (this.#tiles.size >= TILES_CACHED_MAX && eldest !== undefined) this.#tiles.delete(eldest);
    this.#tiles.set(name, hashes);
  }

  /** Leaf hashes right of the last full tile, made from the entries. */
  #edgeHashes(tile: number): Buffer {
    const first = tile * LIMITS.tileHashes;
    const end = Math.min(this.size(), first + LIMITS.tileHashes);
    const hashes: Buffer[] = [];
    for (let index = first; index < end; index++) hashes.push(sha256(this.#segmentOf(index).leaf(index)));
    return Buffer.concat(hashes);
  }
}

/** The sealer's view: it reads what is flushed and writes through the writer. */
export function blockStoreOf(writer: Pick<BlockStore, 'head' | 'writePending' | 'commitBlock'>, reader: ChainReader): BlockStore {
  return {
    head: async () => writer.head(),
    genesis: async () => (reader.blockCount() === 0 ? undefined : reader.block(0).payload),
    lastBlock: async () => reader.lastBlock(),
    evidence: async (sequence: number) => reader.block(sequence).evidence,
    readPending: async () => reader.pending(),
    writePending: async (record: Uint8Array) => writer.writePending(record),
    commitBlock: async (block: SealedBlock) => writer.commitBlock(block),
  };
}
