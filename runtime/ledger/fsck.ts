/**
 * Checks a stopped chain from its first byte to its last: every entry, leaf, tile, root and block, the cursors and the pending record. Reads a segment at a time
 * and changes nothing. Where two stored things contradict each other, a third decides which of them is named.
 */
import { existsSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { join } from 'node:path';
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError, messageOf, type ErrorCode } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { AnchorLook } from '#runtime/core/ports.ts';
import { KIND, type Maybe } from '#runtime/core/types.ts';
import { CompactRange } from '#runtime/crypto/merkle.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { HASH_BYTES, type BlockPayload } from './block.ts';
import { checkDataFile } from './dataFile.ts';
import { decodeEntry } from './entry.ts';
import { BlockWalk } from './fsckBlocks.ts';
import { CHAIN_FILE, decodeState, ledgerPaths, PENDING_KEY, readU64, STATE_KEY, tileKey, type ChainState, type DbName } from './layout.ts';
import { acquireLock } from './lock.ts';
import { compareLive, notAsked, tailOf, type ChainTail, type LiveTail, type TailFacts } from './fsckTail.ts';
import { decodePending, type PendingBlock } from './pending.ts';
import { Segment, SegmentError } from './segment.ts';
import { Store, type Pair } from './store.ts';
import { TileTree, tileRoot, type Tile } from './tiles.ts';

interface FsckProblem {
  readonly code: ErrorCode;
  readonly database: DbName | 'data.mdb';
  /** As people write it: an index, `level/index` of a tile, a name. */
  readonly key: string;
  /** First bad byte of the value, or, where only a hash tells, the first byte of the entry or field that it covers. */
  readonly offset: number;
  readonly detail: string;
}

export interface FsckResult {
  readonly ok: boolean;
  readonly checked: { readonly entries: number; readonly tiles: number; readonly blocks: number };
  /** In the order found, at most `PROBLEMS_MAX`. */
  readonly problems: readonly FsckProblem[];
  /** What could have been cut; undefined where the chain could not be read through. */
  readonly tail?: ChainTail;
  /** Undefined where no TPM was asked. */
  readonly live?: LiveTail;
}

/** The chain's TPM, only looked at. */
export interface LiveTpm {
  readonly akPublic: Uint8Array;
  readonly look: AnchorLook;
}

export interface FsckOptions {
  readonly onProgress?: (entries: number) => void;
  readonly signal?: AbortSignal;
  readonly mapBytes?: number;
  /** Held against the chain's end. Asked only for a chain that can be read. */
  readonly live?: () => Promise<Maybe<LiveTpm>>;
}

const PROBLEMS_MAX = 100;
const SEGMENTS_PER_TURN = 32;

/** Checks the living chain of a data directory. Throws `ledger.locked` while a gateway runs on it, `ledger.no_chain` where there is none. */
export async function fsck(dataDir: string, options: FsckOptions = {}): Promise<FsckResult> {
  const paths = ledgerPaths(dataDir);
  if (!existsSync(join(paths.chain, CHAIN_FILE.data))) throw new TenzroError('ledger.no_chain', `there is no chain in ${dataDir}`);
  using held = new DisposableStack();
  held.use(acquireLock(paths.lock));
  return await fsckChain(paths.chain, options);
}

/** Checks one chain's directory, a quarantined one for example. */
export async function fsckChain(chainDir: string, options: FsckOptions = {}): Promise<FsckResult> {
  if (!existsSync(join(chainDir, CHAIN_FILE.data))) throw new TenzroError('ledger.no_chain', `there is no chain in ${chainDir}`);
  const problems: FsckProblem[] = [];
  const add = (problem: FsckProblem): void => { if (problems.length < PROBLEMS_MAX) problems.push(problem); };
  const checked = { entries: 0, tiles: 0, blocks: 0 };
  let facts: TailFacts | undefined;
  try {
    checkDataFile(join(chainDir, CHAIN_FILE.data));
    await using store = await Store.open(chainDir, { mode: 'read', ...(options.mapBytes === undefined ? {} : { mapBytes: options.mapBytes }) });
    facts = await new Checker(store, checked, add, options).run();
  } catch (error) {
    if (!(error instanceof TenzroError)) throw error;
    add({ code: error.code, database: 'data.mdb', key: '', offset: 0, detail: error.message });
  }
  if (!facts) return { ok: false, checked, problems };
  const tail = tailOf(facts);
  const tpm = await options.live?.();
  const live = tpm && (tpm.kind === 'value' ? compareLive(facts, tpm.value.look, tpm.value.akPublic) : notAsked(tpm.reason));
  const isWhole = tail.gaps.length === 0 && tail.moves.length === 0 && (live?.ok ?? true);
  return { ok: problems.length === 0 && isWhole, checked, problems, tail, ...(live ? { live } : {}) };
}

