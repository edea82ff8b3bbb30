/** Enrolment from end to end: the enroller in software, gateways with emulated TPMs, the verifier that believes the statement. */
import assert from 'node:assert/strict';
import { activatorOf } from '#drivers/tpm2/activate.ts';
import { socketTransport } from '#drivers/tpm2/transport.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { Enroller, type EnrollerOptions } from '#provisioning/enrolment/enroller.ts';
import { answerChallenge } from '#provisioning/enrolment/gateway.ts';
import { decodeAnswer, decodeChallenge, encodeAnswer, encodeChallenge, encodeRequest, type EnrolmentRequest } from '#provisioning/enrolment/messages.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { TenzroError, type ErrorCode } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Activator } from '#runtime/core/ports.ts';
import { ENROLMENT_BODY, KIND } from '#runtime/core/types.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { signerOfSeed, type Signer } from '#runtime/crypto/mldsa.ts';
import { chainIdOf, decodeBlock, type Identity } from '#runtime/ledger/block.ts';
import { parseEnrolment, signEnrolment } from '#runtime/ledger/enrolment.ts';
import { encodeEntry } from '#runtime/ledger/entry.ts';
import { buildProof } from '#runtime/ledger/proofBuilder.ts';
import { parsePolicy } from '#runtime/verify/policy.ts';
import type { Report } from '#runtime/verify/report.ts';
import { verifyBundle } from '#runtime/verify/verifier.ts';
import { MemoryChain, testReading } from '#test/support/memoryChain.ts';
import { temporaryTpm, type TemporaryTpm } from '#test/support/swtpm.ts';
import { TestBoot, TpmSealer } from '#test/support/tpmChain.ts';

const SIGNAL = new AbortController().signal;
const seed = (text: string): Buffer => sha256(Buffer.from(text));
const enrollerKey = signerOfSeed(seed('the enroller'));
const detailOf = (report: Report, code: string): string => report.checks.find((check) => check.code === code)?.detail ?? '';

/** A clock that a test moves. */
class TestClock {
  micros = 1_795_392_000_000_000;
  wallMicros(): number { return this.micros; }
  monoMicros(): number { return this.micros; }
}

/** A gateway that is enrolled, or an attacker who plays one. */
interface Gateway {
  readonly request: EnrolmentRequest;
  readonly signer: Signer;
  readonly activator: Activator;
}

