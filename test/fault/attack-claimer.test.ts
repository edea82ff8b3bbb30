/**
 * Attacks on whoever claims: somebody else answers, somebody stands between, somebody comes first or later. The gateway has real keys and an emulated TPM,
 * the operator a real controller; what they say goes over TCP and mDNS.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { ClaimStore } from '#provisioning/claim/claimStore.ts';
import type { ClaimCode } from '#provisioning/claim/code.ts';
import type { ClaimDevice } from '#provisioning/claim/deviceRun.ts';
import { ClaimAdvertisement } from '#provisioning/claim/lan/discovery.ts';
import { frame } from '#provisioning/claim/lan/framing.ts';
import { relay } from '#provisioning/claim/lan/relay.ts';
import { decodeMessage, encodeMessage, type ClaimMessage } from '#provisioning/claim/messages.ts';
import { Claimer, orderGateway, type ClaimerOptions, type ClaimStep } from '#runtime/claimer.ts';
import { callController } from '#runtime/controller/apiClient.ts';
import { FleetOffice } from '#runtime/controller/claimClient.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { MLDSA65, newSeed, signerOfSeed, type Signer } from '#runtime/crypto/mldsa.ts';
import { loadPolicy } from '#runtime/policyFile.ts';
import { welcomeGateway } from '#runtime/welcoming.ts';
import { ClaimableGateway, DeskClock, type Bend } from '#test/support/claimDesk.ts';
import { Listener, serveGateway, standBetween } from '#test/support/claimWire.ts';
import { makeOwnFleet } from '#test/support/ownFleet.ts';
import { temporaryTpm, type TemporaryTpm } from '#test/support/swtpm.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const NEVER = new AbortController().signal;
const LIFETIME_MS = 600_000;
/** As the gateway of `claimDesk` calls itself. */
const NAME = 'workshop';
const PLACE = '127.0.0.1';

