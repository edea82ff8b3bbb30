/**
 * The block that was begun: its payload alone, or `[payload, evidence]` once the TPM has said all that it will and before its counter rises. Pure codec.
 */
import { TenzroError } from '#runtime/core/errors.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { decodeBlock, type BlockPayload } from './block.ts';
import { decodeEvidence, encodeEvidence, type Evidence } from './evidence.ts';

export interface PendingBlock {
  /** Exact bytes. */
  readonly payload: Uint8Array;
  readonly block: BlockPayload;
  readonly evidence?: Evidence;
}

export const encodePending = (payload: Uint8Array, evidence?: Evidence): Uint8Array => (evidence ? encodeCbor([payload, encodeEvidence(evidence)]) : payload);

/** Throws `block.malformed` or `cbor.malformed`. */
export function decodePending(record: Uint8Array): PendingBlock {
  const value = decodeCbor(record);
  if (!Array.isArray(value)) return { payload: record, block: decodeBlock(record) };
  const [payload, evidence] = value as readonly Cbor[];
  if (value.length !== 2 || !(payload instanceof Uint8Array) || !(evidence instanceof Uint8Array)) throw new TenzroError('block.malformed', 'the pending record is neither a payload nor a pair of payload and evidence');
  return { payload, block: decodeBlock(payload), evidence: decodeEvidence(evidence) };
}
