import assert from 'node:assert/strict';
import { encodeCbor } from '#runtime/crypto/cbor.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { blockHash, decodeBlock, type Identity } from '#runtime/ledger/block.ts';
import { BUNDLE_MAGIC, decodeBundleBody, encodeBundle, openBundle, type Bundle } from '#runtime/ledger/bundle.ts';
import { decodeEvidence, encodeEvidence, type TpmEvidence } from '#runtime/ledger/evidence.ts';
import { buildProof } from '#runtime/ledger/proofBuilder.ts';
import type { CheckCode } from '#runtime/verify/checks.ts';
import { DEFAULT_POLICY, parsePolicy, type Policy } from '#runtime/verify/policy.ts';
import type { Report } from '#runtime/verify/report.ts';
import { verifyBundle } from '#runtime/verify/verifier.ts';
import { MemoryChain, testReading } from '#test/support/memoryChain.ts';
import { temporaryTpm, transportTo, type TemporaryTpm } from '#test/support/swtpm.ts';
import { TestBoot, TpmSealer } from '#test/support/tpmChain.ts';

const EMULATED: Policy = parsePolicy({ version: 1, accept: ['emulated'] });
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const open = (file: Uint8Array): Bundle => decodeBundleBody(openBundle(file).body);
const resultOf = (report: Report, code: CheckCode): string => report.checks.find((check) => check.code === code)?.result ?? '';
const detailOf = (report: Report, code: CheckCode): string => report.checks.find((check) => check.code === code)?.detail ?? '';

function assertRefuted(file: Uint8Array, code: CheckCode, policy: Policy = EMULATED): void {
  const report = verifyBundle(file, policy);
  assert.equal(report.outcome, 'refuted', JSON.stringify(report.checks, null, 1));
  assert.equal(resultOf(report, code), 'fail', JSON.stringify(report.checks.filter(({ result }) => result === 'fail')));
}