class Checker {
  readonly #store: Store;
  readonly #checked: { entries: number; tiles: number; blocks: number };
  readonly #add: (problem: FsckProblem) => void;
  readonly #options: FsckOptions;
  readonly #tree = new TileTree(() => { throw new TenzroError('core.invariant', 'fsck makes every tile itself'); });
  readonly #range = new CompactRange();
  readonly #blockWalk = new BlockWalk();
  readonly #blockPairs: Iterator<Pair>;
  readonly #shutdownSizes = new Set<number>();
  /** The next block that waits for the tree to reach its size. */
  #block: BlockPayload | undefined;
  /** The block before was right up to here: what is wrong with the next root lies beyond. */
  #rootedSize = 0;
  #tile: { readonly index: number; readonly hashes: Buffer | undefined; readonly isRight: boolean } | undefined;

  constructor(store: Store, checked: { entries: number; tiles: number; blocks: number }, add: (problem: FsckProblem) => void, options: FsckOptions) {
    this.#store = store;
    this.#checked = checked;
    this.#add = add;
    this.#options = options;
    this.#blockPairs = store.pairs('blocks');
  }

  async run(): Promise<TailFacts> {
    const state = this.#state();
    this.#nextBlock();
    this.#walkPruned(state?.oldest ?? 0);
    let segments = 0;
    for (const pair of this.#store.pairs('segments')) {
      this.#checkSegment(pair);
      if (++segments % SEGMENTS_PER_TURN !== 0) continue;
      this.#options.onProgress?.(this.#checked.entries);
      await setImmediate();
      this.#options.signal?.throwIfAborted();
    }
    this.#finishTree();
    const pending = this.#checkRest(state);
    const { anchors, last, akPublic } = this.#blockWalk;
    return { walk: anchors, last, akPublic, size: this.#tree.size, shutdownSizes: this.#shutdownSizes, pending };
  }

  #state(): ChainState | undefined {
    const value = this.#store.get('meta', STATE_KEY);
    if (!value) {
      this.#add({ code: 'ledger.corrupt', database: 'meta', key: 'state', offset: 0, detail: 'the state record is missing' });
      return undefined;
    }
    return this.#attempt('meta', 'state', () => decodeState(value));
  }

