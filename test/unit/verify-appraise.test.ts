import assert from 'node:assert/strict';
import { toHex } from '#runtime/core/bytes.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { decodeChainMemory, encodeChainMemory, type ChainMemory } from '#runtime/ledger/chainMemory.ts';
import { decodeBundleBody, encodeBundle, openBundle } from '#runtime/ledger/bundle.ts';
import { consistencyPath } from '#runtime/ledger/merkle.ts';
import { buildProof } from '#runtime/ledger/proofBuilder.ts';
import { appraise, type Appraisal, type AppraisalInput } from '#runtime/verify/appraise.ts';
import { DEFAULT_POLICY, parsePolicy } from '#runtime/verify/policy.ts';
import { MemoryChain, softChain, testReading, type SoftSealer } from '#test/support/memoryChain.ts';

const SOFTWARE = parsePolicy({ version: 1, accept: ['software'], clockSkewSeconds: 60 });
const NONCE = Buffer.alloc(32, 5);
/** When the chain's blocks say that they were sealed. */
const NOW_MICROS = 1_795_392_000_000_000;

/** Seals a block over the nonce and proves it. */
function answer(chain: MemoryChain, sealer: SoftSealer, nonce: Uint8Array = NONCE): Buffer {
  const index = chain.append(testReading(chain.entries.length));
  sealer.seal({ challenge: nonce });
  return buildProof(chain, index);
}

const input = (file: Uint8Array, change: Partial<AppraisalInput> = {}): AppraisalInput => ({
  file, policy: SOFTWARE, policyDigest: sha256(Buffer.from('policy')), nonce: NONCE, remembered: { chain: () => undefined, identity: () => undefined }, nowMicros: NOW_MICROS, ...change,
});
const remembering = (memory: ChainMemory, identity: Uint8Array = memory.identity): Pick<AppraisalInput, 'remembered'> => ({ remembered: { chain: () => memory, identity: () => identity } });
const resultOf = ({ checks }: Appraisal, code: string): string => { const check = checks.find((one) => one.code === code); return `${check?.result}: ${check?.detail}`; };
const memoryOf = ({ memory, reasons }: Appraisal): ChainMemory => memory ?? assert.fail(reasons.join());

