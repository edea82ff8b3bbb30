import assert from 'node:assert/strict';
import { EPOCH_BODY, KIND, type Cbor } from '#runtime/core/types.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { exchangeKeyOfSeed } from '#runtime/crypto/xwing.ts';
import { encodeEntry } from '#runtime/ledger/entry.ts';
import { buildProof } from '#runtime/ledger/proofBuilder.ts';
import { parsePolicy } from '#runtime/verify/policy.ts';
import { verifySuccession, type Succession } from '#runtime/verify/succession.ts';
import { verifyBundle } from '#runtime/verify/verifier.ts';
import { MemoryChain, SoftSealer, softChain, testReading } from '#test/support/memoryChain.ts';

const POLICY = { version: 1, accept: ['software'] };

/** The chain that follows, and the digest of its keys. */
function next(seedText: string): { readonly file: Uint8Array; readonly successor: Buffer } {
  const chain = new MemoryChain();
  const sealer = new SoftSealer(chain, sha256(Buffer.from(seedText)));
  const exchangeKey = exchangeKeyOfSeed(sha256(Buffer.from(`${seedText}, exchange`))).publicKey;
  chain.append(testReading(0));
  sealer.seal({ identity: { signingKey: sealer.signer.publicKey, exchangeKey } });
  return { file: buildProof(chain, 0), successor: sha256(sealer.signer.publicKey, exchangeKey) };
}

/** A chain whose last entry names a successor. */
function ended(successor: Uint8Array): Uint8Array {
  const { chain, sealer } = softChain(2, 2);
  const body = new Map<number, Cbor>([[EPOCH_BODY.code, 'identity.rotated'], [EPOCH_BODY.detail, 'the keys were changed'], [EPOCH_BODY.successor, successor]]);
  const index = chain.append(encodeEntry({ kind: KIND.epoch, source: MAIN_ENTITY, wallMicros: 0, bootEpoch: 1, monoMicros: 0, body }));
  sealer.seal();
  return buildProof(chain, index);
}

function judge(old: Uint8Array, successor: Uint8Array, accept = 'software'): Succession {
  const { chainId } = verifyBundle(old, parsePolicy(POLICY)).subject;
  const policy = parsePolicy({ ...POLICY, accept: [accept], ...(chainId === '' ? {} : { device: chainId }) });
  return verifySuccession(old, verifyBundle(old, policy), successor, policy);
}

describe('verify: succession of keys', () => {
  const heir = next('an heir');

  it('believes a chain that names the keys of the other; the device of the policy is the old chain', () => {
    const { outcome, detail, successor } = judge(ended(heir.successor), heir.file);
    assert.deepEqual([outcome, successor.outcome], ['verified', 'verified'], detail);
  });

  it('refutes keys that the old chain does not name', () => {
    assert.equal(judge(ended(heir.successor), next('a usurper').file).outcome, 'refuted');
  });

  it('refutes a successor without an exchange key', () => {
    const { chain, sealer } = softChain(1, 1, sha256(Buffer.from('one key')));
    assert.equal(judge(ended(sha256(sealer.signer.publicKey)), buildProof(chain, 0)).outcome, 'refuted');
  });

  it('cannot judge a proof that names nobody', () => {
    const { chain } = softChain(2, 2);
    assert.equal(judge(buildProof(chain, 1), heir.file).outcome, 'undecided');
  });

  it('takes neither proof that does not verify: altered, of the other, or not accepted', () => {
    const old = ended(heir.successor);
    const bent = Buffer.from(old);
    bent[bent.length - 40] = (bent[bent.length - 40] ?? 0) ^ 1;
    assert.equal(judge(bent, heir.file).outcome, 'refuted');
    assert.equal(judge(old, Buffer.from('no bundle')).outcome, 'refuted');
    assert.equal(judge(old, heir.file, 'dtpm').outcome, 'refuted');
  });
});
