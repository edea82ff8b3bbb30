import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CompactRange, EMPTY_ROOT, leafHash, nodeHash } from '#runtime/crypto/merkle.ts';
import { consistencyPath, inclusionPath, rootOf, verifyConsistency, verifyInclusion, type NodeSource } from '#runtime/ledger/merkle.ts';
import { skipBecause } from '#test/support/skips.ts';

const SHARED = process.env['TENZRO_SHARED'] ?? join(import.meta.dirname, '../../../shared');
const VECTORS = join(SHARED, 'vectors/merkle/testdata/inclusion');

/** MTH as RFC 9162 §2.1.1 writes it, with no cleverness. */
function bruteRoot(leaves: readonly Uint8Array[]): Uint8Array {
  const [first] = leaves;
  if (first === undefined) return EMPTY_ROOT;
  if (leaves.length === 1) return first;
  let k = 1;
  while (k * 2 < leaves.length) k *= 2;
  return nodeHash(bruteRoot(leaves.slice(0, k)), bruteRoot(leaves.slice(k)));
}

const LEAVES = Array.from({ length: 67 }, (_, i) => leafHash(Buffer.from(`leaf ${i}`)));
const node: NodeSource = (level, index) => bruteRoot(LEAVES.slice(index * 2 ** level, (index + 1) * 2 ** level));

interface Vector { leafIdx: number; treeSize: number; root: string | null; leafHash: string | null; proof: string[] | null; desc: string; wantErr: boolean }
const bytes = (text: string | null): Buffer => Buffer.from(text ?? '', 'base64');

describe('ledger: Merkle tree', () => {
  it('knows the empty root and the single-leaf tree', () => {
    assert.equal(Buffer.from(EMPTY_ROOT).toString('hex'), 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
    assert.equal(leafHash(new Uint8Array(0)).toString('hex'), '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d');
  });

  it('grows by appending to the root that brute force gives', () => {
    const range = new CompactRange();
    for (let size = 0; size <= LEAVES.length; size++) {
      assert.deepEqual(Buffer.from(range.root()), Buffer.from(bruteRoot(LEAVES.slice(0, size))));
      assert.deepEqual(Buffer.from(rootOf(size, node)), Buffer.from(range.root()));
      const leaf = LEAVES[size];
      if (leaf) range.append(leaf);
    }
  });

  it('proves inclusion of every leaf in every tree, and nothing else', () => {
    for (let size = 1; size <= LEAVES.length; size++) {
      const root = rootOf(size, node);
      for (const [index, leaf] of LEAVES.slice(0, size).entries()) {
        const path = inclusionPath(index, size, node);
        assert.ok(verifyInclusion(leaf, index, size, path, root), `${index} in ${size}`);
        assert.ok(!verifyInclusion(leaf, index + 1, size, path, root));
        assert.ok(!verifyInclusion(leaf, index, size, [...path, root], root));
        if (path.length > 0) assert.ok(!verifyInclusion(leaf, index, size, path.slice(1), root));
      }
    }
  });

  it('proves consistency between every two sizes, and refutes altered ones', () => {
    for (let to = 0; to <= LEAVES.length; to++) {
      for (let from = 0; from <= to; from++) {
        const [path, fromRoot, toRoot] = [consistencyPath(from, to, node), rootOf(from, node), rootOf(to, node)];
        assert.ok(verifyConsistency(from, to, path, fromRoot, toRoot), `${from} to ${to}`);
        if (from === to) continue;
        assert.ok(!verifyConsistency(from, to, [...path, toRoot], fromRoot, toRoot));
        assert.ok(!verifyConsistency(from, to, path, toRoot, fromRoot));
        if (path.length > 0) assert.ok(!verifyConsistency(from, to, path.slice(0, -1), fromRoot, toRoot));
      }
    }
  });

  it('judges every shared inclusion vector as it says', function test() {
    if (!existsSync(VECTORS)) skipBecause(this, `no vectors at ${VECTORS}`);
    let count = 0;
    for (const file of readdirSync(VECTORS, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.json'))) {
      const vector = JSON.parse(readFileSync(join(VECTORS, file), 'utf8')) as Vector;
      const judged = verifyInclusion(bytes(vector.leafHash), vector.leafIdx, vector.treeSize, (vector.proof ?? []).map(bytes), bytes(vector.root));
      assert.equal(judged, !vector.wantErr, `${file}: ${vector.desc}`);
      count++;
    }
    assert.equal(count, 98);
  });
});
