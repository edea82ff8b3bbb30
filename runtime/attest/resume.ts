/**
 * Whether a pending record is one that this sealer may end. The record lies on a disk that others may have written to, and the sealer's signature is
 * what a forger of it would be after: so only what the TPM itself bears out is ended, either by statements of the chain's attestation key over
 * the block's hash, or by PCR 14 that holds the hash. Whatever else is pending was never named to anyone, and the next block takes its place.
 */
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { LastBlock } from '#runtime/core/ports.ts';
import { parsePublic } from '#runtime/crypto/tpmEvidence.ts';
import { StatementJudge } from '#runtime/crypto/tpmStatement.ts';
import { blockHash, foldPcr, ZERO_HASH } from '#runtime/ledger/block.ts';
import type { TpmEvidence } from '#runtime/ledger/evidence.ts';
import { decodePending, type PendingBlock } from '#runtime/ledger/pending.ts';

export interface ChainEnd {
  readonly last: LastBlock | undefined;
  readonly signingKey: Uint8Array;
  /** TPMT_PUBLIC of the genesis' attestation key; undefined where there is no genesis yet, or one without a TPM. */
  readonly akPublic: Uint8Array | undefined;
}

/** The block that `record` holds, when it continues the chain; its evidence only when the TPM made it. Throws where the record does not decode. */
export function readResumable(record: Uint8Array, { last, signingKey, akPublic }: ChainEnd): (Pick<PendingBlock, 'payload' | 'block'> & { readonly evidence?: TpmEvidence }) | undefined {
  const { payload, block, evidence } = decodePending(record);
  const follows = block.sequence === (last ? last.sequence + 1 : 0) && equalBytes(block.previous, last ? blockHash(last.payload) : ZERO_HASH);
  if (!follows || (!last && !(block.identity && equalBytes(block.identity.signingKey, signingKey)))) return undefined;
  const isOurs = evidence?.kind === 'tpm2' && akPublic !== undefined && isAbout(evidence, blockHash(payload), akPublic);
  return { payload, block, ...(isOurs ? { evidence } : {}) };
}

/** The values beside the statements too: our signature would make a block of them that every verifier refutes. */
function isAbout({ quote, pcrs, counter }: TpmEvidence, hash: Uint8Array, akPublic: Uint8Array): boolean {
  const judge = new StatementJudge(parsePublic(akPublic));
  try {
    return judge.isQuoteOf(quote, hash, pcrs) && (!counter || judge.counterIn(counter, hash, counter.nvPublic) >= 0n);
  } catch (error) {
    if (error instanceof TenzroError && (error.code === 'tpm.statement' || error.code === 'tpm.structure')) return false;
    throw error;
  }
}

/** PCR 14 before the extension with this block, where the TPM has made that extension and none since. */
export function extendedFrom({ payload, block }: Pick<PendingBlock, 'payload' | 'block'>, last: LastBlock | undefined, pcr: Uint8Array): Uint8Array | undefined {
  const before = block.pcrStart ?? last?.pcrAfter;
  return before && equalBytes(pcr, foldPcr(before, blockHash(payload))) ? before : undefined;
}
