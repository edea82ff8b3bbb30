/**
 * What a policy says of a chain whose blocks were verified one by one as they came (`increment.ts`): the trust level of its head, and everything in which it
 * falls short, as a proof of the head would be judged. Pure, never throws on hostile bytes.
 */
import { chainIdOf } from '#runtime/ledger/block.ts';
import { toHex } from '#runtime/core/bytes.ts';
import type { BundleBlock } from '#runtime/ledger/bundle.ts';
import { checkBoot } from './boot.ts';
import { CheckBook, type CheckCode } from './checks.ts';
import { checkLease } from './lease.ts';
import { openBlock, type OpenedBundle } from './opened.ts';
import type { Policy, TrustLevel } from './policy.ts';
import { judgeTrust } from './verifier.ts';

export interface StandingInput {
  readonly genesis: BundleBlock;
  readonly head: BundleBlock;
  /** Entries under the head's root, by their place: those that it names. */
  readonly support: readonly { readonly index: number; readonly bytes: Uint8Array }[];
}

export interface Standing {
  readonly level: TrustLevel | 'none';
  readonly reason: string;
  /** Nothing of it is against the policy. */
  readonly meets: boolean;
  /** `fail`: against the policy. `unknown`: what would tell is not there. */
  readonly findings: readonly { readonly check: string; readonly result: 'fail' | 'unknown'; readonly detail: string }[];
}

const JUDGED: ReadonlySet<CheckCode> = new Set<CheckCode>(['ek.chain', 'ek.enrolment', 'boot.log', 'boot.pcrs', 'ima.log', 'software.reference', 'lease', 'trust.policy']);

export function judgeStanding({ genesis, head, support }: StandingInput, policy: Policy): Standing {
  const book = new CheckBook();
  const trust = book.attempt('block.format', () => {
    const first = openBlock('genesis', genesis);
    const last = head === genesis ? first : openBlock('head', head);
    const opened: OpenedBundle = {
      bundle: { entries: support.map((entry) => ({ ...entry, path: [] })), genesis, links: [], anchors: [] }, genesis: first, start: last, head: last, blocks: [...new Set([first, last])], segment: [last], anchors: [],
    };
    const judged = judgeTrust(book, opened, policy, toHex(chainIdOf(first.message.payload)));
    checkBoot(book, opened, policy);
    checkLease(book, opened, policy);
    return judged;
  });
  const findings = book.report().flatMap(({ code, result, detail }) => (JUDGED.has(code) && (result === 'fail' || result === 'unknown') ? [{ check: code, result, detail }] : []));
  return { level: trust?.level ?? 'none', reason: trust?.reason ?? 'its head does not open', meets: trust !== undefined && !book.refuted, findings };
}
