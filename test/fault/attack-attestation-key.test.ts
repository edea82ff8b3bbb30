/**
 * Attacks on the tie between endorsement key and attestation key: a genuine EK beside a key that quotes from elsewhere. Each name says what stops it; the test
 * asserts exactly that. Table: docs/security.md.
 */
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { activatorOf } from '#drivers/tpm2/activate.ts';
import { openAnchor } from '#drivers/tpm2/anchor.ts';
import { permanent } from '#drivers/tpm2/command.ts';
import { COMMAND, HANDLE, PERSISTENT } from '#drivers/tpm2/constants.ts';
import { NO_POLICY, policyCommandCodeDigest } from '#drivers/tpm2/policyDigest.ts';
import { akP256, ekEccP256, externalP256 } from '#drivers/tpm2/templates.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { openVault } from '#drivers/tpm2/vault.ts';
import { Enroller } from '#provisioning/enrolment/enroller.ts';
import { answerChallenge } from '#provisioning/enrolment/gateway.ts';
import { answerDigest, answerMessage, decodeAnswer, decodeChallenge, encodeAnswer, encodeRequest, type EnrolmentRequest } from '#provisioning/enrolment/messages.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { systemClock } from '#runtime/core/clock.ts';
import type { ErrorCode } from '#runtime/core/errors.ts';
import { ENROLMENT_BODY, KIND } from '#runtime/core/types.ts';
import { makeCredential } from '#runtime/crypto/credential.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { newSeed, signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { OBJECT_ATTRIBUTE, parsePublic } from '#runtime/crypto/tpmEvidence.ts';
import { hmacSha256 } from '#runtime/crypto/tpmKdf.ts';
import { chainIdOf } from '#runtime/ledger/block.ts';
import { signEnrolment } from '#runtime/ledger/enrolment.ts';
import { encodeEntry } from '#runtime/ledger/entry.ts';
import { buildProof } from '#runtime/ledger/proofBuilder.ts';
import { parsePolicy } from '#runtime/verify/policy.ts';
import { verifyBundle } from '#runtime/verify/verifier.ts';
import { testVerifier } from '#test/support/leases.ts';
import { MemoryChain, testReading } from '#test/support/memoryChain.ts';
import { seal } from '#test/support/rollback.ts';
import { NEVER, openSealing } from '#test/support/sealHarness.ts';
import { temporaryTpm, transportTo, type TemporaryTpm } from '#test/support/swtpm.ts';
import { tempDir } from '#test/support/temp.ts';
import { TestBoot, TpmSealer } from '#test/support/tpmChain.ts';

const failure = (code: ErrorCode, pattern = /./) => (error: Error & { code?: string }): boolean => error.code === code && pattern.test(error.message);
const MEASURED = Buffer.alloc(32, 1);

interface Keys { readonly ekPublic: Uint8Array; readonly akPublic: Uint8Array }

async function keysOf(tpm: Tpm): Promise<Keys> {
  const anchor = await openAnchor(tpm, NEVER);
  return { akPublic: anchor.akPublic, ekPublic: (await anchor.endorsement(NEVER)).ekPublic };
}

