import assert from 'node:assert/strict';
import { toHex } from '#runtime/core/bytes.ts';
import type { Maybe } from '#runtime/core/types.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { signerOfSeed } from '#runtime/crypto/mldsa.ts';
import type { Lease } from '#runtime/ledger/lease.ts';
import { buildProof } from '#runtime/ledger/proofBuilder.ts';
import type { Check } from '#runtime/verify/checks.ts';
import { parsePolicy, type Policy } from '#runtime/verify/policy.ts';
import { verifyBundle } from '#runtime/verify/verifier.ts';
import { recordLease, signedLease, testVerifier } from '#test/support/leases.ts';
import { softChain, testReading } from '#test/support/memoryChain.ts';

const OPTIONAL: Policy = parsePolicy({ version: 1, accept: ['software'], verifiers: [toHex(sha256(testVerifier.publicKey))] });
const REQUIRED: Policy = { ...OPTIONAL, lease: 'required' };
const STRANGER: Policy = { ...REQUIRED, verifiers: ['ab'.repeat(32)] };

const leaseCheck = (file: Uint8Array, policy: Policy): Pick<Check, 'result' | 'detail'> => {
  const { checks } = verifyBundle(file, policy);
  return checks.find(({ code }) => code === 'lease') ?? assert.fail('no check of the lease');
};

/** A proof of a reading under a block that names this lease; `head` bends that block. */
function proofUnder(change: Partial<Lease> = {}, options: { readonly statement?: Uint8Array; readonly lease?: Maybe<Uint8Array>; readonly head?: object } = {}): Buffer {
  const { chain, sealer } = softChain(2, 2);
  const named = recordLease(chain, options.statement ?? signedLease(chain, change));
  const reading = chain.append(testReading(chain.entries.length));
  sealer.seal({ ...named, ...(options.lease ? { lease: options.lease } : {}), ...options.head });
  return buildProof(chain, reading);
}

describe('verify a lease', () => {
  it('passes under a policy that requires one of this verifier', () => {
    const { outcome, checks } = verifyBundle(proofUnder(), REQUIRED);
    assert.equal(outcome, 'verified', JSON.stringify(checks));
    assert.match(leaseCheck(proofUnder(), REQUIRED).detail, /'test verifier' appraised block 1 as 'software'; in force until/);
  });

  it('does not count when the policy lists another verifier', () => {
    assert.equal(leaseCheck(proofUnder(), STRANGER).result, 'fail');
    assert.deepEqual([leaseCheck(proofUnder(), { ...STRANGER, lease: 'optional' }).result], ['unknown']);
  });

  it('fails on a lease of another chain, device, boot or block, with or without being required', () => {
    const bent: readonly (readonly [Partial<Lease>, RegExp])[] = [
      [{ chainId: sha256(Buffer.from('another')) }, /another chain/], [{ identity: sha256(Buffer.from('another')) }, /another device/],
      [{ bootEpoch: 2 }, /boot epoch 2/], [{ sequence: 2 }, /not before the head/], [{ blockHash: sha256(Buffer.from('another')) }, /appraised another block 1/],
    ];
    for (const [change, pattern] of bent) {
      for (const policy of [OPTIONAL, REQUIRED]) {
        const { result, detail } = leaseCheck(proofUnder(change), policy);
        assert.equal(result, 'fail', detail);
        assert.match(detail, pattern);
      }
    }
  });

  it('fails on a lease that had run out, or was not yet given, by the wall time', () => {
    const second = Math.floor(1_795_392_000_000_000 / 1e6);
    assert.match(leaseCheck(proofUnder({ issuedAt: second - 1_000, expiresAt: second - 400 }), REQUIRED).detail, /after the lease ran out/);
    assert.match(leaseCheck(proofUnder({ issuedAt: second + 400, expiresAt: second + 1_000 }), REQUIRED).detail, /before the lease was given/);
    assert.equal(leaseCheck(proofUnder({ issuedAt: second - 1_000, expiresAt: second - 200 }), REQUIRED).result, 'pass', 'within the skew that the policy allows');
  });

  it('fails on another statement than the head names, a forged signature, and bytes that are no lease', () => {
    const { chain } = softChain(2, 2);
    assert.match(leaseCheck(proofUnder({}, { lease: { kind: 'value', value: sha256(Buffer.from('another')) } }), OPTIONAL).detail, /another lease than the one that the head names/);
    const forged = Buffer.from(signedLease(chain));
    forged.writeUInt8((forged.at(-1) ?? 0) ^ 1, forged.length - 1);
    assert.match(leaseCheck(proofUnder({}, { statement: forged }), REQUIRED).detail, /not signed by the key that it names/);
    assert.match(leaseCheck(proofUnder({}, { statement: Buffer.from('no lease') }), OPTIONAL).detail, /lease:/);
    const foreign = signedLease(chain, {}, signerOfSeed(sha256(Buffer.from('an impostor'))));
    assert.match(leaseCheck(proofUnder({}, { statement: foreign }), REQUIRED).detail, /verifier key [0-9a-f]{64}, which the policy does not list/);
  });

  it('fails where one is required and the head has none, or its statement is not in the bundle; else says so', () => {
    const none = proofUnder({}, { lease: { kind: 'none', reason: 'lapsed: the verifier cannot be reached' } });
    assert.match(leaseCheck(none, REQUIRED).detail, /has no lease: lapsed.*requires/);
    assert.equal(leaseCheck(none, OPTIONAL).result, 'skipped');
    const pruned = proofUnder({}, { head: { support: {} } });
    assert.deepEqual([leaseCheck(pruned, REQUIRED).result, leaseCheck(pruned, OPTIONAL).result], ['fail', 'unknown']);
    const { chain } = softChain(1, 2);
    assert.deepEqual([leaseCheck(buildProof(chain, 0), REQUIRED).result, leaseCheck(buildProof(chain, 0), OPTIONAL).result], ['fail', 'skipped']);
  });
});
