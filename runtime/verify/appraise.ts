/**
 * The appraisal that a lease rests on: a bundle that was sealed over our nonce, the policy, and what we remember of the chain in, a verdict with its
 * reasons out. Beyond the offline verifier's checks: the answer is fresh, and this history is the one that we saw before, grown. Pure.
 */
import { asBuffer, equalBytes, toHex } from '#runtime/core/bytes.ts';
import { isoOfMicros } from '#runtime/core/clock.ts';
import type { TpmAttest } from '#runtime/crypto/tpmEvidence.ts';
import { parseAttest } from '#runtime/crypto/tpmEvidence.ts';
import { chainIdOf, ZERO_HASH } from '#runtime/ledger/block.ts';
import { decodeBundleBody, openBundle } from '#runtime/ledger/bundle.ts';
import type { ChainMemory, TpmMemory } from '#runtime/ledger/chainMemory.ts';
import { identityDigest, keyDigestsOf, type LeaseClaims, type Verdict } from '#runtime/ledger/lease.ts';
import type { CheckLine } from '#runtime/ledger/leaseMessages.ts';
import { verifyConsistency } from '#runtime/ledger/merkle.ts';
import type { CheckCode } from './checks.ts';
import { openBlocks, type OpenedBundle } from './opened.ts';
import type { Policy, TrustLevel } from './policy.ts';
import type { Report } from './report.ts';
import { verifyBundle } from './verifier.ts';

/** Codes are stable; their order is that of the report. Reference: docs/reference/lease.md. */
const CHECKS = ['appraise.identity', 'appraise.sequence', 'appraise.history', 'appraise.counter', 'appraise.clock', 'appraise.time'] as const;
type AppraisalCode = (typeof CHECKS)[number];

/** What compares something measured with a reference: `measres` of the lease. */
const MEASURED: ReadonlySet<string> = new Set<CheckCode>(['boot.log', 'boot.pcrs', 'ima.log', 'software.reference']);

/** What the verifier remembers; asked only about a bundle that the offline checks found good. */
export interface Remembered {
  chain(chainId: Uint8Array): ChainMemory | undefined;
  /** `identityDigest` that was first seen with this device key. */
  identity(deviceKey: Uint8Array): Uint8Array | undefined;
}

export interface AppraisalInput {
  /** The bundle. */
  readonly file: Uint8Array;
  readonly policy: Policy;
  /** SHA-256 of the policy file. */
  readonly policyDigest: Uint8Array;
  /** Absent in a dry run over a bundle that nobody challenged. */
  readonly nonce?: Uint8Array;
  /** SHA-256 of the key that the client proved over TLS; absent in a dry run. */
  readonly clientKey?: Uint8Array;
  readonly remembered: Remembered;
  /** The verifier's wall clock. */
  readonly nowMicros: number;
}

export interface Appraisal {
  readonly granted: boolean;
  /** What failed, in words; empty when granted. */
  readonly reasons: readonly string[];
  readonly report: Report;
  /** The offline verifier's checks, then those of the appraisal. */
  readonly checks: readonly CheckLine[];
  /** Only where it was granted. */
  readonly lease?: LeaseClaims;
  readonly memory?: ChainMemory;
  /** What the identity is remembered by: SHA-256 of the EK where it is proven to be the device's, else of the signing key. Anybody can name an EK. */
  readonly deviceKey?: Uint8Array;
}

/** Never throws on hostile bytes. */
export function appraise(input: AppraisalInput): Appraisal {
  const { file, policy, nonce } = input;
  const report = verifyBundle(file, { ...policy, lease: 'optional' }, nonce ? { nonce } : {}); // a lease that needs a lease could never begin
  if (report.outcome !== 'verified') {
    const why = report.outcome === 'refuted' ? 'not made: the bundle was refuted' : 'not made: the bundle could not be judged';
    return verdictOf(report, CHECKS.map((code) => ({ code, result: 'skipped', detail: why })), undefined);
  }
  const subject = subjectOf(file, report);
  return verdictOf(report, CHECKS.map((code) => ({ code, ...JUDGES[code](input, subject) })), { input, subject });
}

interface Subject {
  readonly opened: OpenedBundle;
  readonly chainId: Uint8Array;
  readonly device: string;
  readonly identity: Uint8Array;
  /** SHA-256. */
  readonly signingKey: Uint8Array;
  readonly deviceKey: Uint8Array;
  readonly tpm: TpmMemory | undefined;
}