describe('appraise', () => {
  const { chain, sealer } = softChain(3, 2);
  const first = appraise(input(answer(chain, sealer)));
  const seen = memoryOf(first);
  sealer.seal();
  const file = answer(chain, sealer);
  /** The same answer where the known block is too far back: with a proof of consistency instead. */
  const far = encodeBundle({ ...decodeBundleBody(openBundle(file).body), start: chain.block(4), links: [], consistency: { fromSize: seen.treeSize, path: consistencyPath(seen.treeSize, chain.entries.length, (level, index) => subtree(chain, level, index)) } });

  it('grants at first sight, and says what the lease would hold and what it remembers', () => {
    assert.deepEqual([first.granted, first.reasons], [true, []]);
    assert.equal(first.lease?.trust, 'software');
    assert.equal(first.lease?.sequence, 3);
    assert.ok(first.lease?.measurements.some(([code]) => code === 'software.reference'));
    assert.ok(first.lease?.verdicts.some(([code, result]) => code === 'appraise.identity' && result === 'pass'));
    const again = decodeChainMemory(encodeChainMemory(seen));
    assert.deepEqual([again.sequence, again.treeSize, again.device, toHex(again.root)], [seen.sequence, seen.treeSize, 'workshop', toHex(seen.root)]);
  });

  it('grants again when the history grew from what was seen', () => {
    const second = appraise(input(file, { ...remembering(seen) }));
    assert.deepEqual([second.granted, second.reasons], [true, []]);
    assert.match(resultOf(second, 'appraise.history'), /pass: block 3, which was appraised before, and block 5 are of one chain/);
    const third = appraise(input(far, remembering(seen)));
    assert.deepEqual([third.granted, third.reasons], [true, []]);
    assert.match(resultOf(third, 'appraise.history'), /pass: the 7 entries seen before are the beginning of these 8/);
  });

  it('refuses another nonce, and a bundle that answers none', () => {
    assert.match(resultOf(appraise(input(file, { nonce: Buffer.alloc(32, 6) })), 'quote.fresh'), /fail: block 5 does not answer our challenge/);
    const plain = softChain(2, 2);
    const unasked = appraise(input(buildProof(plain.chain, 3)));
    assert.equal(unasked.granted, false);
    assert.match(resultOf(unasked, 'quote.fresh'), /fail: block 1 does not answer our challenge/);
  });

  it('refuses a history that went back, was forked, or is not shown to be the same', () => {
    const ahead = { ...seen, sequence: 9, treeSize: 20 };
    assert.match(resultOf(appraise(input(file, { ...remembering(ahead) })), 'appraise.sequence'), /fail: block 5 comes no later than block 9.*went back/);
    assert.match(resultOf(appraise(input(file, { ...remembering({ ...seen, sequence: 5 }) })), 'appraise.sequence'), /fail: block 5 is not the block 5/);
    assert.match(resultOf(appraise(input(file, { ...remembering({ ...seen, blockHash: sha256(NONCE) }) })), 'appraise.history'), /fail: block 3 is another one/);
    assert.match(resultOf(appraise(input(far, remembering({ ...seen, root: sha256(NONCE) }))), 'appraise.history'), /fail: nothing shows/);
    assert.match(resultOf(appraise(input(far, remembering({ ...seen, treeSize: 6 }))), 'appraise.history'), /fail: nothing shows/);
    assert.match(resultOf(appraise(input(file, { ...remembering({ ...seen, bootEpoch: 2 }) })), 'appraise.sequence'), /fail: boot epoch 1 after 2/);
  });

  it('refuses a device key that was first seen with other keys', () => {
    const refused = appraise(input(file, { remembered: { chain: () => undefined, identity: () => sha256(NONCE) } }));
    assert.match(resultOf(appraise(input(file, { clientKey: sha256(NONCE) })), 'appraise.identity'), /fail: who asks does not hold/);
    assert.match(resultOf(refused, 'appraise.identity'), /fail: signing key [0-9a-f]{64} was first seen with another/);
  });

  it('refuses a wall time beyond the policy\'s skew, in either direction', () => {
    for (const nowMicros of [NOW_MICROS - 90_000_000, NOW_MICROS + 90_000_000]) assert.match(resultOf(appraise(input(file, { nowMicros })), 'appraise.time'), /fail: .* 90 s (behind|ahead of) the verifier; the policy allows 60 s/);
    assert.match(resultOf(appraise(input(file, { nowMicros: NOW_MICROS + 30_000_000 })), 'appraise.time'), /^pass/);
  });

  it('refuses TPM evidence that vanished since it was seen', () => {
    const refused = appraise(input(file, { ...remembering({ ...seen, tpm: { resetCount: 1, restartCount: 0, clock: 1, counter: 1 } }) }));
    assert.match(resultOf(refused, 'appraise.clock'), /fail: the block has no TPM evidence/);
    assert.match(resultOf(refused, 'appraise.counter'), /fail: the block carries no counter/);
  });

  it('refuses what the policy refuses, and bytes that are no bundle, and says why', () => {
    const refused = appraise(input(file, { policy: DEFAULT_POLICY }));
    assert.equal(refused.granted, false);
    assert.match(refused.reasons.join(), /trust\.policy: the trust level is 'software'/);
    assert.match(resultOf(refused, 'appraise.history'), /skipped: not made: the bundle was refuted/);
    assert.match(appraise(input(Buffer.from('no bundle'))).reasons.join(), /bundle\.format/);
  });

  it('asks for no lease before it gives one', () => {
    assert.equal(appraise(input(file, { policy: { ...SOFTWARE, lease: 'required' } })).granted, true);
  });

  it('explains a bundle that nobody challenged, without a nonce', () => {
    const { nonce: _, ...unasked } = input(file);
    const dry = appraise(unasked);
    assert.equal(dry.granted, true);
    assert.match(resultOf(dry, 'quote.fresh'), /skipped/);
  });
});

/** Root over the complete subtree of 2^level leaves: chains of this test are short. */
function subtree(chain: MemoryChain, level: number, index: number): Uint8Array {
  const part = new MemoryChain();
  for (let leaf = index << level; leaf < (index + 1) << level; leaf++) part.append(Buffer.from(chain.entry(leaf)));
  return part.rootAt(1 << level);
}