describe('attacks on the claimer', function () {
  this.timeout(60_000);
  let all: AsyncDisposableStack;
  let each: AsyncDisposableStack;
  let tpm: TemporaryTpm;
  let dir: TempDir;
  let home: string;
  let gateway: ClaimableGateway;
  let device: ClaimDevice;
  let listener: Listener;
  let code: ClaimCode;
  let steps: ClaimStep[];

  before(async function () {
    all = new AsyncDisposableStack();
    tpm = all.use(await temporaryTpm(this));
    dir = all.use(tempDir('attack-claimer'));
    const fleet = await makeOwnFleet(dir.path);
    all.use(await fleet.start());
    ({ home } = fleet);
  });
  after(() => all.disposeAsync());
  beforeEach(async () => {
    each = new AsyncDisposableStack();
    steps = [];
    gateway = each.use(await ClaimableGateway.on(tpm.address, new DeskClock()));
    code = gateway.newCode();
    device = await started('first', code.secret);
    each.defer(() => { device[Symbol.dispose](); });
    listener = each.use(await serveGateway(gateway, () => device));
  });
  afterEach(async () => {
    await each.disposeAsync();
    const { gateways } = await callController(home, 'gateways.list', {});
    if (Array.isArray(gateways) && gateways.length > 0) await callController(home, 'gateways.released', { name: NAME }); // the next test finds it free
  });

  const started = (boot: string, secret: Uint8Array): Promise<ClaimDevice> => gateway.start([{ secret, lifetimeMs: LIFETIME_MS }], boot);

  interface Operator {
    readonly owner: Signer;
    readonly claimer: Claimer;
    readonly options: ClaimerOptions;
    readonly store: ClaimStore;
  }

  async function operatorOf(name: string, onStep: (step: ClaimStep) => void = () => undefined): Promise<Operator> {
    const [owner, other] = [signerOfSeed(newSeed()), signerOfSeed(newSeed())];
    const store = new ClaimStore(join(dir.path, `${name}-${randomBytes(4).toString('hex')}`));
    const options: ClaimerOptions = {
      office: await FleetOffice.open(home, owner.publicKey), store, owner, otherOwnerKey: other.publicKey, policy: loadPolicy(join(home, 'policy.yaml')).policy, clock: systemClock,
      onStep: (step) => { steps.push(step); onStep(step); }, confirm: async () => true, note: () => undefined,
    };
    return { owner, store, options, claimer: new Claimer(options) };
  }

  const codeOf = (claimed: Promise<string>): Promise<string> => claimed.then(() => 'owned', (error: unknown) => (error instanceof TenzroError ? error.code : String(error)));
  const at = (port: number, with_: ClaimCode = code): [ClaimCode, Parameters<Claimer['claim']>[1], AbortSignal] => [with_, { networks: [], address: `${PLACE}:${port}` }, NEVER];

  it('another gateway in the place of the one whose code it is, or a man in the middle with keys of his own: claim.identity, and nothing leaves', async () => {
    const { claimer, store } = await operatorOf('anna');
    assert.equal(await codeOf(claimer.claim(...at(listener.port, { ...code, keyDigest: randomBytes(24) }))), 'claim.identity');
    assert.deepEqual([await store.all(), gateway.record.owner, gateway.record.failures.count], [[], undefined, 0]);
    assert.ok(steps.every(({ kind }) => kind === 'connected'));
  });

  it('a man in the middle who alters one byte of any message before the hand-over: nobody owns the gateway, and an honest claim goes on', async () => {
    const { claimer, store } = await operatorOf('anna');
    for (const kind of ['hello', 'offer', 'accept', 'proof'] as const satisfies readonly ClaimMessage['kind'][]) {
      const bend: Bend = (bytes) => (decodeMessage(bytes).kind === kind ? flipped(bytes) : bytes);
      await using between = await standBetween(listener.port, { down: bend, up: bend });
      const outcome = await codeOf(claimer.claim(...at(between.port)));
      assert.match(outcome, /^(?:claim\.(?:identity|secret_wrong)|hpke\.open)$/, `${kind}: ${outcome}`);
      assert.equal(gateway.record.owner, undefined, kind);
      await until('the gateway to be free again', () => ['open', 'offered'].includes(device.state.phase.kind));
    }
    assert.equal(await codeOf(claimer.claim(...at(listener.port))), 'owned');
    assert.deepEqual((await store.all()).map(({ outcome }) => outcome).filter((outcome) => outcome !== 'failed'), ['owned']);
  });

  it('somebody announces the number of the code first, and is silent, refuses, or answers with an old offer: passed over, and the right gateway is claimed', async () => {
    const { claimer } = await operatorOf('anna', ({ kind }) => { if (kind === 'passed') passed(); });
    const old = Promise.withResolvers<Uint8Array>();
    const eavesdropper = each.use(await standBetween(listener.port, { up: (bytes) => { old.resolve(bytes); return encodeMessage({ kind: 'refused', reason: 'claim.busy' }); } }));
    assert.equal(await codeOf(claimer.claim(...at(eavesdropper.port))), 'claim.busy');
    const offer = await old.promise;
    const announce = (port: number): void => { each.use(new ClaimAdvertisement({ port, discriminators: [code.discriminator] }, 'loopback', () => undefined)); };
    const spoofers = [() => undefined, answering(encodeMessage({ kind: 'refused', reason: 'claim.claimed' })), answering(offer)];
    let left = spoofers.length;
    const passed = (): void => { if ((left -= 1) === 0) announce(listener.port); };
    for (const spoofer of spoofers) announce(each.use(await Listener.open(spoofer)).port);
    assert.equal(await codeOf(claimer.claim(code, { networks: [] }, NEVER)), 'owned');
    assert.deepEqual(steps.flatMap((step) => (step.kind === 'passed' ? [step.why] : [])).toSorted((a, b) => a.localeCompare(b)), [
      'the device refused', 'the offer is not signed by its identity key for this claim', 'whoever answers there did not show in time that it is the gateway',
    ]);
  });

  it('twenty others answer for a gateway whose owner orders it, with keys of their own: passed over at once, and the right one is released', async () => {
    const { claimer, store, owner } = await operatorOf('anna');
    assert.equal(await codeOf(claimer.claim(...at(listener.port))), 'owned');
    const kept = await store.ownerOf(NAME);
    const lie = answering(encodeMessage({ kind: 'standing', claimId: kept.claimId, nonce: randomBytes(32), standing: 'none', reason: '', generation: 7, signature: randomBytes(MLDSA65.signatureBytes) }));
    const announce = (port: number): void => { each.use(new ClaimAdvertisement({ port, discriminators: [] }, 'loopback', () => undefined)); };
    for (let left = 20; left > 0; left--) announce(each.use(await Listener.open(lie)).port);
    const begun = performance.now();
    announce(listener.port);
    assert.equal(await orderGateway({ kept: { ...kept, address: `${PLACE}:1` }, owner, change: { verb: 'release', ownerKeys: undefined }, signal: NEVER }), 'released');
    assert.ok(performance.now() - begun < LIMITS.claimFindMs, 'it waited for those who are not meant');
  });

  it('a photographed code, used by a second claimer after the first one, and after its release: the gateway stays whose it is, and then nobody can use it', async () => {
    const [anna, mallory] = [await operatorOf('anna'), await operatorOf('mallory')];
    assert.equal(await codeOf(anna.claimer.claim(...at(listener.port))), 'owned');
    assert.equal(await codeOf(mallory.claimer.claim(...at(listener.port))), 'claim.claimed');
    const kept = await anna.store.ownerOf(NAME);
    assert.equal(await orderGateway({ kept, owner: anna.owner, change: { verb: 'release', ownerKeys: undefined }, signal: NEVER }), 'released');
    device[Symbol.dispose]();
    device = await started('first', code.secret);
    assert.match(await codeOf(mallory.claimer.claim(...at(listener.port))), /^claim\.secret_(?:none|wrong)$/);
    assert.equal(gateway.record.owner, undefined);
  });

  it('five strangers at a code that the operator shows end it, and so does its time: claim.shown_over, and nobody is let in afterwards', async () => {
    const { options } = await operatorOf('anna');
    const shown = randomBytes(16);
    const show = (lifetimeMs: number, opened: (port: number) => void): Promise<string> => codeOf(welcomeGateway(options, { networks: [] }, { host: PLACE, port: 0, secret: shown, lifetimeMs, onOpen: opened }, NEVER));
    const open = Promise.withResolvers<number>();
    const over = show(LIFETIME_MS, open.resolve);
    const port = await open.promise;
    for (let stranger = 1; stranger <= LIMITS.claimFailuresMax; stranger++) {
      assert.equal(steps.filter(({ kind }) => kind === 'passed').length, stranger - 1);
      device[Symbol.dispose]();
      device = await started(`boot ${stranger}`, code.secret);
      await relay({ host: PLACE, port: listener.port }, [{ host: PLACE, port }], NEVER);
    }
    assert.equal(await over, 'claim.shown_over');
    await assert.rejects(relay({ host: PLACE, port: listener.port }, [{ host: PLACE, port }], NEVER), { code: 'claim.link' });
    assert.equal(await show(1, () => undefined), 'claim.shown_over');
    assert.equal(gateway.record.owner, undefined);
  });
});

/** To whatever it hears. */
const answering = (message: Uint8Array) => (socket: Socket): void => { socket.on('data', () => { socket.write(frame(message)); }); };

function flipped(bytes: Uint8Array): Uint8Array {
  const bent = Buffer.from(bytes);
  bent.writeUInt8(bent.readUInt8(bent.length - 1) ^ 1, bent.length - 1);
  return bent;
}
