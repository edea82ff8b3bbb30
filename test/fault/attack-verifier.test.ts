/**
 * Attacks on whoever judges: replayed nonces and leases, clones, lying logs and clocks, against a verifier over TLS and against the offline one. Each name says
 * what stops it, or that nothing here does; the test asserts exactly that. Table: docs/security.md.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { systemClock } from '#runtime/core/clock.ts';
import type { ErrorCode } from '#runtime/core/errors.ts';
import { KIND } from '#runtime/core/types.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { newSeed, signerOfSeed, type Signer } from '#runtime/crypto/mldsa.ts';
import { chainIdOf, type BlockPayload, type Identity } from '#runtime/ledger/block.ts';
import { encodeEntry } from '#runtime/ledger/entry.ts';
import { unwrapLease } from '#runtime/ledger/lease.ts';
import { decodeChallenge, encodeAppraisalRequest, encodeChallengeRequest, LEASE_PATH } from '#runtime/ledger/leaseMessages.ts';
import { encodeMeasurement } from '#runtime/ledger/measurement.ts';
import { buildHeadProof, buildProof } from '#runtime/ledger/proofBuilder.ts';
import { VerifierClient } from '#runtime/lease/client.ts';
import { acceptLease } from '#runtime/lease/receipt.ts';
import { parsePolicy, type Policy } from '#runtime/verify/policy.ts';
import { verifyLive } from '#runtime/verify/live.ts';
import { verifyBundle } from '#runtime/verify/verifier.ts';
import { recordLease, signedLease } from '#test/support/leases.ts';
import { EV, EVERY_EVENT, writeEventLog, type WrittenEvent } from '#test/support/measuredLogs.ts';
import { MemoryChain, testReading } from '#test/support/memoryChain.ts';
import { EMULATED, seal } from '#test/support/rollback.ts';
import { NEVER, openSealing } from '#test/support/sealHarness.ts';
import { temporaryTpm, transportTo, type TemporaryTpm } from '#test/support/swtpm.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { TestBoot, TpmSealer } from '#test/support/tpmChain.ts';
import { openTestVerifier, SOFTWARE_POLICY, testGateway, type TestGateway, type TestVerifier } from '#test/support/verifierHarness.ts';

const DAY_MICROS = 86_400_000_000;
const failure = (code: ErrorCode, pattern = /./) => (error: Error & { code?: string }): boolean => error.code === code && pattern.test(error.message);

function judged(file: Uint8Array, code: string, policy: Policy): readonly [outcome: string, result: string] {
  const { outcome, checks } = verifyBundle(file, policy);
  const { result, detail } = checks.find((check) => check.code === code) ?? assert.fail(code);
  return [outcome, `${result}: ${detail}`];
}

describe('attack: on a verifier and its leases', function () {
  this.timeout(30_000);
  let dir: TempDir;
  let verifier: TestVerifier;
  let required: Policy;
  beforeEach(async () => {
    dir = tempDir('attack-verifier');
    verifier = await openTestVerifier(dir.path);
    required = parsePolicy({ version: 1, accept: ['software'], lease: 'required', verifiers: [toHex(verifier.key)] });
  });
  afterEach(async () => { await verifier[Symbol.asyncDispose](); dir[Symbol.dispose](); });

  /** A proof of a reading under a block that names the lease. */
  function proofUnder({ chain, sealer }: TestGateway, statement: Uint8Array, change: Partial<BlockPayload> = {}): Buffer {
    const named = recordLease(chain, statement);
    const reading = chain.append(testReading(chain.entries.length));
    sealer.seal({ wallMicros: systemClock.wallMicros(), ...named, ...change });
    return buildProof(chain, reading);
  }

  it('nonce replay at the verifier, the same answer twice: refused, verifier.nonce', async () => {
    const gateway = testGateway(verifier);
    const { nonce } = await gateway.challenge();
    const body = encodeAppraisalRequest({ nonce, bundle: gateway.answer(nonce) });
    await gateway.post(LEASE_PATH.appraise, body);
    await assert.rejects(gateway.post(LEASE_PATH.appraise, body), failure('verifier.nonce'));
  });

  it('nonce replay at the verifier, an old answer under a new challenge: refused by quote.fresh, lease.refused', async () => {
    const gateway = testGateway(verifier);
    const old = gateway.answer((await gateway.challenge()).nonce);
    const { nonce } = await gateway.challenge();
    await assert.rejects(gateway.post(LEASE_PATH.appraise, encodeAppraisalRequest({ nonce, bundle: old })), failure('lease.refused', /quote\.fresh/));
  });

  it('the nonce and the answer of another gateway: refused by the TLS identity, verifier.nonce and appraise.identity', async () => {
    const [gateway, thief] = [testGateway(verifier), testGateway(verifier, 'a thief')];
    const { nonce } = await gateway.challenge();
    await assert.rejects(thief.post(LEASE_PATH.appraise, encodeAppraisalRequest({ nonce, bundle: gateway.answer(nonce) })), failure('verifier.nonce'));
    const own = await thief.challenge();
    await assert.rejects(thief.post(LEASE_PATH.appraise, encodeAppraisalRequest({ nonce: own.nonce, bundle: gateway.answer(own.nonce) })), failure('lease.refused', /appraise\.identity/));
  });

  it('lease replayed on another chain: refused by its gateway, lease.foreign_chain, and refuted in proofs by lease', async () => {
    const [gateway, other] = [testGateway(verifier), testGateway(verifier, 'another device')];
    const statement = unwrapLease(await gateway.appraise());
    const { nonce } = await other.challenge();
    assert.throws(() => acceptLease(statement, { verifierKey: verifier.key, nonce, bundle: other.answer(nonce) }), failure('lease.foreign_chain'));
    assert.match(judged(proofUnder(gateway, statement), 'lease', required).join(), /^verified,pass/, 'the control: where it belongs');
    assert.match(judged(proofUnder(other, statement), 'lease', required).join(), /^refuted,fail: the lease was given to another chain/);
  });

  it('lease replayed under an old challenge, or after another boot: refused by its gateway, lease.stale, and refuted in proofs by lease', async () => {
    const gateway = testGateway(verifier);
    const statement = unwrapLease(await gateway.appraise());
    const { nonce } = await gateway.challenge();
    assert.throws(() => acceptLease(statement, { verifierKey: verifier.key, nonce, bundle: gateway.answer(nonce) }), failure('lease.stale'));
    assert.match(judged(proofUnder(gateway, statement, { bootEpoch: 2 }), 'lease', required).join(), /^refuted,fail: the lease was given in boot epoch 1/);
  });

  it('lease forged in the verifier\'s name: refused by its gateway, lease.foreign_verifier, and refuted in proofs by lease', async () => {
    const gateway = testGateway(verifier);
    const { nonce } = await gateway.challenge();
    const bundle = gateway.answer(nonce);
    const forged = signedLease(gateway.chain, { nonce }, signerOfSeed(newSeed()));
    assert.throws(() => acceptLease(forged, { verifierKey: verifier.key, nonce, bundle }), failure('lease.foreign_verifier'));
    assert.match(judged(proofUnder(gateway, forged), 'lease', required).join(), /^refuted,fail: .*which the policy does not list/);
  });

  it('a proof from a device that the verifier refused, under policy lease: required: refuted by lease', async () => {
    const gateway = testGateway(verifier);
    verifier.policy = parsePolicy({ version: 1, accept: ['software'], software: ['ab'.repeat(32)] });
    const reason = await gateway.appraise().then(() => assert.fail('granted'), (error: Error) => error.message);
    assert.match(reason, /software\.reference/);
    const reading = gateway.chain.append(testReading(9));
    gateway.sealer.seal({ lease: { kind: 'none', reason: `refused: ${reason}` } });
    const file = buildProof(gateway.chain, reading);
    assert.match(judged(file, 'lease', required).join(), /^refuted,fail: .*software\.reference.*requires/);
    assert.match(judged(file, 'lease', SOFTWARE_POLICY).join(), /^verified,skipped/, 'a policy that asks for no lease is not told more than the block says');
  });

  it('disk clone, keys and all, of a gateway without a TPM: refused by appraise.sequence at the first that comes second; before that, nothing here stops it', async () => {
    const [original, clone] = [testGateway(verifier), testGateway(verifier)];
    assert.deepEqual(clone.chainId, original.chainId);
    await clone.appraise();
    await assert.rejects(original.appraise(), failure('lease.refused', /appraise\.(?:sequence|history): block 2 is (?:not the block 2|another one)/));
  });

  it('the wall clock set back by a day, a lease asked for: refused by appraise.time', async () => {
    await verifier[Symbol.asyncDispose]();
    verifier = await openTestVerifier(dir.path, { clock: { ...systemClock, wallMicros: () => systemClock.wallMicros() + DAY_MICROS } });
    await assert.rejects(testGateway(verifier).appraise(), failure('lease.refused', /appraise\.time: .* 86400 s behind/));
  });
});