  #attempt<T>(database: DbName, key: string, work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof TenzroError)) throw error;
      this.#add({ code: error.code, database, key, offset: error instanceof SegmentError ? error.offset : 0, detail: error.message });
      return undefined;
    }
  }

  /** Entries that were pruned stand in the tree by the hashes that stayed. */
  #walkPruned(oldest: number): void {
    for (let index = 0; index < oldest; index++) {
      const hash = this.#storedLeaf(index);
      if (!hash) throw new TenzroError('ledger.corrupt', `entry ${index} was pruned and its tile is missing`);
      this.#grow(hash);
    }
  }

  #checkSegment({ key, value }: Pair): void {
    const segment = this.#attempt('segments', key.toString('hex'), () => new Segment(readU64(key), value));
    if (!segment) return;
    const name = String(segment.first);
    if (segment.first !== this.#tree.size) {
      this.#add({ code: 'ledger.corrupt', database: 'segments', key: name, offset: 0, detail: `entries ${this.#tree.size} to ${segment.first - 1} are missing` });
      this.#bridge(segment.first);
    }
    for (let index = segment.first; index < segment.end; index++) this.#checkEntry(segment, index);
    for (const tile of this.#tree.takeCompleted()) this.#checkTile(tile);
  }

  /** Over a hole, the stored hashes keep the rest of the tree checkable. */
  #bridge(first: number): void {
    while (this.#tree.size < first) this.#grow(this.#storedLeaf(this.#tree.size) ?? Buffer.alloc(HASH_BYTES));
  }

  #checkEntry(segment: Segment, index: number): void {
    const entryAt = segment.offsetOf(index) + 1;
    const wrong = (code: ErrorCode, detail: string): void => this.#add({ code, database: 'segments', key: String(segment.first), offset: entryAt, detail: `entry ${index}: ${detail}` });
    try {
      const { kind } = decodeEntry(segment.entry(index));
      if (kind === KIND.shutdown) this.#shutdownSizes.add(index + 1);
    } catch (error) {
      wrong(error instanceof TenzroError ? error.code : 'entry.malformed', messageOf(error));
    }
    this.#checked.entries++;
    const hash = sha256(segment.leaf(index));
    const stored = this.#storedLeaf(index);
    if (!stored || equalBytes(stored, hash)) this.#grow(hash);
    else if (this.#tile?.isRight) {
      wrong('ledger.corrupt', 'its hash is not the one in the tree');
      this.#grow(stored);
    } else this.#grow(hash); // the tile is the one that does not fit its parent: checkTile names it
  }

  /** The leaf hash that a full tile holds. */
  #storedLeaf(index: number): Buffer | undefined {
    const tile = Math.floor(index / LIMITS.tileHashes);
    if (this.#tile?.index !== tile) {
      const hashes = this.#store.get('tiles', tileKey(0, tile));
      this.#tile = { index: tile, hashes, isRight: hashes?.length === LIMITS.tileHashes * HASH_BYTES && this.#fitsParent(tile, tileRoot(hashes)) };
    }
    const at = (index % LIMITS.tileHashes) * HASH_BYTES;
    const hash = this.#tile.hashes?.subarray(at, at + HASH_BYTES);
    return hash?.length === HASH_BYTES ? hash : undefined;
  }

  #fitsParent(tile: number, root: Buffer): boolean {
    const parent = this.#store.get('tiles', tileKey(1, Math.floor(tile / LIMITS.tileHashes)));
    const at = (tile % LIMITS.tileHashes) * HASH_BYTES;
    return parent?.subarray(at, at + HASH_BYTES).equals(root) ?? false;
  }

  #grow(leaf: Uint8Array): void {
    this.#checkDueRoots(); // the genesis is over the empty tree
    this.#tree.append(leaf);
    this.#range.append(leaf);
    this.#checkDueRoots();
  }

  #checkDueRoots(): void {
    while (this.#block && this.#block.treeSize <= this.#range.size) this.#checkRoot(this.#block);
  }

  #checkRoot(block: BlockPayload): void {
    if (block.treeSize === this.#range.size && equalBytes(block.root, this.#range.root())) this.#rootedSize = block.treeSize;
    else {
      const first = this.#store.floor('segments', tileKey(0, this.#rootedSize).subarray(1));
      const detail = `the root of block ${block.sequence} does not fit: an entry from ${this.#rootedSize} to ${block.treeSize - 1} was altered`;
      this.#add({ code: 'ledger.corrupt', database: 'segments', key: String(first ? readU64(first.key) : 0), offset: 0, detail });
    }
    this.#nextBlock();
  }

  #nextBlock(): void {
    this.#block = undefined;
    for (let next = this.#blockPairs.next(); !next.done; next = this.#blockPairs.next()) {
      const { key, value } = next.value;
      const sequence = this.#attempt('blocks', key.toString('hex'), () => readU64(key));
      if (sequence === undefined) continue;
      const { block, problems } = this.#blockWalk.check(sequence, value);
      for (const { offset, detail } of problems) this.#add({ code: 'block.malformed', database: 'blocks', key: String(sequence), offset, detail: `block ${sequence}: ${detail}` });
      this.#checked.blocks++;
      if (!block) continue;
      this.#block = block;
      return;
    }
  }

  #checkTile({ level, index, hashes }: Tile): void {
    const stored = this.#store.get('tiles', tileKey(level, index));
    this.#checked.tiles++;
    if (stored && equalBytes(stored, hashes)) return;
    const differs = stored ? hashes.findIndex((byte, at) => byte !== stored[at]) : 0;
    const detail = stored ? `tile ${level}/${index} is not what its entries make` : `tile ${level}/${index} is missing`;
    this.#add({ code: 'ledger.corrupt', database: 'tiles', key: `${level}/${index}`, offset: differs < 0 ? hashes.length : differs, detail });
  }

  #finishTree(): void {
    for (const tile of this.#tree.edges()) this.#checkTile(tile);
    for (let block = this.#block; block; block = this.#block) {
      this.#add({ code: 'ledger.corrupt', database: 'blocks', key: String(block.sequence), offset: 0, detail: `block ${block.sequence} covers ${block.treeSize} entries, there are ${this.#tree.size}` });
      this.#nextBlock();
    }
  }

  #checkRest(state: ChainState | undefined): PendingBlock | undefined {
    const last = this.#store.lastKey('blocks');
    const lastSequence = last && readU64(last);
    if (state && state.lastBlock?.sequence !== lastSequence) {
      this.#add({ code: 'ledger.corrupt', database: 'meta', key: 'state', offset: 0, detail: `it names block ${state.lastBlock?.sequence ?? 'none'}, the last is ${lastSequence ?? 'none'}` });
    }
    for (const { key, value } of this.#store.pairs('cursors')) {
      const index = this.#attempt('cursors', key.toString(), () => readU64(value));
      if (index !== undefined && index > this.#tree.size) this.#add({ code: 'ledger.corrupt', database: 'cursors', key: key.toString(), offset: 0, detail: `${index} is beyond the ${this.#tree.size} entries` });
    }
    const pending = this.#store.get('pending', PENDING_KEY);
    return pending ? this.#attempt('pending', 'block', () => decodePending(pending)) : undefined;
  }
}