/** Of a bundle that the offline checks found good: nothing here throws. */
function subjectOf(file: Uint8Array, { subject: { device } }: Report): Subject {
  const opened = openBlocks(decodeBundleBody(openBundle(file).body));
  const { genesis, head } = opened;
  const keys = keyDigestsOf(genesis.block.identity ?? { signingKey: ZERO_HASH });
  const tpm = head.evidence.kind === 'tpm2' ? tpmOf(parseAttest(head.evidence.quote.attest), head.evidence.counter && parseAttest(head.evidence.counter.attest)) : undefined;
  return { opened, chainId: chainIdOf(genesis.message.payload), device, identity: identityDigest(keys), signingKey: keys.signingKey, deviceKey: keys.ek ?? keys.signingKey, tpm };
}

function tpmOf({ clockInfo: { resetCount, restartCount, clock } }: TpmAttest, counter: TpmAttest | undefined): TpmMemory {
  const value = counter?.attested.kind === 'nv' ? Number(asBuffer(counter.attested.contents).readBigUInt64BE()) : undefined;
  return { resetCount, restartCount, clock: Number(clock), ...(value === undefined ? {} : { counter: value }) };
}

/** Trust levels at which credential activation bound EK, AK and signing key. */
const BOUND: ReadonlySet<string> = new Set<TrustLevel>(['dtpm', 'enrolled']);

type Finding = Omit<CheckLine, 'code'>;
const pass = (detail: string): Finding => ({ result: 'pass', detail });
const fail = (detail: string): Finding => ({ result: 'fail', detail });
const skip = (detail: string): Finding => ({ result: 'skipped', detail });
const FIRST_SIGHT = 'the chain is seen for the first time';

const JUDGES: Readonly<Record<AppraisalCode, (input: AppraisalInput, subject: Subject) => Finding>> = {
  'appraise.identity': ({ remembered, clientKey }, { chainId, identity, signingKey, deviceKey, opened: { genesis } }) => {
    if (clientKey && !equalBytes(clientKey, signingKey)) return fail('who asks does not hold the signing key of this chain');
    const what = genesis.block.identity?.ekPublic ? 'EK' : 'signing key';
    const first = remembered.chain(chainId)?.identity ?? remembered.identity(deviceKey);
    if (!first) return pass(`${what} ${toHex(deviceKey)} is seen for the first time`);
    return equalBytes(first, identity) ? pass('signing key, AK and EK are those of the first sight') : fail(`${what} ${toHex(deviceKey)} was first seen with another signing key or AK`);
  },

  'appraise.sequence': ({ remembered }, { chainId, opened: { head } }) => {
    const before = remembered.chain(chainId);
    if (!before) return skip(FIRST_SIGHT);
    const { sequence, treeSize, bootEpoch } = head.block;
    if (sequence === before.sequence && !equalBytes(head.hash, before.blockHash)) return fail(`block ${sequence} is not the block ${sequence} that was appraised before`);
    if (sequence <= before.sequence) return fail(`block ${sequence} comes no later than block ${before.sequence}, which was appraised before: the chain went back`);
    if (treeSize < before.treeSize) return fail(`the log has ${treeSize} entries, ${before.treeSize} were seen before`);
    if (bootEpoch < before.bootEpoch) return fail(`boot epoch ${bootEpoch} after ${before.bootEpoch}`);
    return pass(`block ${sequence} after block ${before.sequence}`);
  },

  'appraise.history': ({ remembered }, { chainId, opened: { bundle, head, segment } }) => {
    const before = remembered.chain(chainId);
    if (!before) return skip(FIRST_SIGHT);
    const same = segment.find(({ block }) => block.sequence === before.sequence);
    if (same && !equalBytes(same.hash, before.blockHash)) return fail(`block ${before.sequence} is another one than was appraised before: the chain was forked`);
    if (same) return pass(`block ${before.sequence}, which was appraised before, and block ${head.block.sequence} are of one chain`);
    const { fromSize, path } = bundle.consistency ?? { fromSize: undefined, path: [] };
    const grew = fromSize === before.treeSize && verifyConsistency(fromSize, head.block.treeSize, path, before.root, head.block.root);
    return grew ? pass(`the ${fromSize} entries seen before are the beginning of these ${head.block.treeSize}`) : fail(`nothing shows that block ${before.sequence}, which was appraised before, is of this chain`);
  },

  'appraise.counter': ({ remembered }, { chainId, tpm, opened: { head } }) => {
    const before = remembered.chain(chainId);
    const [from, to] = [before?.tpm?.counter, tpm?.counter];
    if (!before) return skip(FIRST_SIGHT);
    if (from === undefined) return skip('no counter was seen before');
    if (to === undefined) return fail(`the block carries no counter; ${from} was seen before`);
    if (to < from) return fail(`the counter is ${to}; ${from} was seen before: an old state was restored`);
    // An anchor increments it once, a challenge never (ledger/anchors.ts).
    const explained = head.block.sequence - before.sequence + (head.block.bootEpoch - before.bootEpoch);
    return to - from <= explained ? pass(`${to} after ${from}`) : fail(`the counter rose by ${to - from}, ${explained} of it explained by blocks and starts: something else incremented it, as a copy of this disk would`);
  },

  'appraise.clock': ({ remembered }, { chainId, tpm }) => {
    const before = remembered.chain(chainId);
    if (!before) return skip(FIRST_SIGHT);
    if (!before.tpm) return skip('no TPM was seen before');
    if (!tpm) return fail('the block has no TPM evidence; earlier ones had');
    if (tpm.resetCount < before.tpm.resetCount) return fail(`the TPM was reset ${tpm.resetCount} times, ${before.tpm.resetCount} were seen before: it was cleared, or its state restored`);
    const isSameBoot = tpm.resetCount === before.tpm.resetCount;
    if (isSameBoot && (tpm.clock < before.tpm.clock || tpm.restartCount < before.tpm.restartCount)) return fail('the TPM\'s clock or restart count went back without a reset');
    return pass(`${isSameBoot ? 'same boot of the TPM' : `${tpm.resetCount - before.tpm.resetCount} resets later`}, at ${tpm.clock} ms`);
  },

  'appraise.time': ({ policy, nonce, nowMicros }, { opened: { head } }) => {
    if (!nonce) return skip('no nonce was given: the block may be of any age');
    const offSeconds = Math.round((head.block.wallMicros - nowMicros) / 1e6);
    const words = `the block says ${isoOfMicros(head.block.wallMicros)}, ${Math.abs(offSeconds)} s ${offSeconds < 0 ? 'behind' : 'ahead of'} the verifier`;
    return Math.abs(offSeconds) <= policy.clockSkewSeconds ? pass(words) : fail(`${words}; the policy allows ${policy.clockSkewSeconds} s`);
  },
};

