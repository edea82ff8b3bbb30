/** A claim from end to end: a gateway with an emulated TPM, an operator, real keys, and somebody on the wire. */
import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import type { Claim } from '#provisioning/claim/claimerRun.ts';
import type { ClaimCode } from '#provisioning/claim/code.ts';
import type { ClaimDevice } from '#provisioning/claim/deviceRun.ts';
import { openHandOver, signOrder, type OwnerOrder } from '#provisioning/claim/handOver.ts';
import { decodeMessage, encodeMessage, type ClaimMessage } from '#provisioning/claim/messages.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { verifyMlDsa65, type Signer } from '#runtime/crypto/mldsa.ts';
import { encapsulateXWing } from '#runtime/crypto/xwing.ts';
import { parseEnrolment } from '#runtime/ledger/enrolment.ts';
import { ClaimableGateway, Desk, DeskClock, PASSPHRASE, Wire, type Bend } from '#test/support/claimDesk.ts';
import { temporaryTpm, type TemporaryTpm } from '#test/support/swtpm.ts';

const SHOWN_MS = 600_000;

describe('claim', function () {
  this.timeout(30_000);
  let tpm: TemporaryTpm;
  let clock: DeskClock;
  let gateway: ClaimableGateway;
  let device: ClaimDevice;
  let code: ClaimCode;

  before(async function () { tpm = await temporaryTpm(this); });
  after(async () => { await tpm[Symbol.asyncDispose](); });
  beforeEach(async () => {
    clock = new DeskClock();
    gateway = await ClaimableGateway.on(tpm.address, clock);
    code = gateway.newCode();
    device = await gateway.start([{ secret: code.secret, lifetimeMs: SHOWN_MS }]);
  });
  afterEach(async () => { device[Symbol.dispose](); await gateway[Symbol.asyncDispose](); });

  interface Attempt { readonly claim: Claim; readonly wire: Wire; readonly ended: Promise<string> }

  /** `target`: where messages go. */
  function attempt(desk: Desk, with_ = code, bends: { readonly down?: Bend; readonly up?: Bend } = {}): Attempt {
    const wire = Object.assign(new Wire(), bends);
    const { claim, ended } = desk.claim((bytes) => { wire.carry(bytes, wire.down, { receive: (arrived) => { gateway.send = back; device.receive(arrived); } }); });
    const back = (bytes: Uint8Array): void => { wire.carry(bytes, wire.up, claim); };
    gateway.send = back;
    claim.start(with_);
    return { claim, wire, ended };
  }
  const kindOf = (bytes: Uint8Array): ClaimMessage['kind'] => decodeMessage(bytes).kind;
  const losing = (kind: ClaimMessage['kind']): Bend => (bytes) => (kindOf(bytes) === kind ? undefined : bytes);
  const changing = <K extends ClaimMessage['kind']>(kind: K, change: (message: Extract<ClaimMessage, { kind: K }>) => ClaimMessage): Bend => (bytes) => {
    const message = decodeMessage(bytes);
    return message.kind === kind ? encodeMessage(change(message as Extract<ClaimMessage, { kind: K }>)) : bytes;
  };
  const wrong = (): ClaimCode => ({ ...code, secret: sha256(code.secret).subarray(0, code.secret.length) });
  const lateTick = (claim: Claim): void => { clock.pass(LIMITS.claimApplyMs + 2 * LIMITS.claimWriteMs); claim.tick(); };
  /** Asks again, over a link that works. */
  async function askAgain(desk: Desk): Promise<string> {
    const pending = desk.records.at(-1) ?? assert.fail();
    const { claim, ended } = desk.claim((bytes) => { queueMicrotask(() => { device.receive(bytes); }); });
    gateway.send = (bytes) => { queueMicrotask(() => { claim.receive(bytes); }); };
    claim.resume({ ...pending, outcome: 'pending' });
    claim.ask();
    await turn();
    return claim.state.kind === 'ended' ? claim.state.outcome : await ended;
  }

  it('gives the gateway its owner: keys bound to the TPM, the boot quoted, six words on both sides, the secret burnt', async () => {
    const desk = new Desk('Anna', clock);
    const { wire, ended } = attempt(desk);
    assert.equal(await ended, 'owned');
    const { owner } = gateway.record;
    assert.ok(owner);
    assert.deepEqual(owner.ownerKeys.map(toHex), desk.owners.map(({ publicKey }) => toHex(publicKey)));
    const { statement, time, broker } = openHandOver(owner.handOver);
    assert.deepEqual([time, broker], [1_795_392_000, 'mqtts://fleet.local:8883']);
    const { enrolment } = parseEnrolment(statement ?? assert.fail());
    assert.deepEqual([enrolment.binding.kind, toHex(enrolment.tuple.signingKey)], ['firstUse', toHex(sha256(gateway.signer.publicKey))]);
    assert.ok(desk.pcrs.some(([index]) => index === 14), 'the quote shows PCR 14');
    assert.equal(gateway.words, desk.records[0]?.words);
    assert.equal(new Set(gateway.words.split(' ')).size <= 6 && gateway.words.split(' ').length, 6);
    assert.deepEqual([gateway.settings, gateway.owned.length, gateway.record.burnt.length], ['kept', 1, 1]);
    assert.deepEqual(wire.heard.map(kindOf), ['hello', 'offer', 'accept', 'proof', 'handOver', 'standing']);
    assert.ok(!Buffer.concat(wire.heard).includes(PASSPHRASE), 'who listens learns no passphrase');
  });

  it('a photographed code is worth nothing later: not once the gateway is claimed, not when its ten minutes are over, not after a release', async () => {
    const anna = new Desk('Anna', clock);
    clock.pass(SHOWN_MS);
    assert.equal(await attempt(new Desk('Mallory', clock)).ended, 'claim.secret_expired');
    device.expect([{ secret: code.secret, lifetimeMs: Infinity }]);
    assert.equal(await attempt(anna).ended, 'owned');
    assert.equal(await attempt(new Desk('Mallory', clock)).ended, 'claim.claimed');
    await order(anna.owners[1], { verb: 'release' });
    device.expect([{ secret: code.secret, lifetimeMs: Infinity }]);
    assert.equal(await attempt(new Desk('Mallory', clock)).ended, 'claim.secret_none');
    assert.equal(gateway.record.owner, undefined);
  });

  it('a second claimer with the same code is told that it is busy, then that it is claimed', async () => {
    const anna = attempt(new Desk('Anna', clock));
    const first = anna.wire.down;
    const ben: string[] = [];
    anna.wire.down = (bytes) => {
      if (kindOf(bytes) === 'handOver') {
        const { claim, ended } = new Desk('Ben', clock).claim((hello) => { const back = gateway.send; gateway.send = (answer) => { claim.receive(answer); }; device.receive(hello); gateway.send = back; });
        void ended.then((outcome) => ben.push(outcome));
        claim.start(code);
      }
      return first(bytes);
    };
    assert.equal(await anna.ended, 'owned');
    assert.deepEqual(ben, ['claim.busy']);
    assert.equal(await attempt(new Desk('Ben', clock)).ended, 'claim.claimed');
  });

  describe('a man in the middle who does not know the secret', () => {
    it('cannot put a key of his own into the offer', async () => {
      const own = gateway.signer.publicKey.subarray(0, 1_216);
      assert.equal(await attempt(new Desk('Anna', clock), code, { up: changing('offer', (offer) => ({ ...offer, ephemeral: own })) }).ended, 'claim.identity');
    });

    it('cannot offer another gateway\'s keys', async () => {
      assert.equal(await attempt(new Desk('Anna', clock), { ...code, keyDigest: sha256(code.keyDigest).subarray(0, code.keyDigest.length) }).ended, 'claim.identity');
    });

    it('cannot take the place of the operator: his key agreement does not confirm', async () => {
      let offered = Buffer.alloc(0);
      const taps = { up: changing('offer', (offer) => { offered = Buffer.from(offer.ephemeral); return offer; }), down: changing('accept', (accept) => ({ ...accept, ciphertext: encapsulateXWing(offered).ciphertext })) };
      assert.equal(await attempt(new Desk('Anna', clock), code, taps).ended, 'claim.secret_wrong');
      assert.equal(gateway.record.failures.count, 1);
    });

    it('cannot answer in the place of the gateway, nor alter evidence, hand-over or report', async () => {
      const bent = (bytes: Uint8Array): Uint8Array => Uint8Array.from(bytes, (byte, at) => (at === 40 ? byte ^ 1 : byte));
      assert.equal(await attempt(new Desk('Anna', clock), code, { up: changing('proof', (proof) => ({ ...proof, confirmation: sha256(proof.confirmation) })) }).ended, 'claim.confirmation');
      assert.equal(await attempt(new Desk('Anna', clock), code, { up: changing('proof', (proof) => ({ ...proof, sealed: bent(proof.sealed) })) }).ended, 'hpke.open');
      const anna = new Desk('Anna', clock);
      const { claim, ended } = attempt(anna, code, { down: changing('handOver', (handOver) => ({ ...handOver, sealed: bent(handOver.sealed) })), up: changing('standing', (standing) => ({ ...standing, standing: 'owned' })) });
      while (claim.state.kind !== 'handing') await turn();
      await turn();
      assert.equal(gateway.record.owner, undefined);
      lateTick(claim);
      assert.equal(await ended, 'unknown');
      assert.equal(await askAgain(anna), 'failed');
    });
  });

  it('five wrong secrets lock the gateway until power is cycled', async () => {
    for (let count = 1; count < LIMITS.claimFailuresMax; count += 1) assert.equal(await attempt(new Desk('Mallory', clock), wrong()).ended, 'claim.secret_wrong');
    assert.equal(await attempt(new Desk('Mallory', clock), wrong()).ended, 'claim.locked');
    assert.ok(device.isLocked);
    device = await gateway.start([{ secret: code.secret, lifetimeMs: Infinity }]);
    assert.equal(await attempt(new Desk('Anna', clock)).ended, 'claim.locked', 'a restarted process counts on');
    device = await gateway.start([{ secret: code.secret, lifetimeMs: Infinity }], 'second boot');
    assert.equal(await attempt(new Desk('Anna', clock)).ended, 'owned');
  });

  it('a wrong Wi-Fi password leaves everything as it was, and the next claim works', async () => {
    const desk = new Desk('Anna', clock);
    desk.passphrase = 'incorrect horse';
    assert.equal(await attempt(desk).ended, 'claim.apply');
    assert.deepEqual([gateway.settings, gateway.record.owner, gateway.record.burnt.length], ['none', undefined, 0]);
    desk.passphrase = PASSPHRASE;
    assert.equal(await attempt(desk).ended, 'owned');
  });

  it('a quote about another claim is not accepted', async () => {
    gateway.quoteFor = () => sha256(Buffer.from('a quote that was lying about'));
    assert.equal(await attempt(new Desk('Anna', clock)).ended, 'claim.evidence');
    assert.equal(gateway.record.owner, undefined);
  });

  it('a gateway whose code names a TPM has that TPM speak, and about this claim', async () => {
    const desk = new Desk('Anna', clock);
    const others: Uint8Array[] = [];
    gateway.evidence = (made) => { if (made.answer) others.push(made.answer); return { ...made, answer: undefined }; };
    assert.equal(await attempt(desk).ended, 'claim.evidence');
    gateway.evidence = (made) => ({ ...made, answer: others[0] });
    assert.equal(await attempt(desk).ended, 'claim.evidence', 'the answer to another challenge of the same enroller');
    gateway.evidence = (made) => ({ ...made, quote: undefined });
    assert.equal(await attempt(desk).ended, 'claim.evidence');
    gateway.evidence = (made) => made;
    assert.equal(await attempt(desk).ended, 'owned');
  });

  it('a gateway without a TPM is claimed by its identity key alone, and nothing is enrolled', async () => {
    gateway.hasTpm = false;
    code = gateway.newCode();
    device = await gateway.start([{ secret: code.secret, lifetimeMs: SHOWN_MS }]);
    assert.equal(await attempt(new Desk('Anna', clock)).ended, 'owned');
    assert.equal(openHandOver(gateway.record.owner?.handOver ?? assert.fail()).statement, undefined);
  });

  it('a command that was judged elsewhere releases the gateway, once: orders and code of before are worth nothing, and a new code works', async () => {
    const anna = new Desk('Anna', clock);
    assert.equal(await attempt(anna).ended, 'owned');
    device.release();
    device.release();
    while (gateway.record.owner) await turn();
    await turn();
    assert.deepEqual([gateway.record.generation, gateway.settings], [2, 'none']);
    device.release();
    device.expect([{ secret: code.secret, lifetimeMs: Infinity }]);
    assert.equal(await attempt(anna).ended, 'claim.secret_none');
    code = gateway.newCode();
    device.expect([{ secret: code.secret, lifetimeMs: Infinity }]);
    assert.equal(await attempt(new Desk('Ben', clock)).ended, 'owned');
    assert.equal(gateway.record.generation, 3);
  });

  it('a lost report leaves the operator in doubt, who asks again as often as it takes', async () => {
    const desk = new Desk('Anna', clock);
    const { claim, ended } = attempt(desk, code, { up: losing('standing') });
    while (!gateway.record.owner) await turn();
    lateTick(claim);
    assert.equal(await ended, 'unknown');
    assert.equal(await askAgain(desk), 'owned');
    assert.equal(await askAgain(desk), 'owned');
  });

  for (const [when, landed] of [['before', false], ['after', true]] as const) {
    it(`a disk that fails ${when} the record is written leaves no half-owned gateway, also over a restart`, async () => {
      const desk = new Desk('Anna', clock);
      gateway.breakWrite = when;
      const { claim, ended } = attempt(desk);
      while (!gateway.notes.includes('claim.store')) await turn();
      device[Symbol.dispose]();
      device = await gateway.start([{ secret: code.secret, lifetimeMs: SHOWN_MS }]);
      lateTick(claim);
      assert.equal(await ended, 'unknown');
      assert.equal(await askAgain(desk), landed ? 'owned' : 'failed');
      assert.equal(gateway.settings, landed ? 'kept' : 'none');
      if (!landed) assert.equal(await attempt(desk).ended, 'owned');
    });
  }

  /** What the gateway says to an order: its signed standing, or its refusal. */
  async function order(by: Signer, change: Partial<OwnerOrder> & Pick<OwnerOrder, 'verb'>): Promise<string> {
    const { owner, generation, lastOrder } = gateway.record;
    const claimId = owner?.claimId ?? lastOrder?.claimId ?? assert.fail();
    return await tell(signOrder({ claimId, device: sha256(gateway.signer.publicKey), generation, ownerKeys: undefined, ...change }, by));
  }
  async function tell(message: ClaimMessage): Promise<string> {
    const { promise, resolve } = Promise.withResolvers<string>();
    gateway.send = (bytes) => {
      const answer = decodeMessage(bytes);
      if (answer.kind === 'standing') assert.ok(answer.signature.length > 0 && !verifyMlDsa65(gateway.signer.publicKey, answer.nonce, answer.signature));
      resolve(answer.kind === 'standing' ? answer.standing : answer.kind === 'refused' ? answer.reason : answer.kind);
    };
    device.receive(encodeMessage(message));
    return await promise;
  }

  it('either owner key rotates the keys and releases the gateway, each order once; then a new claim works', async () => {
    const anna = new Desk('Anna', clock);
    const ben = new Desk('Ben', clock);
    assert.equal(await attempt(anna).ended, 'owned');
    assert.equal(await order(ben.owners[0], { verb: 'release' }), 'claim.order');
    assert.equal(await order(anna.owners[0], { verb: 'release', device: sha256(Buffer.from('another gateway')) }), 'claim.order');
    assert.equal(await order(anna.owners[0], { verb: 'rotate', ownerKeys: [anna.owners[0].publicKey, anna.owners[0].publicKey] }), 'claim.order');
    const { generation, owner } = gateway.record;
    const rotation = signOrder({ verb: 'rotate', claimId: owner?.claimId ?? assert.fail(), device: sha256(gateway.signer.publicKey), generation, ownerKeys: ben.owners.map(({ publicKey }) => publicKey) }, anna.owners[1]);
    assert.equal(await tell(rotation), 'rotated');
    assert.equal(await tell(rotation), 'rotated', 'the same order gets the same answer');
    assert.equal(gateway.record.generation, generation + 1, 'and is carried out once');
    assert.equal(await order(anna.owners[0], { verb: 'release' }), 'claim.order');
    assert.equal(await order(ben.owners[1], { verb: 'release' }), 'released');
    assert.deepEqual([gateway.record.owner, gateway.settings], [undefined, 'none']);
    assert.equal(await tell(rotation), 'claim.order');
    const next = gateway.newCode();
    device.expect([{ secret: next.secret, lifetimeMs: SHOWN_MS }]);
    assert.equal(await attempt(ben, next).ended, 'owned');
  });
});
