/**
 * The tree's hashes in tiles of 256, as C2SP tlog-tiles lays them out: tile (level L, index N) holds the hashes of the complete subtrees
 * N·256 … N·256+255 of 256^L leaves each. A level-0 tile is stored once, when full (its partial hashes follow from the stored entries);
 * higher tiles are stored anew whenever they grow. Pure.
 */
import { TenzroError, invariant } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { HASH_BYTES } from './block.ts';
import { rootOf, type NodeSource } from './merkle.ts';

const WIDTH = LIMITS.tileHashes;
/** Tree levels per tile: 256 = 2^8. */
const HEIGHT = Math.log2(WIDTH);

export interface Tile {
  /** Tile level: 0 holds leaf hashes. */
  readonly level: number;
  readonly index: number;
  /** Up to 256 hashes of 32 bytes. */
  readonly hashes: Uint8Array;
}

/** Hashes of a tile as far as they are known. Throws `ledger.corrupt` where one is missing. */
export type TileSource = (level: number, index: number) => Uint8Array;

const pair = Buffer.alloc(1 + 2 * HASH_BYTES);
pair[0] = 0x01; // node prefix, RFC 9162 §2.1.1

/** Root over `count` (a power of two) hashes of a tile from place `start` on. */
function subtreeRoot(hashes: Uint8Array, start: number, count: number): Buffer {
  if (hashes.length < (start + count) * HASH_BYTES) throw new TenzroError('ledger.corrupt', `a tile has ${hashes.length / HASH_BYTES} hashes, ${start + count} are needed`);
  const level = Buffer.from(hashes.subarray(start * HASH_BYTES, (start + count) * HASH_BYTES));
  for (let left = count; left > 1; left /= 2) {
    for (let i = 0; i < left; i += 2) {
      level.copy(pair, 1, i * HASH_BYTES, (i + 2) * HASH_BYTES);
      sha256(pair).copy(level, (i / 2) * HASH_BYTES);
    }
  }
  return level.subarray(0, HASH_BYTES);
}

export const tileRoot = (hashes: Uint8Array): Buffer => subtreeRoot(hashes, 0, WIDTH);

/** Any complete subtree's hash, made from tiles. */
export function nodesFrom(tiles: TileSource): NodeSource {
  return (level, index) => {
    const tileLevel = Math.floor(level / HEIGHT);
    const count = 2 ** (level % HEIGHT);
    const place = index * count;
    return subtreeRoot(tiles(tileLevel, Math.floor(place / WIDTH)), place % WIDTH, count);
  };
}

/** How many hashes the tiles of `level` hold together in a tree of `size`. */
const hashesAt = (level: number, size: number): number => Math.floor(size / WIDTH ** level);

interface Edge {
  hashes: Buffer;
  /** Hashes in the edge tile, 0 … 255. */
  count: number;
  /** Full tiles left of it. */
  full: number;
  hasGrown: boolean;
}

const newEdge = (): Edge => ({ hashes: Buffer.alloc(WIDTH * HASH_BYTES), count: 0, full: 0, hasGrown: false });

/** The growing tree of the one writer: the edge tiles in memory, everything else through `load`. */
export class TileTree {
  readonly #load: TileSource;
  readonly #edges: Edge[] = [newEdge()];
  #completed: Tile[] = [];
  #size = 0;

  /** `load` gives stored full tiles. */
  constructor(load: TileSource) { this.#load = load; }

  /** The tree as the store holds it; `leafOf` hashes the entries right of the last full level-0 tile. */
  static restore(size: number, load: TileSource, leafOf: (index: number) => Uint8Array): TileTree {
    const tree = new TileTree(load);
    const fullLeaves = size - (size % WIDTH);
    for (let level = 0; hashesAt(level, size) > 0; level++) {
      const held = hashesAt(level, size);
      const edge = (tree.#edges[level] ??= newEdge());
      edge.full = Math.floor(held / WIDTH);
      edge.count = level === 0 ? 0 : held % WIDTH;
      if (edge.count > 0) {
        const stored = load(level, edge.full);
        if (stored.length < edge.count * HASH_BYTES) throw new TenzroError('ledger.corrupt', `tile ${level}/${edge.full} is too short`);
        edge.hashes.set(stored.subarray(0, edge.count * HASH_BYTES));
      }
    }
    tree.#size = fullLeaves;
    for (let index = fullLeaves; index < size; index++) tree.append(leafOf(index));
    return tree;
  }

  get size(): number { return this.#size; }

  append(leaf: Uint8Array): void {
    this.#push(0, leaf);
    this.#size++;
  }

  #push(level: number, hash: Uint8Array): void {
    const edge = (this.#edges[level] ??= newEdge());
    edge.hashes.set(hash, edge.count * HASH_BYTES);
    edge.count++;
    edge.hasGrown = true;
    if (edge.count < WIDTH) return;
    const tile: Tile = { level, index: edge.full, hashes: edge.hashes };
    this.#completed.push(tile);
    Object.assign(edge, { hashes: Buffer.alloc(WIDTH * HASH_BYTES), count: 0, full: edge.full + 1, hasGrown: false });
    this.#push(level + 1, tileRoot(tile.hashes));
  }

  /** Tiles to store since the last call: completed ones, and higher edges that grew. */
  takeDirty(): Tile[] {
    const dirty = [...this.takeCompleted(), ...this.edges().filter(({ level }) => this.#edges[level]?.hasGrown)];
    for (const edge of this.#edges) edge.hasGrown = false;
    return dirty;
  }

  /** Tiles that became full since the last call. */
  takeCompleted(): Tile[] {
    const completed = this.#completed;
    this.#completed = [];
    return completed;
  }

  /** The tiles above level 0 that are not full, as far as they go. */
  edges(): Tile[] {
    const tiles: Tile[] = [];
    for (const [level, { count, full, hashes }] of this.#edges.entries()) {
      if (level > 0 && count > 0) tiles.push({ level, index: full, hashes: Buffer.from(hashes.subarray(0, count * HASH_BYTES)) });
    }
    return tiles;
  }

  readonly #tile: TileSource = (level, index) => {
    const edge = this.#edges[level];
    invariant(edge !== undefined, `the tree has no level ${level}`);
    if (index === edge.full) return edge.hashes.subarray(0, edge.count * HASH_BYTES);
    return this.#completed.find((tile) => tile.level === level && tile.index === index)?.hashes ?? this.#load(level, index);
  };

  readonly node: NodeSource = nodesFrom(this.#tile);

  /** RFC 9162 root over the first `size` leaves. */
  root(size = this.#size): Uint8Array { return rootOf(size, this.node); }
}
