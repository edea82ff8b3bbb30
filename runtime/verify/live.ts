/**
 * A proof held against the gateway that made it: the file, and an answer to our challenge now. The live chain must continue the file's head, and then
 * the tail is closed: what the TPM's PCR 14 and counter say now leaves no room for a block behind the live head, or for one cut in between. Pure.
 */
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { parseAttest } from '#runtime/crypto/tpmEvidence.ts';
import { anchorAfter, readCounter } from '#runtime/ledger/anchors.ts';
import { decodeBundleBody, openBundle } from '#runtime/ledger/bundle.ts';
import { verifyConsistency } from '#runtime/ledger/merkle.ts';
import type { Check, Outcome } from './checks.ts';
import { openBlocks, type OpenedBlock, type OpenedBundle } from './opened.ts';
import type { Policy } from './policy.ts';
import type { Report } from './report.ts';
import { verifyBundle } from './verifier.ts';

/** What happened between the file's head and the live head. */
export interface Since {
  /** Sequences of the two. */
  readonly from: number;
  readonly to: number;
  readonly blocks: number;
  readonly entries: number;
  /** Starts of the gateway's writer. */
  readonly starts: number;
  /** Resets of the TPM; null where one of the two blocks has no quote. */
  readonly resets: number | null;
  /** The counter as last stated by each; null where it never was. Decimal: 64 bits do not fit a JSON number. */
  readonly counter: { readonly from: string | null; readonly to: string | null };
  /** How the live chain was shown to continue the file's: every block's hash in between, or the log's consistency alone. */
  readonly shownBy: 'links' | 'consistency';
}

export interface LiveReport extends Report {
  /** Of the answer to the challenge. */
  readonly live: Report;
  /** Null where the live chain was not shown to continue the file's. */
  readonly since: Since | null;
}

/** `fresh`: the gateway's answer to `nonce`. Never throws on hostile bytes. */
export function verifyLive(file: Uint8Array, fresh: Uint8Array, nonce: Uint8Array, policy: Policy): LiveReport {
  const report = verifyBundle(file, policy);
  const live = verifyBundle(fresh, policy, { nonce });
  if (report.outcome !== 'verified') return { ...report, live, since: null };
  if (live.outcome !== 'verified') return closed(report, live, null, { result: live.outcome === 'refuted' ? 'fail' : 'unknown', detail: `the gateway's answer to our challenge ${live.outcome === 'refuted' ? 'was refuted' : 'could not be judged'}: ${reasonOf(live)}` });
  return compare(report, live, open(file), open(fresh));
}

/** What to ask the gateway for: the sequence that a file claims for its head, 0 where it cannot be read. */
export function headSequence(file: Uint8Array): number {
  try {
    return open(file).head.block.sequence;
  } catch (error) {
    if (error instanceof TenzroError) return 0; // the report will say what is wrong with it
    throw error;
  }
}

type Verdict = Pick<Check, 'result' | 'detail'>;

const open = (file: Uint8Array): OpenedBundle => openBlocks(decodeBundleBody(openBundle(file).body));

/** Two good bundles. */
function compare(report: Report, live: Report, before: OpenedBundle, now: OpenedBundle): LiveReport {
  const fail = (detail: string): LiveReport => closed(report, live, null, { result: 'fail', detail });
  const [from, to] = [before.head.block, now.head.block];
  if (!equalBytes(before.genesis.hash, now.genesis.hash)) return fail('the gateway runs another chain than the one in the file');
  if (to.sequence < from.sequence) return fail(`the gateway's chain ends at block ${to.sequence}, before block ${from.sequence} of the file: its tail was cut`);
  const same = [now.genesis, ...now.segment].find(({ block }) => block.sequence === from.sequence);
  if (same && !equalBytes(same.hash, before.head.hash)) return fail(`the gateway's block ${from.sequence} is not that of the file: its chain was cut before it and went on otherwise`);
  const proof = now.bundle.consistency;
  const isConsistent = proof !== undefined && proof.fromSize === from.treeSize && verifyConsistency(from.treeSize, to.treeSize, proof.path, from.root, to.root);
  if (!same && proof && !isConsistent) return fail(`the log under block ${from.sequence} of the file is not the beginning of the gateway's log`);
  if (!same && !proof) return closed(report, live, null, { result: 'unknown', detail: `the gateway's answer does not reach back to block ${from.sequence}` });
  const since = sinceOf(before.head, now.head, same ? 'links' : 'consistency');
  return closed(report, live, since, tailOf(live, now, since, same ? `block ${from.sequence} of the file is in the gateway's chain` : `the log under block ${from.sequence} of the file is the beginning of the gateway's`));
}

function tailOf(live: Report, { head }: OpenedBundle, { resets }: Since, shown: string): Verdict {
  const [tail, counted] = [live.checks.find(({ code }) => code === 'tail'), live.checks.find(({ code }) => code === 'counter.continuous')];
  if (tail?.result !== 'pass') return { result: 'unknown', detail: `${shown}, but ${tail?.detail ?? 'nothing closes it'}` };
  if (counted?.result !== 'pass') return { result: 'unknown', detail: `${shown}; ${counted?.detail ?? 'the counter was not judged'}` };
  const room = resets === 0 ? 'PCR 14 and the counter leave no room for a block that is missing'
    : `no anchored block is missing; the TPM was reset ${resets ?? 'an unknown number of'} times in between, and where a boot did not end with an orderly shutdown, blocks after its last anchor could be`;
  return { result: 'pass', detail: `${shown}, whose newest block ${head.block.sequence} was sealed after our challenge; ${room}` };
}

function sinceOf(from: OpenedBlock, to: OpenedBlock, shownBy: Since['shownBy']): Since {
  const [resetsBefore, resetsNow] = [resetCountOf(from), resetCountOf(to)];
  return {
    from: from.block.sequence, to: to.block.sequence, blocks: to.block.sequence - from.block.sequence, entries: to.block.treeSize - from.block.treeSize,
    starts: to.block.bootEpoch - from.block.bootEpoch, resets: resetsBefore === undefined || resetsNow === undefined ? null : resetsNow - resetsBefore,
    counter: { from: counterOf(from), to: counterOf(to) }, shownBy,
  };
}

const resetCountOf = ({ evidence }: OpenedBlock): number | undefined => (evidence.kind === 'none' ? undefined : parseAttest(evidence.quote.attest).clockInfo.resetCount);

function counterOf({ block, evidence }: OpenedBlock): string | null {
  if (evidence.kind === 'tpm2' && evidence.counter) return String(readCounter(evidence.counter).value);
  return anchorAfter(block, evidence)?.counter.toString() ?? null;
}

const reasonOf = ({ outcome, checks }: Report): string => {
  const wanted = outcome === 'refuted' ? 'fail' : 'unknown';
  const decisive = checks.find(({ result }) => result === wanted);
  return decisive ? `${decisive.code}: ${decisive.detail}` : outcome;
};

/** The file's report with its tail judged live. */
function closed(report: Report, live: Report, since: Since | null, tail: Verdict): LiveReport {
  const outcome: Outcome = tail.result === 'fail' ? 'refuted' : live.outcome === 'undecided' ? 'undecided' : report.outcome;
  return { ...report, outcome, checks: report.checks.map((check) => (check.code === 'tail' ? { ...check, ...tail } : check)), live, since };
}
