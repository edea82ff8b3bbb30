/** Makes a proof bundle from what the ledger holds. Pulls from a port, so that it neither knows LMDB nor waits. */
import { TenzroError, invariant } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { decodeBlock, type BlockPayload, type Support } from './block.ts';
import { encodeBundle, type BundleBlock, type BundleEntry } from './bundle.ts';
import { decodeEvidence } from './evidence.ts';

export interface ProofBlock extends BundleBlock {
  readonly payload: Uint8Array;
}

/** What a proof is made of. Everything that it returns is flushed. */
export interface ProofSource {
  /** Exact bytes of a leaf. MUST throw `ledger.no_entry` or `ledger.pruned` when it has none. */
  entry(index: number): Uint8Array;
  /** Index of the oldest entry still stored. */
  oldest(): number;
  /** RFC 9162 §2.1.3.1, leaf side first, in the tree of the first `treeSize` leaves. */
  inclusionPath(index: number, treeSize: number): readonly Uint8Array[];
  /** Blocks 0 … count-1 are there. */
  blockCount(): number;
  block(sequence: number): ProofBlock;
}

/** Proves entries `first` to `last`, both included. Throws `ledger.no_entry`, `ledger.pruned`, `ledger.not_attested`, `ledger.no_chain` or `bundle.too_large`. */
export function buildProof(source: ProofSource, first: number, last: number = first): Buffer {
  if (!Number.isSafeInteger(first) || !Number.isSafeInteger(last) || first < 0 || last < first) throw new TenzroError('ledger.no_entry', `${first} to ${last} is not a range of entries`);
  const head = headSequence(source, last);
  const start = startSequence(source, head);
  const { treeSize, support } = payloadOf(source, head);
  const blocks = Array.from({ length: Math.max(0, head - start - 1) }, (_, i) => source.block(start + 1 + i).payload);
  return encodeBundle({
    entries: entriesOf(source, [...supporting(source, support, treeSize).filter((index) => index < first || index > last), ...range(first, last)], treeSize),
    genesis: source.block(0),
    links: blocks,
    ...(start === 0 || start === head ? {} : { start: source.block(start) }),
    ...(head === 0 ? {} : { head: source.block(head) }),
  });
}

const range = (first: number, last: number): readonly number[] => Array.from({ length: last - first + 1 }, (_, at) => first + at);

/** What the head names for its verifier and is still stored: a proof without it says less, and still verifies. */
function supporting(source: ProofSource, { enrolment, lease, bootLog, imaLog = [], software }: Support = {}, treeSize: number): readonly number[] {
  const named = [enrolment, lease, bootLog, ...imaLog, software].filter((index) => index !== undefined);
  return [...new Set(named)].filter((index) => index >= source.oldest() && index < treeSize);
}

function entriesOf(source: ProofSource, indices: readonly number[], treeSize: number): BundleEntry[] {
  const entries: BundleEntry[] = [];
  let sizeBytes = 0;
  for (const index of indices.toSorted((a, b) => a - b)) {
    const bytes = source.entry(index);
    sizeBytes += bytes.length;
    if (sizeBytes > LIMITS.bundleBytesMax) throw new TenzroError('bundle.too_large', `${indices.length} entries do not fit one bundle of ${LIMITS.bundleBytesMax} bytes`);
    entries.push({ index, bytes, path: source.inclusionPath(index, treeSize) });
  }
  return entries;
}

const payloadOf = (source: ProofSource, sequence: number): BlockPayload => decodeBlock(source.block(sequence).payload);

/** First block that covers the entry: tree sizes never fall, so halve. */
function headSequence(source: ProofSource, index: number): number {
  const count = source.blockCount();
  if (count === 0) throw new TenzroError('ledger.no_chain', 'the chain has no block yet');
  let [low, high] = [0, count];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (payloadOf(source, middle).treeSize > index) high = middle;
    else low = middle + 1;
  }
  if (low === count) throw new TenzroError('ledger.not_attested', `entry ${index} is under none of the ${count} blocks`);
  return low;
}

/**
 * Where the fold begins: the block that states PCR 14's start value, the genesis, or, where the boot is further away than a bundle reaches, the
 * earliest block within reach that has evidence of its own.
 */
function startSequence(source: ProofSource, head: number): number {
  const reach = Math.max(0, head - LIMITS.proofLinksMax - 1);
  for (let sequence = head; sequence >= reach; sequence--) {
    if (sequence === 0 || payloadOf(source, sequence).pcrStart) return sequence;
  }
  for (let sequence = reach; sequence < head; sequence++) {
    if (decodeEvidence(source.block(sequence).evidence).kind === 'tpm2') return sequence;
  }
  invariant(reach < head, 'the head is within reach of itself');
  return reach;
}