describe('attack: on who verifies what a TPM says', function () {
  this.timeout(30_000);
  let tpm: TemporaryTpm;
  before(async function () { tpm = await temporaryTpm(this, { own: true }); });
  after(async () => { await tpm?.[Symbol.asyncDispose](); });
  beforeEach(() => tpm.restart());

  it('nonce replay in verify --live, the answer to an earlier challenge: refuted by quote.fresh and tail', async () => {
    using dir = tempDir('attack-live');
    await using sealing = await openSealing(dir.path, tpm.address);
    const held = buildHeadProof(sealing.reader, (await seal(sealing)).sequence);
    const [earlier, now] = [randomBytes(32), randomBytes(32)];
    const { sequence } = await sealing.sealer.seal({ challenge: earlier }, NEVER);
    const replayed = buildHeadProof(sealing.reader, sequence, 0);
    assert.equal(verifyLive(held, replayed, earlier, EMULATED).outcome, 'verified', 'the control: to who asked');
    const { outcome, live, checks } = verifyLive(held, replayed, now, EMULATED);
    assert.deepEqual([outcome, live.checks.find(({ code }) => code === 'quote.fresh')?.result, checks.find(({ code }) => code === 'tail')?.result], ['refuted', 'fail', 'fail']);
  });

  describe('a boot that another loader went through', () => {
    const claimed = EVERY_EVENT.filter(({ type, pcr }) => type !== EV.noAction && pcr !== 14);
    const happened = claimed.map((event) => (event.type === EV.application ? { ...event, measured: Buffer.from('an evil loader') } : event));
    const policy = parsePolicy({ version: 1, accept: ['emulated'] });

    /** The firmware measures what happened; the gateway records `log`. */
    async function proofWith(log: Uint8Array): Promise<Buffer> {
      {
        await using firmware = new Tpm(transportTo(tpm.address));
        await firmware.startup(NEVER);
        const digestOf = ({ data, measured = data }: WrittenEvent): Buffer => sha256(measured);
        for (const event of happened) await firmware.pcr.extend(event.pcr, digestOf(event), NEVER);
      }
      const chain = new MemoryChain();
      const sealer = new TpmSealer(chain);
      const body = encodeMeasurement({ what: 'tcg', log, digest: sha256(log) });
      const bootLog = chain.append(encodeEntry({ kind: KIND.measurement, source: 'device/main//', wallMicros: 0, bootEpoch: 1, monoMicros: 0, body }));
      await using boot = await TestBoot.open(transportTo(tpm.address));
      await sealer.seal(boot, { first: true, change: { support: { bootLog } } });
      return buildProof(chain, bootLog);
    }

    it('event log that lies about what was measured: refuted by boot.log, for it does not replay to the quoted PCRs', async () => {
      assert.match(judged(await proofWith(writeEventLog(happened)), 'boot.log', policy).join(), /^verified,pass/, 'the control: the true log');
      await tpm.restart();
      assert.match(judged(await proofWith(writeEventLog(claimed)), 'boot.log', policy).join(), /^refuted,fail: .*PCR 4 differ/);
    });

    it('event log that lies about its lengths: refuted by boot.log, and read no further than it goes', async () => {
      const log = writeEventLog(happened);
      const lying = Buffer.from(log);
      lying.writeUInt32LE(0xffff_fff0, log.length - (happened.at(-1)?.data.length ?? 0) - 4); // the size of the last event's data
      assert.match(judged(await proofWith(lying), 'boot.log', policy).join(), /^refuted,fail: the boot event log is not whole/);
    });

    it('event log left out: boot.log can say nothing, and a policy with reference PCRs refutes by boot.pcrs', async () => {
      const file = await proofWith(Buffer.alloc(0));
      assert.equal(judged(file, 'boot.log', policy)[1].startsWith('pass'), false);
      assert.match(judged(file, 'boot.pcrs', { ...policy, pcrs: new Map([[4, ['ab'.repeat(32)]]]) }).join(), /^refuted,fail: PCR 4/);
    });
  });

  /** A new chain that the TPM quotes asks for its first lease. */
  async function asks({ url, ca }: TestVerifier, boot: TestBoot, identity: Partial<Identity> = {}): Promise<Signer> {
    const chain = new MemoryChain();
    chain.append(testReading(0));
    const sealer = new TpmSealer(chain, newSeed());
    const { signer } = sealer.soft;
    await sealer.seal(boot, { first: true, change: { identity: { ...await boot.identity(signer.publicKey), ...identity } } });
    const client = new VerifierClient({ url, ca: () => ca });
    const post = async (path: string, body: Uint8Array): Promise<Buffer> => (await client.post(path, body, { signer, device: 'workshop' }, NEVER)).body;
    const { nonce } = decodeChallenge(await post(LEASE_PATH.challenge, encodeChallengeRequest(chainIdOf(chain.block(0).payload))));
    await sealer.seal(boot, { first: true, change: { challenge: nonce, wallMicros: systemClock.wallMicros() } });
    await post(LEASE_PATH.appraise, encodeAppraisalRequest({ nonce, bundle: buildHeadProof(chain, 1) }));
    return signer;
  }

  it('somebody else\'s EK named first, at a verifier that takes TPMs which nobody enrolled: remembered for the signing key alone, so that the EK\'s owner is not shut out', async function () {
    using dir = tempDir('attack-squat');
    await using verifier = await openTestVerifier(dir.path);
    verifier.policy = parsePolicy({ version: 1, accept: ['emulated'] });
    await using squatters = await temporaryTpm(this, { own: true });
    await using owner = await TestBoot.open(transportTo(tpm.address));
    await using squatter = await TestBoot.open(transportTo(squatters.address));
    const { ekPublic = assert.fail('no EK') } = await owner.identity(new Uint8Array(0));
    const keys = [await asks(verifier, squatter, { ekPublic }), await asks(verifier, owner)];
    assert.equal(verifier.memory.identity(sha256(ekPublic)), undefined);
    for (const { publicKey } of keys) assert.ok(verifier.memory.identity(sha256(publicKey)));
  });
});
