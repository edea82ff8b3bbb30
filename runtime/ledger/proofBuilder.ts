/** Makes a proof bundle from what the ledger holds. Pulls from a port, so that it neither knows LMDB nor waits. */
import { TenzroError, invariant } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { anchorStatement } from './anchors.ts';
import { decodeBlock, type BlockPayload, type Support } from './block.ts';
import { encodeBundle, type Bundle, type BundleBlock, type BundleEntry } from './bundle.ts';
import { decodeEvidence } from './evidence.ts';
import { keyEpochsOf } from './keyEpochs.ts';

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
  /** RFC 9162 §2.1.4.1 between two sizes of this log. */
  consistency(from: number, to: number): readonly Uint8Array[];
}

/** A receipt that a fleet gave, and the block that it is about. */
export interface HeldReceipt {
  readonly sequence: number;
  readonly bytes: Uint8Array;
}

/**
 * The same as `buildProof`, up to the first block that a fleet receipted: whoever cuts the chain before it is found out by that fleet. Throws
 * `ledger.not_receipted` too.
 */
export function buildReceiptedProof(source: ProofSource, first: number, last: number, receipts: readonly HeldReceipt[]): Buffer {
  const covering = headSequence(source, last);
  const head = Math.min(...receipts.map(({ sequence }) => sequence).filter((sequence) => sequence >= covering));
  if (!Number.isFinite(head)) throw new TenzroError('ledger.not_receipted', `no fleet has receipted block ${covering}, the first over entry ${last}`);
  const wanted = range(first, last);
  const bundle = assemble(source, [...keyEpochsOf(source, wanted), ...wanted], startSequence(source, head), head);
  return encodeBundle({ ...bundle, receipts: receipts.filter(({ sequence }) => sequence === head).map(({ bytes }) => bytes) });
}

/** Proves entries `first` to `last`, both included, with the `keyEpoch` entries that confidential ones among them need. Throws `ledger.no_entry`, `ledger.pruned`, `ledger.not_attested`, `ledger.no_chain` or `bundle.too_large`. */
export function buildProof(source: ProofSource, first: number, last: number = first): Buffer {
  if (!Number.isSafeInteger(first) || !Number.isSafeInteger(last) || first < 0 || last < first) throw new TenzroError('ledger.no_entry', `${first} to ${last} is not a range of entries`);
  const head = headSequence(source, last);
  const wanted = range(first, last);
  return encodeBundle(assemble(source, [...keyEpochsOf(source, wanted), ...wanted], startSequence(source, head), head));
}

/**
 * Proves that block `head` is the chain's, with the newest entry under it: the answer to a challenge. `from`: a block that the asker knows. Every block
 * from there on is in the answer; where those are too many, a proof that the log under `from` is the beginning of the log under `head`; where there is no such
 * block, the head alone, which tells. Throws `ledger.no_entry` and `bundle.too_large`.
 */
export function buildHeadProof(source: ProofSource, head: number, from: number = head): Buffer {
  const { treeSize } = payloadOf(source, head);
  const start = startSequence(source, head);
  const isFar = from < start && head - from - 1 > LIMITS.proofLinksMax;
  const bundle = assemble(source, [treeSize - 1], isFar ? start : Math.min(start, from), head);
  if (!isFar) return encodeBundle(bundle);
  const fromSize = payloadOf(source, from).treeSize;
  return encodeBundle({ ...bundle, consistency: { fromSize, path: source.consistency(fromSize, treeSize) } });
}

function assemble(source: ProofSource, wanted: readonly number[], start: number, head: number): Bundle {
  const { treeSize, support } = payloadOf(source, head);
  const links = range(start + 1, head - 1).map((sequence) => ({ sequence, ...source.block(sequence) }));
  return {
    entries: entriesOf(source, [...new Set([...supporting(source, support, treeSize), ...wanted])], treeSize),
    genesis: source.block(0),
    links: links.map(({ payload }) => payload),
    anchors: links.flatMap(({ sequence, payload, evidence }) => {
      const statement = anchorStatement(decodeBlock(payload), decodeEvidence(evidence));
      return statement ? [{ sequence, attest: statement.attest, signature: statement.signature }] : [];
    }),
    ...(start === 0 || start === head ? {} : { start: source.block(start) }),
    ...(head === 0 ? {} : { head: source.block(head) }),
  };
}

const range = (first: number, last: number): readonly number[] => Array.from({ length: Math.max(0, last - first + 1) }, (_, at) => first + at);

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