describe('enrolment', function () {
  this.timeout(30_000);
  const tpms: TemporaryTpm[] = [];
  const clock = new TestClock();
  let ours: Gateway;
  let foreign: Gateway;
  let chain: MemoryChain;

  before(async function () {
    for (let i = 0; i < 2; i += 1) tpms.push(await temporaryTpm(this));
    chain = new MemoryChain();
    ours = await gatewayOn(tpms[0], chain, 'ours');
    foreign = await gatewayOn(tpms[1], new MemoryChain(), 'foreign');
  });
  after(async () => { for (const tpm of tpms) await tpm[Symbol.asyncDispose](); });

  async function gatewayOn(tpm: TemporaryTpm | undefined, own: MemoryChain, name: string): Promise<Gateway> {
    assert.ok(tpm);
    await using boot = await TestBoot.open(socketTransport(tpm.address));
    const sealer = new TpmSealer(own, seed(name));
    own.append(testReading(0));
    const { payload } = await sealer.seal(boot, { first: true });
    const identity = decodeBlock(payload).identity ?? assert.fail();
    const { ekPublic, akPublic } = identity;
    assert.ok(ekPublic && akPublic);
    return {
      request: { device: 'workshop', chainId: chainIdOf(payload), signingKey: identity.signingKey, ekPublic, akPublic, certificates: [] },
      signer: sealer.soft.signer,
      activator: {
        ekPublic, akPublic,
        activate: async (blob, secret, signal) => {
          await using driver = new Tpm(socketTransport(tpm.address));
          return await activatorOf(driver, { ekPublic, akPublic }).activate(blob, secret, signal);
        },
      },
    };
  }

  const enroller = (options: Partial<EnrollerOptions> = {}): Enroller => new Enroller({
    name: 'plant', clock, judge: () => ({ kind: 'unchained', why: 'there is no EK certificate' }), firstUse: 'accept', sign: (enrolment) => signEnrolment(enrollerKey, enrolment), ...options,
  });
  const answer = (gateway: Gateway, challenge: Uint8Array, request: EnrolmentRequest = gateway.request): Promise<Uint8Array> => answerChallenge(encodeRequest(request), challenge, gateway, SIGNAL);
  const throws = (work: () => unknown, code: ErrorCode, why = /./): void => assert.throws(work, (error: unknown) => error instanceof TenzroError && error.code === code && why.test(error.message));
  const rejects = (work: Promise<unknown>, code: ErrorCode): Promise<void> => assert.rejects(work, (error: unknown) => error instanceof TenzroError && error.code === code);

  async function enrolled(gateway: Gateway, desk = enroller()): Promise<Uint8Array> {
    return desk.finish(await answer(gateway, desk.begin(encodeRequest(gateway.request))));
  }

  /** The chain goes on with the statement as an entry, and its last block names it. */
  async function proofWith(statement: Uint8Array): Promise<Buffer> {
    assert.ok(tpms[0]);
    await using boot = await TestBoot.open(socketTransport(tpms[0].address));
    const copy = new MemoryChain();
    for (const bytes of chain.entries) copy.append(bytes);
    copy.blocks.push(...chain.blocks);
    const index = copy.append(encodeEntry({ kind: KIND.enrolment, source: 'device/main//', wallMicros: clock.micros, bootEpoch: 1, monoMicros: 1, body: new Map([[ENROLMENT_BODY.statement, statement]]) }));
    copy.append(testReading(1));
    await new TpmSealer(copy, seed('ours')).seal(boot, { first: true, change: { support: { enrolment: index } } });
    return buildProof(copy, index + 1);
  }
  const judge = (file: Uint8Array, enrollers: readonly string[] = [toHex(sha256(enrollerKey.publicKey))]): Report => verifyBundle(file, parsePolicy({ version: 1, enrollers }));

  it('states the tuple whose AK was activated in the TPM of its EK, and the verifier believes a pinned enroller', async () => {
    const statement = await enrolled(ours);
    const { enrolment, isSigned } = parseEnrolment(statement);
    const { tuple, binding, enroller: name } = enrolment;
    assert.ok(isSigned());
    assert.deepEqual([name, tuple.device, binding.kind], ['plant', 'workshop', 'firstUse']);
    assert.deepEqual([tuple.ek, tuple.ak, tuple.signingKey, tuple.chainId].map(toHex), [sha256(ours.request.ekPublic), sha256(ours.request.akPublic), sha256(ours.signer.publicKey), ours.request.chainId].map(toHex));
    const report = judge(await proofWith(statement));
    assert.deepEqual([report.outcome, report.trust.level], ['verified', 'enrolled'], JSON.stringify(report.checks, null, 1));
    assert.match(detailOf(report, 'ek.enrolment'), /^'plant' activated this AK in the TPM of this EK on 2026-11-23.*on first use/);
  });

  it('counts for nothing by an enroller that the policy does not name', async () => {
    const report = judge(await proofWith(await enrolled(ours)), []);
    assert.equal(report.trust.level, 'emulated');
    assert.match(detailOf(report, 'ek.enrolment'), /which is not among the policy's enrollers/);
  });

  describe('GHSA-jf66-3q76-h5p5: an AK proven for one EK is never used with another', () => {
    it('the enroller refuses an AK of another TPM than the EK\'s', async () => {
      const desk = enroller();
      const mixed: EnrolmentRequest = { ...ours.request, akPublic: foreign.request.akPublic };
      await rejects(answer(ours, desk.begin(encodeRequest(mixed)), mixed), 'enrol.challenge');
      await rejects(answer(foreign, desk.begin(encodeRequest(mixed)), mixed), 'enrol.challenge');
    });

    it('the enroller states what began an attempt, whatever else is begun before it ends', async () => {
      const desk = enroller();
      const begun = desk.begin(encodeRequest(ours.request));
      const mixed: EnrolmentRequest = { ...ours.request, akPublic: foreign.request.akPublic };
      const other = desk.begin(encodeRequest(mixed));
      const good = await answer(ours, begun);
      const { nonce } = decodeAnswer(await answer(ours, desk.begin(encodeRequest(ours.request))));
      throws(() => desk.finish(encodeAnswer({ ...decodeAnswer(good), nonce: decodeChallenge(other).nonce })), 'enrol.answer');
      throws(() => desk.finish(encodeAnswer({ ...decodeAnswer(good), nonce })), 'enrol.answer', /was not activated/);
      assert.equal(toHex(parseEnrolment(desk.finish(good)).enrolment.tuple.ak), toHex(sha256(ours.request.akPublic)));
    });

    it('the enroller lets a re-enrolment change nothing that it stated before', async () => {
      const desk = enroller();
      const before = await enrolled(ours, desk);
      const mixed: EnrolmentRequest = { ...ours.request, akPublic: foreign.request.akPublic };
      await rejects(answer(ours, desk.begin(encodeRequest(mixed)), mixed), 'enrol.challenge');
      const again = await enrolled(ours, desk);
      assert.deepEqual(parseEnrolment(again).enrolment, parseEnrolment(before).enrolment);
    });

    it('the verifier refuses a pinned enroller\'s statement about this EK and another AK', async () => {
      const { enrolment } = parseEnrolment(await enrolled(ours));
      const swapped = signEnrolment(enrollerKey, { ...enrolment, tuple: { ...enrolment.tuple, ak: sha256(foreign.request.akPublic) } });
      const report = judge(await proofWith(swapped));
      assert.equal(report.outcome, 'refuted');
      assert.match(detailOf(report, 'ek.enrolment'), /'plant' enrolled this EK with another AK: these quotes were made by a key that the enroller did not see/);
    });

    it('the verifier refuses a genuine statement about another gateway', async () => {
      const report = judge(await proofWith(await enrolled(foreign)));
      assert.equal(report.outcome, 'refuted');
      assert.match(detailOf(report, 'ek.enrolment'), /is for another identity: its ek is not that of the genesis/);
    });
  });

  it('is refused when the answer opened the credential for other keys: a challenge relayed to a genuine gateway is of no use', async () => {
    const desk = enroller();
    const attacker = signerOfSeed(seed('attacker'));
    const stolen: EnrolmentRequest = { ...ours.request, signingKey: attacker.publicKey };
    const challenge = desk.begin(encodeRequest(stolen));
    const relayed = decodeAnswer(await answer(ours, challenge));
    throws(() => desk.finish(encodeAnswer(relayed)), 'enrol.answer', /was not activated/);
  });

  it('is refused without the identity key, though the TPM answers', async () => {
    const desk = enroller();
    const challenge = desk.begin(encodeRequest(ours.request));
    throws(() => desk.finish(encodeAnswer({ nonce: Buffer.alloc(32), proof: Buffer.alloc(32), signature: Buffer.alloc(3309) })), 'enrol.answer', /late, or was answered/);
    const forged = await answerChallenge(encodeRequest(ours.request), challenge, { activator: ours.activator, signer: signerOfSeed(seed('attacker')) }, SIGNAL);
    throws(() => desk.finish(forged), 'enrol.answer', /not signed by the identity key/);
  });

  it('takes an answer once and in time only', async () => {
    const desk = enroller();
    const good = await answer(ours, desk.begin(encodeRequest(ours.request)));
    desk.finish(good);
    throws(() => desk.finish(good), 'enrol.answer', /answered before/);
    const late = await answer(ours, desk.begin(encodeRequest(ours.request)));
    clock.micros += LIMITS.enrolmentLifetimeMs * 1_000;
    throws(() => desk.finish(late), 'enrol.answer', /late/);
    assert.equal(desk.open, 0);
  });

  it('pushes back when too many attempts are open, and goes on when they have expired', () => {
    const desk = enroller();
    const request = encodeRequest(ours.request);
    for (let i = 0; i < LIMITS.enrolmentsOpenMax; i += 1) desk.begin(request);
    assert.throws(() => desk.begin(request), (error: unknown) => error instanceof TenzroError && error.code === 'enrol.busy' && error.retryAfterMs === LIMITS.enrolmentLifetimeMs);
    clock.micros += LIMITS.enrolmentLifetimeMs * 1_000;
    desk.begin(request);
    assert.equal(desk.open, 1);
    desk[Symbol.dispose]();
    assert.equal(desk.open, 0);
  });

  it('refuses keys that are no AK and no EK, and certificates that do not hold', () => {
    const { ekPublic, akPublic } = ours.request;
    throws(() => enroller().begin(encodeRequest({ ...ours.request, akPublic: ekPublic })), 'enrol.request', /the AK is not sign/);
    throws(() => enroller().begin(encodeRequest({ ...ours.request, ekPublic: akPublic })), 'enrol.request', /the EK is not decrypt/);
    throws(() => enroller().begin(encodeRequest({ ...ours.request, ekPublic: akPublic.subarray(0, 20) })), 'enrol.request', /truncated/);
    const loose = Buffer.from(akPublic);
    loose.writeUInt32BE(loose.readUInt32BE(4) & ~2, 4); // without fixedTPM
    throws(() => enroller().begin(encodeRequest({ ...ours.request, akPublic: loose })), 'enrol.request', /the AK is not fixedTpm/);
    throws(() => enroller({ firstUse: 'refuse' }).begin(encodeRequest(ours.request)), 'enrol.certificate', /takes no TPM on first use/);
    throws(() => enroller({ judge: () => ({ kind: 'broken', why: 'it is for another key' }) }).begin(encodeRequest(ours.request)), 'enrol.certificate', /another key/);
  });

  it('refuses messages that are cut, bent, too long or of another version', async () => {
    const request = encodeRequest(ours.request);
    for (let size = 0; size < request.length; size += 97) throws(() => enroller().begin(request.subarray(0, size)), 'enrol.request');
    throws(() => enroller().begin(Buffer.alloc(LIMITS.enrolmentMessageBytesMax + 1)), 'enrol.request', /more than/);
    throws(() => enroller().begin(encodeRequest({ ...ours.request, device: '' })), 'enrol.request', /device/);
    throws(() => enroller().begin(encodeRequest({ ...ours.request, certificates: Array.from({ length: 9 }, () => Buffer.of(1)) })), 'enrol.request', /at most 8/);
    throws(() => enroller().begin(encodeRequest({ ...ours.request, certificates: [Buffer.alloc(LIMITS.certificateBytesMax + 1)] })), 'enrol.request', /1 to 4096 bytes/);
    const another = Buffer.from(request);
    another.writeUInt8(2, another.indexOf(Buffer.of(0x01, 0x01)) + 1);
    throws(() => enroller().begin(another), 'enrol.request', /version 1/);
    throws(() => enroller().finish(Buffer.of(0xa0)), 'enrol.answer');
    await rejects(answer(ours, Buffer.of(0xa0)), 'enrol.challenge');
    await rejects(answer(ours, encodeChallenge({ nonce: Buffer.alloc(32), blob: Buffer.alloc(70, 1), secret: Buffer.alloc(68, 1) })), 'enrol.challenge');
  });

  it('binds the whole identity: whoever changes a part enrols anew', async () => {
    const { enrolment } = parseEnrolment(await enrolled(ours));
    const identity: Identity = decodeBlock(chain.block(0).payload).identity ?? assert.fail();
    assert.equal(toHex(enrolment.tuple.signingKey), toHex(sha256(identity.signingKey)));
    for (const change of [{ device: 'renamed' }, { chainId: seed('another chain') }, { signingKey: seed('another key') }, { exchangeKey: seed('a key that the genesis lacks') }]) {
      const report = judge(await proofWith(signEnrolment(enrollerKey, { ...enrolment, tuple: { ...enrolment.tuple, ...change } })));
      assert.equal(report.outcome, 'refuted', JSON.stringify(change));
      assert.match(detailOf(report, 'ek.enrolment'), new RegExp(`its ${Object.keys(change)[0]} is not that of the genesis`));
    }
  });
});