function verdictOf(report: Report, own: readonly CheckLine[], judged: { readonly input: AppraisalInput; readonly subject: Subject } | undefined): Appraisal {
  const checks: CheckLine[] = [...report.checks, ...own];
  const failed = checks.filter(({ result }) => result === 'fail').map(({ code, detail }) => `${code}: ${detail}`);
  if (failed.length > 0 || !judged) return { granted: false, reasons: failed.length > 0 ? failed : [report.trust.reason], report, checks };
  const { input, subject } = judged;
  return { granted: true, reasons: [], report, checks, lease: claimsOf(report, checks, input, subject), memory: memoryOf(input, subject), deviceKey: BOUND.has(report.trust.level) ? subject.deviceKey : subject.signingKey };
}

function claimsOf({ trust }: Report, checks: readonly CheckLine[], { policyDigest }: AppraisalInput, { chainId, identity, tpm, opened: { head } }: Subject): LeaseClaims {
  const { bootEpoch, sequence } = head.block;
  const verdicts = checks.map(({ code, result }): Verdict => [code, result]);
  return {
    chainId, identity, bootEpoch, sequence, blockHash: head.hash, policy: policyDigest, trust: trust.level,
    measurements: verdicts.filter(([code]) => MEASURED.has(code)), verdicts: verdicts.filter(([code]) => !MEASURED.has(code)),
    ...(tpm ? { tpm: { resetCount: tpm.resetCount, clock: tpm.clock } } : {}),
  };
}

function memoryOf({ nowMicros }: AppraisalInput, { device, identity, tpm, opened: { head } }: Subject): ChainMemory {
  const { sequence, treeSize, root, bootEpoch } = head.block;
  return { device, identity, sequence, blockHash: head.hash, treeSize, root, bootEpoch, seenMicros: nowMicros, ...(tpm ? { tpm } : {}) };
}
