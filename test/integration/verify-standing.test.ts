import assert from 'node:assert/strict';
import { toHex } from '#runtime/core/bytes.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { decodeBlock } from '#runtime/ledger/block.ts';
import { parsePolicy, type Policy } from '#runtime/verify/policy.ts';
import { judgeStanding, type Standing } from '#runtime/verify/standing.ts';
import { candidateOf, ownerThumbprint, TestRegistry } from '#test/support/fleetRegister.ts';
import { MemoryChain, testReading } from '#test/support/memoryChain.ts';
import { temporaryTpm, transportTo, type TemporaryTpm } from '#test/support/swtpm.ts';
import { TestBoot, TpmSealer } from '#test/support/tpmChain.ts';

describe('what a policy says of a chain that a TPM attests', function () {
  this.timeout(30_000);
  let tpm: TemporaryTpm;
  let chain: MemoryChain;
  let sealer: TpmSealer;
  let pair: { readonly ak: string; readonly ek: string };

  before(async function () {
    tpm = await temporaryTpm(this, { own: true });
    chain = new MemoryChain();
    sealer = new TpmSealer(chain);
    await using boot = await TestBoot.open(transportTo(tpm.address));
    for (const first of [true, false, false]) { chain.append(testReading(chain.entries.length)); await sealer.seal(boot, { first }); }
    const { akPublic, ekPublic } = decodeBlock(chain.block(0).payload).identity ?? assert.fail('no identity');
    assert.ok(akPublic && ekPublic);
    pair = { ak: toHex(sha256(akPublic)), ek: toHex(sha256(ekPublic)) };
  });
  after(async () => { await tpm[Symbol.asyncDispose](); });

  const standing = (policy: Policy): Standing => judgeStanding({ genesis: chain.block(0), head: chain.block(2), support: [] }, policy);
  const failed = ({ findings }: Standing): readonly string[] => findings.filter(({ result }) => result === 'fail').map(({ check }) => check);

  it('calls it emulated until somebody enrolled it, and enrolled with the pair that the claim proved', () => {
    const plain = standing(parsePolicy({ version: 1 }));
    assert.deepEqual([plain.level, plain.meets, failed(plain)], ['emulated', false, ['trust.policy']]);
    const enrolled = standing({ ...parsePolicy({ version: 1 }), enrolled: [pair] });
    assert.deepEqual([enrolled.level, enrolled.meets, failed(enrolled)], ['enrolled', true, []]);
  });

  it('finds another AK, other PCRs and a missing lease', () => {
    const base = parsePolicy({ version: 1, accept: ['emulated', 'enrolled'] });
    assert.ok(failed(standing({ ...base, enrolled: [{ ...pair, ak: 'ab'.repeat(32) }] })).includes('ek.enrolment'));
    assert.ok(failed(standing({ ...base, pcrs: new Map([[0, ['ab'.repeat(32)]]]) })).includes('boot.pcrs'));
    assert.deepEqual(failed(standing({ ...base, lease: 'required' })), ['lease']);
  });

  it('takes the chain of the TPM that was claimed, and of no other', async () => {
    const { publicKey } = sealer.soft.signer;
    await using registry = await TestRegistry.open({ accept: ['emulated'], shortfall: 'refuse' });
    await registry.register.begin(candidateOf('workshop', publicKey, { tpm: { ...pair, ak: 'ab'.repeat(32) } }), ownerThumbprint);
    const other = await registry.sendAll(chain);
    assert.deepEqual([other.refusal?.code, /another TPM/.test(other.refusal?.detail ?? '')], ['controller.unclaimed', true]);
    await registry.register.begin(candidateOf('workshop', publicKey, { tpm: pair }), ownerThumbprint);
    assert.equal((await registry.sendAll(chain)).refusal, undefined);
  });
});