describe('attack: the attestation key swapped', function () {
  this.timeout(30_000);
  const deviceSeed = newSeed();
  const device = signerOfSeed(deviceSeed);
  const policy = parsePolicy({ version: 1, accept: ['enrolled'], enrollers: [toHex(sha256(testVerifier.publicKey))] });
  let genuine: TemporaryTpm;
  let other: TemporaryTpm;
  let ours: Keys;
  let theirs: Keys;
  let enroller: Enroller;

  before(async function () {
    genuine = await temporaryTpm(this, { own: true });
    other = await temporaryTpm(this, { own: true });
    ours = await onOurs(keysOf);
    await using second = new Tpm(transportTo(other.address));
    theirs = await keysOf(second);
  });
  after(async () => { await genuine?.[Symbol.asyncDispose](); await other?.[Symbol.asyncDispose](); });
  beforeEach(() => {
    enroller = new Enroller({ name: 'test', clock: systemClock, judge: () => ({ kind: 'unchained', why: 'an emulator' }), firstUse: 'accept', sign: (enrolment) => signEnrolment(testVerifier, enrolment) });
  });
  afterEach(() => { enroller[Symbol.dispose](); });

  async function onOurs<T>(work: (tpm: Tpm) => Promise<T>): Promise<T> {
    await using tpm = new Tpm(transportTo(genuine.address));
    return await work(tpm);
  }
  const request = (keys: Keys, wanted: Partial<EnrolmentRequest> = {}): Buffer =>
    encodeRequest({ device: 'workshop', chainId: sha256(Buffer.from('a chain')), signingKey: device.publicKey, certificates: [], ...keys, ...wanted });
  const mixed = (): Keys => ({ ekPublic: ours.ekPublic, akPublic: theirs.akPublic });

  /** Enrols a chain, with the TPM that is ours. */
  async function statementFor(wanted: Partial<EnrolmentRequest>): Promise<Uint8Array> {
    const asked = request(ours, wanted);
    const challenge = enroller.begin(asked);
    return enroller.finish(await onOurs((tpm) => answerChallenge(asked, challenge, { activator: activatorOf(tpm, ours), signer: device }, NEVER)));
  }

  /** A chain that names these keys, is signed by `seed`, quoted by the TPM at `address`, and carries the statement that our TPM and `device` got for it. */
  async function proofBeside(address: string, identity: Keys, seed: Uint8Array): Promise<Buffer> {
    const chain = new MemoryChain();
    const sealer = new TpmSealer(chain, seed);
    chain.append(testReading(0));
    {
      await using boot = await TestBoot.open(transportTo(address));
      await sealer.seal(boot, { first: true, change: { identity: { signingKey: sealer.soft.signer.publicKey, ...identity } } });
    }
    const statement = await statementFor({ chainId: chainIdOf(chain.block(0).payload) });
    const enrolment = chain.append(encodeEntry({ kind: KIND.enrolment, source: 'device/main//', wallMicros: 0, bootEpoch: 1, monoMicros: 0, body: new Map([[ENROLMENT_BODY.statement, statement]]) }));
    await using boot = await TestBoot.open(transportTo(address));
    await sealer.seal(boot, { first: true, change: { support: { enrolment } } });
    return buildProof(chain, enrolment);
  }
  const judged = (file: Uint8Array): readonly [string, string] => {
    const { outcome, checks } = verifyBundle(file, policy);
    const { result, detail } = checks.find(({ code }) => code === 'ek.enrolment') ?? assert.fail('not judged');
    return [outcome, `${result}: ${detail}`];
  };

  it('AK swap (Keylime GHSA-jf66-3q76-h5p5) at the enroller: refuted by credential activation, enrol.challenge and enrol.answer', async () => {
    const [good, bad] = [request(ours), request(mixed())];
    const [goodChallenge, badChallenge] = [enroller.begin(good), enroller.begin(bad)];
    await assert.rejects(onOurs((tpm) => answerChallenge(bad, badChallenge, { activator: activatorOf(tpm, ours), signer: device }, NEVER)), failure('enrol.challenge'));
    // What the genuine pair opens is worth nothing for the other: the proof is over request and challenge, whole.
    const { blob, secret } = decodeChallenge(goodChallenge);
    const opened = await onOurs((tpm) => activatorOf(tpm, ours).activate(blob, secret, NEVER));
    for (const [asked, challenge] of [[bad, badChallenge], [bad, goodChallenge]] as const) {
      const digest = answerDigest(asked, challenge);
      const answer = encodeAnswer({ nonce: decodeChallenge(challenge).nonce, proof: hmacSha256(opened, digest), signature: device.sign(answerMessage(digest)) });
      assert.throws(() => enroller.finish(answer), failure('enrol.answer', /not activated/));
    }
  });

  it('nonce replay in enrolment, an answer given twice or to another challenge: refused, enrol.answer', async () => {
    const asked = request(ours);
    const [first, second] = [enroller.begin(asked), enroller.begin(asked)];
    const answer = await onOurs((tpm) => answerChallenge(asked, first, { activator: activatorOf(tpm, ours), signer: device }, NEVER));
    enroller.finish(answer);
    assert.throws(() => enroller.finish(answer), failure('enrol.answer', /answered before/));
    assert.throws(() => enroller.finish(encodeAnswer({ ...decodeAnswer(answer), nonce: decodeChallenge(second).nonce })), failure('enrol.answer', /not activated/));
  });

  it('AK swap, a key of software known to the genuine TPM by its public half alone: refused by the TPM, tpm.refused', async () => {
    await using tpm = new Tpm(transportTo(genuine.address));
    await tpm.startup(NEVER);
    const software = externalP256(generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey);
    const { fixedTpm, fixedParent, sensitiveDataOrigin, userWithAuth, adminWithPolicy, noDa, restricted, sign } = OBJECT_ATTRIBUTE;
    const activate = policyCommandCodeDigest(NO_POLICY, COMMAND.activateCredential);
    for (const [access, authPolicy] of [[userWithAuth, Buffer.alloc(0)], [adminWithPolicy, activate]] as const) {
      const size = Buffer.of(0, authPolicy.length);
      const ak = Buffer.concat([software.subarray(0, 4), Buffer.alloc(4), size, authPolicy, software.subarray(10)]);
      ak.writeUInt32BE(fixedTpm | fixedParent | sensitiveDataOrigin | access | noDa | restricted | sign, 4);
      await using loaded = await tpm.keys.loadExternal(ak, HANDLE.endorsement, NEVER);
      await using ek = await tpm.keys.createPrimary(HANDLE.endorsement, ekEccP256(), NEVER);
      const credential = makeCredential(parsePublic(ek.public.area), loaded.name, MEASURED);
      await using forEk = await tpm.sessions.startPolicy({ salt: ek }, NEVER);
      await tpm.policy.secret(forEk, permanent(HANDLE.endorsement), NEVER);
      await using forAk = await tpm.sessions.startPolicy({}, NEVER);
      await tpm.policy.commandCode(forAk, COMMAND.activateCredential, NEVER);
      await assert.rejects(tpm.keys.activateCredential(loaded, ek, credential, NEVER, forAk.use(), forEk.use()), failure('tpm.refused', /authUnavailable/));
    }
  });

  it('AK swap at the verifier, a genuine EK and its enrolment beside quotes of another AK: refuted by ek.enrolment', async () => {
    assert.equal(judged(await proofBeside(genuine.address, ours, deviceSeed))[0], 'verified', 'the control: nothing swapped');
    const [outcome, detail] = judged(await proofBeside(other.address, mixed(), deviceSeed));
    assert.equal(outcome, 'refuted');
    assert.match(detail, /^fail: 'test' enrolled this EK with another AK/);
  });

  it('an enrolment statement pasted beside other keys on the same TPM: refuted by ek.enrolment', async () => {
    const [outcome, detail] = judged(await proofBeside(genuine.address, ours, newSeed()));
    assert.equal(outcome, 'refuted');
    assert.match(detail, /^fail: .*its signingKey is not that of the genesis/);
  });

  it('AK swap in the gateway, another key at the handle of ours: refused by the genesis, attest.foreign_tpm', async () => {
    using dir = tempDir('ak-swap');
    await onOurs(async (tpm) => {
      await assert.rejects(activatorOf(tpm, mixed()).activate(Buffer.alloc(0), Buffer.alloc(0), NEVER), failure('attest.foreign_tpm'));
      await openVault(tpm).prepare(NEVER);
    });
    {
      await using sealing = await openSealing(dir.path, genuine.address);
      assert.equal((await seal(sealing)).evidence.kind, 'value');
    }
    await onOurs(async (tpm) => {
      await tpm.startup(NEVER);
      await tpm.keys.evict(await tpm.keys.readPublic(PERSISTENT.attestationKey, NEVER), permanent(HANDLE.owner), NEVER);
      const unique = Buffer.concat([Buffer.of(0, 32), Buffer.alloc(32, 1), Buffer.of(0, 32), Buffer.alloc(32, 1)]);
      await using another = await tpm.keys.createPrimary(HANDLE.endorsement, Buffer.concat([akP256().subarray(0, -4), unique]), NEVER);
      await tpm.keys.persist(another, PERSISTENT.attestationKey, permanent(HANDLE.owner), NEVER);
    });
    await using sealing = await openSealing(dir.path, genuine.address);
    const { evidence } = await seal(sealing);
    assert.match(evidence.kind === 'none' ? evidence.reason : '', /^attest\.foreign_tpm/);
  });
});
