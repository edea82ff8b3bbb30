/** What a verifier remembers of a chain from one appraisal to the next: enough to see a history that went back. Pure codec of its durable form. */
import { TenzroError } from '#runtime/core/errors.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { fieldReaders } from './fields.ts';

export interface ChainMemory {
  /** Gateway id, as its last block says. */
  readonly device: string;
  /** `identityDigest`. */
  readonly identity: Uint8Array;
  /** The last appraised block. */
  readonly sequence: number;
  readonly blockHash: Uint8Array;
  readonly treeSize: number;
  readonly root: Uint8Array;
  readonly bootEpoch: number;
  /** The verifier's wall clock at that appraisal. */
  readonly seenMicros: number;
  readonly tpm?: TpmMemory;
}

export interface TpmMemory {
  readonly resetCount: number;
  readonly restartCount: number;
  /** Milliseconds. */
  readonly clock: number;
  /** NV counter, where the block had one. */
  readonly counter?: number;
}

const VERSION = 1;

export function encodeChainMemory({ device, identity, sequence, blockHash, treeSize, root, bootEpoch, seenMicros, tpm }: ChainMemory): Buffer {
  const clocks: Cbor = tpm ? [tpm.resetCount, tpm.restartCount, tpm.clock, ...(tpm.counter === undefined ? [] : [tpm.counter])] : [];
  return encodeCbor([VERSION, device, identity, sequence, blockHash, treeSize, root, bootEpoch, seenMicros, clocks]);
}

/** Throws `ledger.corrupt`: these bytes are the verifier's own. */
export function decodeChainMemory(bytes: Uint8Array): ChainMemory {
  const fields = decodeCbor(bytes);
  if (!Array.isArray(fields) || fields.length !== 10) throw corrupt();
  const [version, device, identity, sequence, blockHash, treeSize, root, bootEpoch, seenMicros, clocks] = fields as readonly Cbor[];
  if (version !== VERSION || typeof device !== 'string' || !Array.isArray(clocks)) throw corrupt();
  const [resetCount, restartCount, clock, counter] = clocks as readonly Cbor[];
  return {
    device, identity: hashOf(identity), sequence: countOf(sequence), blockHash: hashOf(blockHash), treeSize: countOf(treeSize), root: hashOf(root), bootEpoch: countOf(bootEpoch), seenMicros: countOf(seenMicros),
    ...(clocks.length === 0 ? {} : { tpm: { resetCount: countOf(resetCount), restartCount: countOf(restartCount), clock: countOf(clock), ...(counter === undefined ? {} : { counter: countOf(counter) }) } }),
  };
}

const corrupt = (): TenzroError => new TenzroError('ledger.corrupt', 'a record of the verifier\'s memory does not decode');
const { hashOf, countOf } = fieldReaders(corrupt);
