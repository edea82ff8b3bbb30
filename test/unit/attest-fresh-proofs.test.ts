import assert from 'node:assert/strict';
import { FreshProofs } from '#runtime/attest/freshProofs.ts';
import type { BlockInfo } from '#runtime/attest/sealer.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { decodeBundleBody, openBundle } from '#runtime/ledger/bundle.ts';
import { softChain } from '#test/support/memoryChain.ts';

const NONCE = Buffer.alloc(32, 3);

describe('attest: answers to challenges', () => {
  const { chain, sealer } = softChain(3, 1);
  let micros = 0;
  const challenge = (nonce: Uint8Array): Promise<BlockInfo> => {
    const { sequence } = sealer.seal({ challenge: nonce });
    return Promise.resolve({ sequence, hash: nonce, chainId: nonce, treeSize: 3, root: nonce, wallMicros: 0, resumed: false, evidence: { kind: 'none', reason: 'a test' }, findings: [] });
  };
  const open = (): FreshProofs => new FreshProofs({ attester: { challenge }, source: chain, clock: { wallMicros: () => micros, monoMicros: () => micros } });

  it('are bundles whose head carries the nonce, from the block that was asked for', async () => {
    const { links, head } = decodeBundleBody(openBundle(await open().freshBundle(NONCE, { from: 1 })).body);
    assert.equal(links.length, 2, 'blocks 1 and 2, from the genesis');
    assert.ok(head && Buffer.from(head.cose).includes(NONCE));
  });

  it('are bounded in a row, and grow back one by one', async () => {
    const proofs = open();
    for (let at = 0; at < LIMITS.challengesAtOnceMax; at++) await proofs.freshBundle(NONCE);
    const before = chain.blocks.length;
    await assert.rejects(proofs.freshBundle(NONCE), (error) => error instanceof TenzroError && error.code === 'attest.too_many_challenges' && error.retryAfterMs === LIMITS.challengeIntervalMs);
    assert.equal(chain.blocks.length, before, 'refused before anything is sealed');
    micros += LIMITS.challengeIntervalMs * 1_000;
    await proofs.freshBundle(NONCE);
    await assert.rejects(proofs.freshBundle(NONCE), { code: 'attest.too_many_challenges' });
    micros += 3_600_000_000;
    for (let at = 0; at < LIMITS.challengesAtOnceMax; at++) await proofs.freshBundle(NONCE);
    await assert.rejects(proofs.freshBundle(NONCE), { code: 'attest.too_many_challenges' });
  });

  it('are refused to what is no challenge, at no cost', async () => {
    const proofs = open();
    const before = chain.blocks.length;
    for (const bytes of [0, 15, 65]) await assert.rejects(proofs.freshBundle(Buffer.alloc(bytes)), { code: 'attest.challenge_malformed' });
    for (const from of [-1, 1.5, Number.NaN]) await assert.rejects(proofs.freshBundle(NONCE, { from }), { code: 'attest.challenge_malformed' });
    assert.equal(chain.blocks.length, before);
  });
});
