/** What goes into the next shipment: leaves in order, each block right behind the last leaf that it covers. Pure over what the ledger gives. */
import { asBuffer } from '#runtime/core/bytes.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { ForwardRule } from '#runtime/core/settings.ts';
import { matchesFilter } from '#runtime/core/topic.ts';
import { READING_BODY, type Cbor, type StoredEntry } from '#runtime/core/types.ts';
import { decodeBlock } from '#runtime/ledger/block.ts';
import { decodeEntry } from '#runtime/ledger/entry.ts';
import type { ProofBlock } from '#runtime/ledger/proofBuilder.ts';
import type { Leaf, Shipment } from '#runtime/ledger/shipment.ts';

/** What shipments are made of. Everything that it returns is flushed. */
export interface UplinkSource {
  /** Entries from `from`, or from the oldest that was not pruned, on. */
  read(from: number, max: number): Iterable<StoredEntry>;
  /** Of pruned entries too. */
  leafHash(index: number): Uint8Array;
  /** Blocks 0 … count-1 are there. */
  blockCount(): number;
  block(sequence: number): ProofBlock;
}

/** Where the next shipment begins: the leaf and the block that come next. */
export interface Position {
  readonly next: number;
  readonly nextBlock: number;
}

export type Stretch = Pick<Shipment, 'first' | 'leaves' | 'blocks'> & {
  /** Leaves of which nothing is left but the hash: they were pruned before they were sent. */
  readonly pruned: number;
};

/** Whether an entry stays on the site. */
export type Withholds = (entry: Uint8Array) => boolean;

/** Bytes that a hash takes in a shipment. */
const HASH_LEAF_BYTES = 40;

/** In each policy the first match wins, and one that says never is enough; an entry without a topic leaves the site. Without a rule that withholds, no entry is looked into. */
export function withholding(...policies: readonly (readonly ForwardRule[])[]): Withholds {
  if (policies.flat().every(({ mode }) => mode === 'all')) return () => false;
  const known = new Map<string, boolean>();
  return (entry) => {
    const topic = topicOf(entry);
    if (topic === undefined) return false;
    const before = known.get(topic);
    if (before !== undefined) return before;
    const stays = policies.some((rules) => rules.find((rule) => matchesFilter(rule.topic, topic))?.mode === 'never');
    if (known.size >= LIMITS.topicPlansMax) known.clear();
    known.set(topic, stays);
    return stays;
  };
}

/** Body key 1 is the topic in every kind that has one (core/types.ts), in sealed entries too. */
function topicOf(entry: Uint8Array): string | undefined {
  const { body } = decodeEntry(entry);
  const topic = body instanceof Map ? (body as ReadonlyMap<number, Cbor>).get(READING_BODY.topic) : undefined;
  return typeof topic === 'string' && topic.includes('/') ? topic : undefined;
}

/** Undefined while no block is there that was not sent: entries go with the block that covers them. */
export function nextStretch(source: UplinkSource, { next, nextBlock }: Position, withholds: Withholds): Stretch | undefined {
  const count = source.blockCount();
  const [leaves, blocks, at] = [[] as Leaf[], [] as ProofBlock[], new Filling()];
  for (let sequence = nextBlock; sequence < count && blocks.length < LIMITS.shipmentBlocksMax; sequence++) {
    const block = source.block(sequence);
    const { treeSize } = decodeBlock(block.payload);
    takeLeaves(source, next + leaves.length, treeSize, leaves, at, withholds);
    if (next + leaves.length < treeSize || !at.takes(block.cose.length + block.evidence.length)) break;
    blocks.push(block);
  }
  return leaves.length + blocks.length === 0 ? undefined : { first: next, leaves, blocks, pruned: at.pruned };
}

/** The newest block alone: proof that this chain is another than the one that was receipted. */
export function witnessOf(source: UplinkSource): Stretch | undefined {
  const last = source.blockCount() - 1;
  if (last < 0) return undefined;
  const block = source.block(last);
  return { first: decodeBlock(block.payload).treeSize, leaves: [], blocks: [block], pruned: 0 };
}

class Filling {
  bytes = 0;
  pruned = 0;
  get isFull(): boolean { return this.bytes >= LIMITS.shipmentTargetBytes; }
  /** At least one thing always fits. */
  takes(bytes: number): boolean {
    if (this.bytes > 0 && this.bytes + bytes > LIMITS.shipmentTargetBytes + LIMITS.blockBytesMax) return false;
    this.bytes += bytes;
    return true;
  }
}

function takeLeaves(source: UplinkSource, from: number, to: number, leaves: Leaf[], at: Filling, withholds: Withholds): void {
  let next = from;
  const isFull = (): boolean => at.isFull || leaves.length >= LIMITS.shipmentLeavesMax;
  const hash = (index: number): void => {
    leaves.push({ hash: source.leafHash(index) });
    at.bytes += HASH_LEAF_BYTES;
  };
  if (next >= to || isFull()) return;
  for (const { index, bytes } of source.read(from, to - from)) {
    for (; next < Math.min(index, to) && !isFull(); next++, at.pruned++) hash(next);
    if (index >= to || isFull()) return;
    if (withholds(bytes)) hash(index);
    else {
      leaves.push({ entry: Buffer.from(asBuffer(bytes)) });
      at.bytes += bytes.length;
    }
    next = index + 1;
  }
  for (; next < to && !isFull(); next++, at.pruned++) hash(next);
}
