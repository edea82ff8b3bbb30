/**
 * The NV counter along a chain. An anchor is a block whose evidence certifies the counter and after which the counter was incremented: so the value
 * `v` was certified while the block's hash was known already, and it can never be certified for another block again. Anchors of a whole chain
 * therefore read v, v+1, v+2 …; whoever cuts one cannot fill its place. A block over a verifier's challenge certifies the counter too and does not
 * count: challenges wear no NV memory. Pure.
 */
import { asBuffer } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { parseAttest } from '#runtime/crypto/tpmEvidence.ts';
import type { AnchorMark, BlockPayload } from './block.ts';
import type { Evidence, TpmEvidence } from './evidence.ts';

export type CounterStatement = NonNullable<TpmEvidence['counter']>;

/** TPM_NT_COUNTER holds 64 bits, Part 2 §13.2. */
const COUNTER_BYTES = 8;

/** What a certification says of the counter. Throws `tpm.structure`, and `block.malformed` for one that is of something else. */
export function readCounter({ attest }: Pick<CounterStatement, 'attest'>): { readonly name: Uint8Array; readonly value: bigint } {
  const { attested } = parseAttest(attest);
  if (attested.kind !== 'nv' || attested.offset !== 0 || attested.contents.length !== COUNTER_BYTES) throw new TenzroError('block.malformed', 'evidence: not the certification of a whole NV counter');
  return { name: attested.name, value: asBuffer(attested.contents).readBigUInt64BE() };
}

/** The statement of an anchor; undefined where the block is none. */
export const anchorStatement = ({ challenge }: Pick<BlockPayload, 'challenge'>, evidence: Evidence): CounterStatement | undefined =>
  evidence.kind === 'tpm2' && !challenge ? evidence.counter : undefined;

/** Increments between the last anchor and a counter that says `value`, which no block names. Negative: the counter went back. */
export const missingSince = (mark: AnchorMark | undefined, value: bigint): bigint => (mark ? value - mark.counter - 1n : 0n);

/** Where the counter stands behind a block. Throws like `readCounter`. */
export function anchorAfter(block: Pick<BlockPayload, 'anchor' | 'challenge' | 'sequence'>, evidence: Evidence): AnchorMark | undefined {
  const statement = anchorStatement(block, evidence);
  if (!statement) return block.anchor;
  const { value } = readCounter(statement);
  const missing = missingSince(block.anchor, value);
  return { sequence: block.sequence, counter: value, missing: (block.anchor?.missing ?? 0n) + (missing > 0n ? missing : 0n) };
}
