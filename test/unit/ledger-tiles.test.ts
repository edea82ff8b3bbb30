import assert from 'node:assert/strict';
import { TenzroError } from '#runtime/core/errors.ts';
import { HASH_BYTES } from '#runtime/ledger/block.ts';
import { CompactRange, leafHash } from '#runtime/crypto/merkle.ts';
import { consistencyPath, inclusionPath, rootOf, verifyConsistency, verifyInclusion } from '#runtime/ledger/merkle.ts';
import { nodesFrom, TileTree, type TileSource } from '#runtime/ledger/tiles.ts';

/** Two levels of full tiles and a partial third: 256² + 256 + 77. */
const SIZE = 65_536 + 256 + 77;
const leafOf = (index: number): Uint8Array => leafHash(Buffer.from(`leaf ${index}`));

/** A store of tiles as the writer keeps it: what a batch made dirty, and no partial tile of level 0. */
function grow(tree: TileTree, store: Map<string, Uint8Array>, until: number, batch: number): void {
  while (tree.size < until) {
    for (let i = 0; i < batch && tree.size < until; i++) tree.append(leafOf(tree.size));
    for (const { level, index, hashes } of tree.takeDirty()) store.set(`${level}/${index}`, Buffer.from(hashes));
  }
}

describe('ledger: tiles', () => {
  const store = new Map<string, Uint8Array>();
  const load: TileSource = (level, index) => {
    const hashes = store.get(`${level}/${index}`);
    if (!hashes) throw new TenzroError('ledger.corrupt', `tile ${level}/${index} is missing`);
    return hashes;
  };
  const tree = new TileTree(load);
  const range = new CompactRange();
  const roots = new Map<number, Uint8Array>();

  before(function fill() {
    this.timeout(30_000);
    for (let size = 0; size < SIZE; size++) {
      if ([1, 2, 255, 256, 257, 1_000, 65_535, 65_536, 65_537].includes(size)) roots.set(size, range.root());
      range.append(leafOf(size));
    }
    grow(tree, store, SIZE, 700);
  });

  it('writes a level-0 tile once, when full, and higher tiles as they grow', () => {
    assert.ok(store.has('0/256') && !store.has('0/257'));
    assert.equal(store.get('1/0')?.length, 256 * HASH_BYTES);
    assert.equal(store.get('1/1')?.length, HASH_BYTES);
    assert.equal(store.get('2/0')?.length, HASH_BYTES);
  });

  it('has the root of RFC 9162 now and at every earlier size', () => {
    assert.deepEqual(Buffer.from(tree.root()), Buffer.from(range.root()));
    for (const [size, root] of roots) assert.deepEqual(Buffer.from(tree.root(size)), Buffer.from(root), `at ${size}`);
  });

  it('proves inclusion and consistency for any size at or below its own', () => {
    const root = tree.root();
    for (const index of [0, 1, 255, 256, 40_000, 65_535, 65_536, SIZE - 1]) {
      assert.ok(verifyInclusion(leafOf(index), index, SIZE, inclusionPath(index, SIZE, tree.node), root));
      for (const [size, earlier] of roots) {
        if (index < size) assert.ok(verifyInclusion(leafOf(index), index, size, inclusionPath(index, size, tree.node), earlier));
      }
    }
    for (const [size, earlier] of roots) assert.ok(verifyConsistency(size, SIZE, consistencyPath(size, SIZE, tree.node), earlier, root));
  });

  it('goes on after a restart as if it had never stopped', () => {
    const stored = new Map(store);
    const again = TileTree.restore(SIZE, load, leafOf);
    assert.deepEqual(Buffer.from(again.root()), Buffer.from(tree.root()));
    grow(again, stored, SIZE + 600, 100);
    for (let index = SIZE; index < SIZE + 600; index++) range.append(leafOf(index));
    assert.deepEqual(Buffer.from(again.root()), Buffer.from(range.root()));
    const node = nodesFrom((level, index) => stored.get(`${level}/${index}`) ?? Buffer.concat(Array.from({ length: (SIZE + 600) % 256 }, (_, i) => leafOf(index * 256 + i))));
    assert.deepEqual(Buffer.from(rootOf(SIZE + 600, node)), Buffer.from(range.root()));
  });

  it('refuses to go on over a tile that is missing or too short', () => {
    const missing: TileSource = () => { throw new TenzroError('ledger.corrupt', 'missing'); };
    assert.throws(() => TileTree.restore(SIZE, missing, leafOf), TenzroError);
    assert.throws(() => TileTree.restore(SIZE, () => new Uint8Array(0), leafOf), TenzroError);
  });
});