describe('verify a chain that a TPM attests', function () {
  this.timeout(30_000);
  let tpm: TemporaryTpm;
  let otherTpm: TemporaryTpm;
  let chain: MemoryChain;
  let identity: Identity;

  const grow = (to: MemoryChain): void => { to.append(testReading(to.entries.length)); };
  const boot = (): Promise<TestBoot> => TestBoot.open(transportTo(tpm.address));

  /** Two boots: blocks 0–1, reset, blocks 2–5; entry n is first covered by block n. */
  before(async function () {
    tpm = await temporaryTpm(this, { own: true });
    otherTpm = await temporaryTpm(this, { own: true });
    chain = new MemoryChain();
    const sealer = new TpmSealer(chain);
    const seal = async (running: TestBoot, first: boolean): Promise<void> => { grow(chain); await sealer.seal(running, { first }); };
    {
      await using running = await boot();
      for (const first of [true, false]) await seal(running, first);
    }
    await tpm.restart();
    await using running = await boot();
    for (const first of [true, false, false, false]) await seal(running, first);
    identity = decodeBlock(chain.block(0).payload).identity ?? assert.fail('no identity');
  });
  after(async () => { await tpm[Symbol.asyncDispose](); await otherTpm[Symbol.asyncDispose](); });

  it('accepts it as emulated, folded from the TPM\'s boot', () => {
    const report = verifyBundle(buildProof(chain, 5), EMULATED);
    assert.equal(report.outcome, 'verified', JSON.stringify(report.checks, null, 1));
    assert.equal(report.trust.level, 'emulated');
    const passed = report.checks.filter(({ result }) => result === 'pass').map(({ code }) => code);
    for (const code of ['ak.attributes', 'quote.signature', 'quote.extradata', 'quote.pcrs', 'chain.previous', 'pcr14.fold', 'counter.name', 'counter.increasing', 'clock.monotone'] as const) assert.ok(passed.includes(code), `${code}: ${detailOf(report, code)}`);
    assert.match(detailOf(report, 'pcr14.fold'), /^4 blocks from 2 fold .*the TPM's boot/);
    assert.match(detailOf(report, 'chain.previous'), /the 1 between genesis and block 2 are not in the bundle/);
    assert.equal(resultOf(report, 'boot.pcrs'), 'unknown');
  });

  it('accepts every entry of it', () => {
    for (let index = 0; index < chain.entries.length; index++) assert.equal(verifyBundle(buildProof(chain, index), EMULATED).outcome, 'verified', `entry ${index}`);
  });

  it('refuses it by default', () => {
    const report = verifyBundle(buildProof(chain, 5), DEFAULT_POLICY);
    assert.equal(report.outcome, 'refuted');
    assert.match(detailOf(report, 'trust.policy'), /'emulated'.*neither a certificate nor an enrolment/);
  });

  it('is enrolled when the policy lists the pair, and refuted when it lists the EK with another AK', () => {
    const [ek, ak] = [hex(sha256(identity.ekPublic ?? assert.fail())), hex(sha256(identity.akPublic ?? assert.fail()))];
    const report = verifyBundle(buildProof(chain, 5), parsePolicy({ version: 1, enrolled: [{ ek, ak }] }));
    assert.deepEqual([report.outcome, report.trust.level], ['verified', 'enrolled']);
    assertRefuted(buildProof(chain, 5), 'ek.enrolment', parsePolicy({ version: 1, accept: ['emulated'], enrolled: [{ ek, ak: 'ab'.repeat(32) }] }));
  });

  it('never verifies a sampled flip, also with the digest recomputed', () => {
    const { body } = openBundle(buildProof(chain, 5));
    for (let at = 0; at < body.length; at += 31) {
      const flipped = Buffer.from(body);
      flipped.writeUInt8((flipped[at] ?? 0) ^ (1 << (at % 8)), at);
      assert.notEqual(verifyBundle(encodeCbor([BUNDLE_MAGIC, sha256(flipped), flipped]), EMULATED).outcome, 'verified', `byte ${at}`);
    }
  });

  it('refutes a missing link of the boot, and folds from a later block where the bundle begins there', () => {
    const bundle = open(buildProof(chain, 5));
    const [first, second] = bundle.links;
    assert.ok(first && second && bundle.start && bundle.links.length === 2);
    assertRefuted(encodeBundle({ ...bundle, links: [second] }), 'chain.previous');
    const { start: _, ...withoutStart } = bundle;
    assertRefuted(encodeBundle({ ...withoutStart, links: [] }), 'chain.previous');
    const later = verifyBundle(encodeBundle({ ...bundle, start: chain.block(4), links: [] }), EMULATED);
    assert.equal(later.outcome, 'verified');
    assert.match(detailOf(later, 'pcr14.fold'), /begins there and not at the TPM's boot/);
  });

  describe('refutes what a forger with the signing key, but not the TPM, could seal', () => {
    /** A fresh chain on the running TPM: a good genesis, then one block that `bend` signs with evidence of its choice. */
    async function forged(bend: (context: { running: TestBoot; sealer: TpmSealer; hash: Uint8Array; payload: Uint8Array; genesis: TpmEvidence }) => Promise<TpmEvidence>, identityChange: Partial<Identity> = {}): Promise<Buffer> {
      await using running = await boot();
      const forgery = new MemoryChain();
      const sealer = new TpmSealer(forgery);
      await sealer.seal(running, { first: true, change: { identity: { ...await running.identity(sealer.soft.signer.publicKey), ...identityChange } } });
      grow(forgery);
      const genesis = decodeEvidence(forgery.block(0).evidence);
      assert.equal(genesis.kind, 'tpm2');
      const payload = sealer.soft.payload();
      sealer.soft.sign(payload, { evidence: await bend({ running, sealer, hash: blockHash(payload), payload, genesis }) });
      return buildProof(forgery, 0);
    }
    const honest = async (running: TestBoot, hash: Uint8Array): Promise<TpmEvidence> => { await running.extend(hash); return running.evidence(hash, { counter: true }); };

    it('(and accepts what the TPM did say)', async () => {
      assert.equal(verifyBundle(await forged(({ running, hash }) => honest(running, hash)), EMULATED).outcome, 'verified');
    });

    it('a replayed quote', async () => {
      const file = await forged(({ genesis }) => Promise.resolve(genesis));
      assertRefuted(file, 'quote.extradata');
      assertRefuted(file, 'pcr14.fold');
    });

    it('a replayed counter beside an honest quote', async () => {
      assertRefuted(await forged(async ({ running, hash, genesis }) => ({ ...await honest(running, hash), ...(genesis.counter ? { counter: genesis.counter } : {}) })), 'quote.extradata');
    });

    it('a counter that did not rise', async () => {
      await using running = await boot();
      const forgery = new MemoryChain();
      const { soft } = new TpmSealer(forgery);
      const first = soft.payload({ pcrStart: await running.pcr14(), identity: await running.identity(soft.signer.publicKey) });
      await running.extend(blockHash(first));
      const quoted = await running.evidence(blockHash(first), { counter: false });
      soft.sign(first);
      grow(forgery);
      const second = soft.payload();
      await running.extend(blockHash(second));
      const early = await running.evidence(blockHash(second), { counter: true });
      const { counter } = await running.evidence(blockHash(first), { counter: true });
      assert.ok(counter);
      forgery.blocks.length = 0;
      soft.sign(first, { evidence: { ...quoted, counter } });
      soft.sign(second, { evidence: early });
      assertRefuted(buildProof(forgery, 0), 'counter.increasing');
    });

    it('a block that the TPM\'s log does not hold, and one that it holds but the chain left out', async () => {
      assertRefuted(await forged(({ running, hash }) => running.evidence(hash, { counter: false })), 'pcr14.fold');
      assertRefuted(await forged(async ({ running, hash }) => { await running.extend(sha256(hash)); return honest(running, hash); }), 'pcr14.fold');
    });

    it('PCR values that were not quoted', async () => {
      assertRefuted(await forged(async ({ running, hash }) => {
        const evidence = await honest(running, hash);
        return { ...evidence, pcrs: evidence.pcrs.map(([index, value]) => [index, index === 0 ? sha256(value) : value] as const) };
      }), 'quote.pcrs');
      assertRefuted(await forged(async ({ running, hash }) => {
        const evidence = await honest(running, hash);
        return { ...evidence, pcrs: evidence.pcrs.slice(1) };
      }), 'quote.pcrs');
    });

    it('a quote by another TPM, and one by another key under this TPM\'s name', async () => {
      await using stranger = await TestBoot.open(transportTo(otherTpm.address));
      assertRefuted(await forged(async ({ hash }) => honest(stranger, hash)), 'quote.pcrs');
      assertRefuted(await forged(async ({ running, hash }) => {
        const [own, foreign] = [await honest(running, hash), await stranger.evidence(hash, { counter: false })];
        return { ...own, quote: { attest: own.quote.attest, signature: foreign.quote.signature } };
      }), 'quote.signature');
    });

    it('a counter where a quote belongs, and truncated statements', async () => {
      assertRefuted(await forged(async ({ running, hash }) => {
        const evidence = await honest(running, hash);
        return { ...evidence, quote: evidence.counter ?? assert.fail() };
      }), 'quote.pcrs');
      assertRefuted(await forged(async ({ running, hash }) => {
        const evidence = await honest(running, hash);
        return { ...evidence, quote: { ...evidence.quote, attest: evidence.quote.attest.subarray(0, -1) } };
      }), 'quote.signature');
    });

    it('an attestation key that is not restricted', async () => {
      await using running = await boot();
      const akPublic = Buffer.from((await running.identity(new Uint8Array(0))).akPublic ?? assert.fail());
      akPublic.writeUInt32BE((akPublic.readUInt32BE(4) & ~(1 << 16)) >>> 0, 4);
      await running[Symbol.asyncDispose]();
      assertRefuted(await forged(({ running: later, hash }) => honest(later, hash), { akPublic }), 'ak.attributes');
    });

    it('evidence of one block beside another', () => {
      const bundle = open(buildProof(chain, 5));
      assert.ok(bundle.head);
      assertRefuted(encodeBundle({ ...bundle, head: { ...bundle.head, evidence: chain.block(4).evidence } }), 'signature.header');
      assertRefuted(encodeBundle({ ...bundle, head: { ...bundle.head, evidence: encodeEvidence({ kind: 'none', reason: 'lost' }) } }), 'signature.header');
    });
  });

  it('refutes a reset count that fell', async () => {
    const forgery = new MemoryChain();
    const { soft } = new TpmSealer(forgery);
    let early: TpmEvidence;
    let first: Buffer;
    let second: Buffer;
    {
      await using running = await boot();
      first = soft.payload({ identity: await running.identity(soft.signer.publicKey) });
      soft.sign(first);
      grow(forgery);
      second = soft.payload();
      early = await running.evidence(blockHash(second), { counter: false });
    }
    await tpm.restart();
    await using running = await boot();
    forgery.blocks.length = 0;
    soft.sign(first, { evidence: await running.evidence(blockHash(first), { counter: false }) });
    soft.sign(second, { evidence: early });
    assertRefuted(buildProof(forgery, 0), 'clock.monotone');
  });
});
