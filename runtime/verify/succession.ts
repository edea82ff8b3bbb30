/**
 * Whether a proof of one chain names the keys of another as its successors: `tenzro identity rotate` ends a chain with an entry that holds SHA-256 of the
 * signing key ‖ exchange key that follow, and every proof of the next chain brings its genesis, which holds both. Pure.
 */
import { equalBytes, toHex } from '#runtime/core/bytes.ts';
import { EPOCH_BODY, KIND, type Cbor } from '#runtime/core/types.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { decodeBundleBody, openBundle } from '#runtime/ledger/bundle.ts';
import { decodeEntry } from '#runtime/ledger/entry.ts';
import { openBlocks } from './opened.ts';
import type { Policy } from './policy.ts';
import type { Outcome } from './checks.ts';
import type { Report } from './report.ts';
import { verifyBundle } from './verifier.ts';

export interface Succession {
  /** Both proofs verify, and the old chain names the new chain's keys: `verified`. It names others, or a proof is refuted: `refuted`. Else `undecided`. */
  readonly outcome: Outcome;
  readonly detail: string;
  /** On the successor's proof. */
  readonly successor: Report;
}

/** `report`: on `file`, under the same policy; its `device`, a chain id, is the old chain's. Never throws on hostile bytes. */
export function verifySuccession(file: Uint8Array, report: Report, successorFile: Uint8Array, policy: Policy): Succession {
  const { device: _, ...ofAnyChain } = policy;
  const successor = verifyBundle(successorFile, ofAnyChain);
  const end = (outcome: Outcome, detail: string): Succession => ({ outcome, detail, successor });
  if (report.outcome !== 'verified') return end(report.outcome, 'the proof of the chain that ended does not verify');
  if (successor.outcome !== 'verified') return end(successor.outcome, 'the proof of the chain that follows does not verify');
  const named = successorIn(file);
  if (!named) return end('undecided', 'the proof holds no entry that names successors: prove the last entry of the chain that ended');
  const { signingKey, exchangeKey } = opened(successorFile).genesis.block.identity ?? {};
  if (!signingKey || !exchangeKey) return end('refuted', 'the genesis of the other chain names no two keys');
  if (!equalBytes(named, sha256(signingKey, exchangeKey))) return end('refuted', `the chain that ended names ${toHex(named)} as its successor: those are not the keys of chain ${successor.subject.chainId}`);
  return end('verified', `chain ${report.subject.chainId} ended by naming the keys of chain ${successor.subject.chainId}`);
}

const opened = (file: Uint8Array) => openBlocks(decodeBundleBody(openBundle(file).body));

function successorIn(file: Uint8Array): Uint8Array | undefined {
  for (const { bytes } of opened(file).bundle.entries) {
    const { kind, body } = decodeEntry(bytes);
    const named = kind === KIND.epoch && body instanceof Map ? (body as ReadonlyMap<number, Cbor>).get(EPOCH_BODY.successor) : undefined;
    if (named instanceof Uint8Array) return named;
  }
  return undefined;
}
