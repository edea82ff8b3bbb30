/** Where a chain stands at the controller: the durable form of one record. Pure codec; these bytes are the controller's own. */
import { TenzroError } from '#runtime/core/errors.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { fieldReaders } from '#runtime/ledger/fields.ts';

export interface ChainRecord {
  /** Gateway id, as its newest block says. */
  readonly gateway: string;
  /** The newest block that was verified. Absent while only entries have come. */
  readonly head?: ChainHead;
  /** All leaves that are stored: those beyond the head's tree wait for their block. */
  readonly size: number;
  /** The right edge of their tree, as `CompactRange.hashes`. */
  readonly edge: readonly Uint8Array[];
  /** Bytes of the leaves that wait. */
  readonly waitingBytes: number;
  /** The controller's wall clock when something was stored last. */
  readonly seenMicros: number;
  /** Two blocks with one number: nothing more is taken. */
  readonly fork?: Fork;
}

export interface ChainHead {
  readonly sequence: number;
  readonly blockHash: Uint8Array;
  readonly treeSize: number;
  readonly root: Uint8Array;
  /** The gateway's wall clock. */
  readonly wallMicros: number;
  /** The edge of the tree under it. */
  readonly edge: readonly Uint8Array[];
  /** Whether a TPM speaks for it; how far that is to be trusted, a policy says (`tenzro verify`). */
  readonly evidence: 'tpm2' | 'none';
}

export interface Fork {
  readonly sequence: number;
  /** Hashes of the block that was taken first, and of the other. */
  readonly ours: Uint8Array;
  readonly theirs: Uint8Array;
  readonly foundMicros: number;
}

const VERSION = 1;
const LEVELS_MAX = 64;

export function encodeRecord({ gateway, head, size, edge, waitingBytes, seenMicros, fork }: ChainRecord): Buffer {
  const top: Cbor = head ? [head.sequence, head.blockHash, head.treeSize, head.root, head.wallMicros, [...head.edge], head.evidence] : [];
  const split: Cbor = fork ? [fork.sequence, fork.ours, fork.theirs, fork.foundMicros] : [];
  return encodeCbor([VERSION, gateway, top, size, [...edge], waitingBytes, seenMicros, split]);
}

/** Throws `ledger.corrupt`. */
export function decodeRecord(bytes: Uint8Array): ChainRecord {
  const [version, gateway, head, size, edge, waitingBytes, seenMicros, fork] = listOf(decodeCbor(bytes));
  if (version !== VERSION || typeof gateway !== 'string') throw corrupt();
  const [top, split] = [headOf(head), forkOf(fork)];
  return {
    gateway, size: countOf(size), edge: edgeOf(edge), waitingBytes: countOf(waitingBytes), seenMicros: countOf(seenMicros),
    ...(top ? { head: top } : {}), ...(split ? { fork: split } : {}),
  };
}

function headOf(value: Cbor | undefined): ChainHead | undefined {
  const parts = listOf(value);
  if (parts.length === 0) return undefined;
  const [sequence, blockHash, treeSize, root, wallMicros, edge, evidence] = parts;
  if (evidence !== 'tpm2' && evidence !== 'none') throw corrupt();
  return { sequence: countOf(sequence), blockHash: hashOf(blockHash), treeSize: countOf(treeSize), root: hashOf(root), wallMicros: countOf(wallMicros), edge: edgeOf(edge), evidence };
}

function forkOf(value: Cbor | undefined): Fork | undefined {
  const parts = listOf(value);
  if (parts.length === 0) return undefined;
  const [sequence, ours, theirs, foundMicros] = parts;
  return { sequence: countOf(sequence), ours: hashOf(ours), theirs: hashOf(theirs), foundMicros: countOf(foundMicros) };
}

function edgeOf(value: Cbor | undefined): readonly Uint8Array[] {
  const hashes = listOf(value);
  if (hashes.length > LEVELS_MAX) throw corrupt();
  return hashes.map(hashOf);
}
const corrupt = (): TenzroError => new TenzroError('ledger.corrupt', 'a record of the controller\'s store does not decode');
const { listOf, hashOf, countOf } = fieldReaders(corrupt);
