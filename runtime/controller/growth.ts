/** How a chain grows by a shipment: which leaves are new, which block's root comes out where. Pure. */
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { parseSign1 } from '#runtime/crypto/cose.ts';
import { CompactRange } from '#runtime/crypto/merkle.ts';
import { blockHash, decodeBlock, type BlockPayload } from '#runtime/ledger/block.ts';
import type { BundleBlock } from '#runtime/ledger/bundle.ts';
import { hashOfLeaf, type Leaf, type Shipment } from '#runtime/ledger/shipment.ts';
import type { Stretch } from './chains.ts';
import type { ChainRecord } from './record.ts';

/** A block as it came, parsed and not yet judged. */
export interface Arrival {
  readonly block: BundleBlock;
  readonly payload: BlockPayload;
  readonly hash: Uint8Array;
}

export interface Growth {
  readonly size: number;
  readonly edge: readonly Uint8Array[];
  /** Edge of the tree under the last new block; absent where none is new. */
  readonly headEdge?: readonly Uint8Array[];
  /** Leaves under the last new block, then those beyond it. */
  readonly stretches: readonly Stretch[];
  readonly waitingBytes: number;
}

/** Throws `controller.block`. */
export function openArrivals(blocks: readonly BundleBlock[]): readonly Arrival[] {
  try {
    return blocks.map((block) => {
      const { payload } = parseSign1(block.cose);
      return { block, payload: decodeBlock(payload), hash: blockHash(payload) };
    });
  } catch (cause) {
    throw new TenzroError('controller.block', 'a block does not decode', { cause });
  }
}

/** Throws `controller.gap` where something before the shipment is missing, `controller.root` where a root does not come out, and `controller.full`. */
export function growBy({ size, edge, waitingBytes }: Pick<ChainRecord, 'size' | 'edge' | 'waitingBytes'>, { first, leaves }: Pick<Shipment, 'first' | 'leaves'>, fresh: readonly Arrival[]): Growth {
  if (first > size) throw new TenzroError('controller.gap', `leaf ${size} comes next, not ${first}`);
  const range = CompactRange.of(size, edge);
  const known = Math.min(leaves.length, size - first);
  let [settled, covered, headEdge] = [0, known, undefined as readonly Uint8Array[] | undefined];
  const settle = (at: number): void => {
    for (let arrival = fresh[settled]; arrival && arrival.payload.treeSize <= range.size; arrival = fresh[++settled]) {
      const { treeSize, root, sequence } = arrival.payload;
      if (treeSize !== range.size || !equalBytes(root, range.root())) throw new TenzroError('controller.root', `block ${sequence} does not cover the ${range.size} leaves that came before it`);
      [covered, headEdge] = [at, range.hashes()];
    }
  };
  settle(known);
  for (const [at, leaf] of leaves.entries()) {
    if (at < known) continue;
    range.append(hashOfLeaf(leaf));
    settle(at + 1);
  }
  if (settled < fresh.length) throw new TenzroError('controller.gap', `leaves below block ${fresh[settled]?.payload.sequence ?? ''} are missing`);
  const stretches = [{ first: size, leaves: leaves.slice(known, covered) }, { first: first + covered, leaves: leaves.slice(covered) }];
  const waiting = bytesOf(leaves.slice(covered)) + (headEdge ? 0 : waitingBytes);
  if (waiting > LIMITS.provisionalBytesMax) throw new TenzroError('controller.full', `more than ${LIMITS.provisionalBytesMax} bytes of entries without a block`);
  return { size: range.size, edge: range.hashes(), stretches, waitingBytes: waiting, ...(headEdge ? { headEdge } : {}) };
}

const bytesOf = (leaves: readonly Leaf[]): number => leaves.reduce((sum, leaf) => sum + ('entry' in leaf ? leaf.entry.length : leaf.hash.length), 0);
