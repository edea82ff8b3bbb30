/** The operator's side over TCP: a claim that breaks off anywhere, somebody between, orders, and what is on disk. */
import assert from 'node:assert/strict';
import { readdirSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import type { ClaimRecord } from '#provisioning/claim/claimer.ts';
import { ClaimStore, type KeptClaim } from '#provisioning/claim/claimStore.ts';
import type { ClaimCode } from '#provisioning/claim/code.ts';
import { attemptClaim, inquireClaim, type ClaimOutcome, type ConversationOptions } from '#provisioning/claim/converse.ts';
import type { ClaimDevice } from '#provisioning/claim/deviceRun.ts';
import { signOrder, type OwnerOrder } from '#provisioning/claim/handOver.ts';
import { dialTo, parseAddress } from '#provisioning/claim/lan/dial.ts';
import { decodeMessage, encodeMessage, type ClaimMessage } from '#provisioning/claim/messages.ts';
import { giveOrder } from '#provisioning/claim/order.ts';
import { claimerSuite } from '#provisioning/claim/realSuite.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import { ClaimableGateway, Desk, DeskClock } from '#test/support/claimDesk.ts';
import { serveGateway, standBetween, type Listener } from '#test/support/claimWire.ts';
import { temporaryTpm, type TemporaryTpm } from '#test/support/swtpm.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const NEVER = new AbortController().signal;
const codeOf = (error: unknown): string => (error instanceof TenzroError ? error.code : String(error));

describe('claim over TCP', function () {
  this.timeout(30_000);
  let tpm: TemporaryTpm;
  let gateway: ClaimableGateway;
  let device: ClaimDevice;
  let code: ClaimCode;
  let listener: Listener;
  let desk: Desk;
  let dir: TempDir;
  let store: ClaimStore;

  before(async function () { tpm = await temporaryTpm(this); });
  after(async () => { await tpm[Symbol.asyncDispose](); });
  beforeEach(async () => {
    gateway = await ClaimableGateway.on(tpm.address, new DeskClock());
    code = gateway.newCode();
    device = await gateway.start([{ secret: code.secret, lifetimeMs: 600_000 }]);
    listener = await serveGateway(gateway, () => device);
    desk = new Desk('Anna', gateway.clock);
    dir = tempDir('claims');
    store = new ClaimStore(dir.path);
  });
  afterEach(async () => {
    device[Symbol.dispose]();
    await listener[Symbol.asyncDispose]();
    await gateway[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  const keep = (record: ClaimRecord): KeptClaim => ({ ...record, gateway: 'edge-1', address: '127.0.0.1:1', discriminator: code.discriminator, begun: 1_795_392_000, generation: 0 });
  const options = (port: number, change: Partial<ConversationOptions> = {}): ConversationOptions => ({
    suite: claimerSuite, clock: systemClock, dial: dialTo('127.0.0.1', port), ...desk.ports, write: (record) => store.write(keep(record)), note: () => undefined, ...change,
  });
  const outcomeOf = (outcome: ClaimOutcome): string => (outcome.kind === 'failed' ? outcome.code : outcome.kind);
  const attempt = async (port = listener.port, change: Partial<ConversationOptions> = {}): Promise<string> => outcomeOf(await attemptClaim(code, options(port, change), NEVER));
  const kindOf = (bytes: Uint8Array): ClaimMessage['kind'] => decodeMessage(bytes).kind;
  /** Asks until there is an answer. */
  async function askFor(): Promise<string> {
    const [pending] = await store.pending();
    assert.ok(pending, 'nothing is pending');
    return outcomeOf(await inquireClaim(pending, options(listener.port), AbortSignal.timeout(10_000)));
  }

  it('ends with an owner, and with a record that says so', async () => {
    assert.equal(await attempt(), 'owned');
    const [kept, ...others] = await store.all();
    assert.deepEqual([kept?.outcome, kept?.words, others.length], ['owned', gateway.words, 0]);
    assert.deepEqual(await store.pending(), []);
    assert.equal((await store.ownerOf('edge-1')).gateway, 'edge-1');
    await assert.rejects(store.ownerOf('edge-2'), { code: 'claim.unknown' });
  });

  for (const kind of ['hello', 'offer', 'accept', 'proof'] as const) {
    it(`a line that is cut at the ${kind} leaves nothing handed over, and the next claim works`, async () => {
      await using between = await standBetween(listener.port, { cut: (bytes) => kindOf(bytes) === kind });
      assert.equal(await attempt(between.port), 'claim.link');
      assert.equal(gateway.record.owner, undefined);
      gateway.clock.pass(120_000 + 600_000);
      device.tick();
      device.expect([{ secret: code.secret, lifetimeMs: 600_000 }]);
      assert.equal(await attempt(), 'owned');
    });
  }

  it('a line that is cut at the hand-over leaves a doubt that one question ends', async () => {
    await using between = await standBetween(listener.port, { cut: (bytes) => kindOf(bytes) === 'handOver' });
    assert.equal(await attempt(between.port), 'unknown');
    assert.equal(await askFor(), 'claim.not_committed');
    assert.deepEqual(await store.pending(), []);
    assert.equal(await attempt(), 'owned');
  });

  it('a line that is cut at the report leaves a doubt that one question ends', async () => {
    await using between = await standBetween(listener.port, { cut: (bytes) => kindOf(bytes) === 'standing' });
    assert.equal(await attempt(between.port), 'unknown');
    assert.equal((await store.pending()).length, 1);
    assert.equal(await askFor(), 'owned');
    assert.deepEqual(await store.pending(), []);
  });

  it('an operator who cannot write the claim down hands nothing over', async () => {
    const full = new TenzroError('claim.store', 'no space');
    await assert.rejects(attempt(listener.port, { write: async () => { throw full; } }), full);
    assert.equal(gateway.record.owner, undefined);
  });

  it('an operator who gives up before the hand-over frees the gateway at once', async () => {
    const giving = new AbortController();
    const outcome = attemptClaim(code, options(listener.port, { judge: async () => { giving.abort(); return new Promise<Uint8Array>(() => undefined); } }), giving.signal);
    assert.equal(outcomeOf(await outcome), 'claim.abandoned');
    assert.equal(await attempt(), 'owned');
  });

  describe('somebody between operator and gateway', () => {
    it('who puts another gateway in its place is seen before the secret is used', async () => {
      const heard: string[] = [];
      await using between = await standBetween(listener.port, { down: (bytes) => { heard.push(kindOf(bytes)); return bytes; } });
      const expected = { ...code, keyDigest: sha256(code.keyDigest).subarray(0, code.keyDigest.length) };
      assert.equal(outcomeOf(await attemptClaim(expected, options(between.port), NEVER)), 'claim.identity');
      assert.deepEqual(heard, ['hello']);
    });

    for (const kind of ['offer', 'accept', 'proof', 'handOver'] as const) {
      it(`who alters any byte of the ${kind} gets neither gateway nor operator to believe it`, async () => {
        const places = [0.02, 0.3, 0.6, 0.98];
        for (const place of places) {
          const bend = (bytes: Uint8Array): Uint8Array => (kindOf(bytes) === kind ? Uint8Array.from(bytes, (byte, at) => (at === Math.floor(bytes.length * place) ? byte ^ 1 : byte)) : bytes);
          await using between = await standBetween(listener.port, { down: bend, up: bend });
          const outcome = outcomeOf(await attemptClaim(code, options(between.port), AbortSignal.timeout(700)));
          assert.notEqual(outcome, 'owned');
          assert.equal(gateway.record.owner, undefined);
          device[Symbol.dispose]();
          gateway.record = { ...gateway.record, failures: { boot: 'first', count: 0 } };
          device = await gateway.start([{ secret: code.secret, lifetimeMs: 600_000 }]);
        }
      });
    }
  });

  describe('an owner', () => {
    const errand = (by: Signer, change: Pick<OwnerOrder, 'verb' | 'ownerKeys'>, { claimId, signingKey }: ClaimRecord, port = listener.port): Promise<string> =>
      giveOrder({ dial: dialTo('127.0.0.1', port), claim: { claimId, signingKey }, order: (generation) => signOrder({ claimId, device: sha256(signingKey), generation, ...change }, by) }, NEVER).then(({ standing }) => standing, codeOf);

    it('rotates the keys and releases the gateway, with the second key too; others do not', async () => {
      assert.equal(await attempt(), 'owned');
      const kept = await store.ownerOf('edge-1');
      const [mallory, ben] = [new Desk('Mallory', gateway.clock), new Desk('Ben', gateway.clock)];
      const release = { verb: 'release', ownerKeys: undefined } as const;
      assert.equal(await errand(mallory.owners[0], release, kept), 'claim.order');
      assert.equal(await errand(desk.owners[1], { verb: 'rotate', ownerKeys: ben.owners.map(({ publicKey }) => publicKey) }, kept), 'rotated');
      assert.equal(await errand(desk.owners[0], release, kept), 'claim.order', 'who was rotated out orders nothing');
      assert.equal(await errand(ben.owners[1], release, kept), 'released');
      assert.equal(await errand(ben.owners[1], release, kept), 'none');
      assert.equal(gateway.record.owner, undefined);
    });

    it('who hears nothing of a release asks again and learns that it is done', async () => {
      assert.equal(await attempt(), 'owned');
      const kept = await store.ownerOf('edge-1');
      await using between = await standBetween(listener.port, { cut: (bytes) => { const message = decodeMessage(bytes); return message.kind === 'standing' && message.standing === 'released'; } });
      assert.equal(await errand(desk.owners[0], { verb: 'release', ownerKeys: undefined }, kept, between.port), 'claim.link');
      assert.equal(await errand(desk.owners[0], { verb: 'release', ownerKeys: undefined }, kept), 'none');
    });

    it('is not believed the word of another device', async () => {
      assert.equal(await attempt(), 'owned');
      const kept = await store.ownerOf('edge-1');
      const lie = (bytes: Uint8Array): Uint8Array => { const message = decodeMessage(bytes); return message.kind === 'standing' ? encodeMessage({ ...message, standing: 'none' }) : bytes; };
      await using between = await standBetween(listener.port, { up: lie });
      const asked = giveOrder({ dial: dialTo('127.0.0.1', between.port), claim: kept, order: () => assert.fail('an order was signed') }, AbortSignal.timeout(500));
      assert.equal(await asked.then(({ standing }) => standing, codeOf), 'claim.timeout');
    });
  });

  it('a damaged record is told, not believed; a draft that a crash left is nobody\'s', async () => {
    assert.equal(await attempt(), 'owned');
    const folder = join(dir.path, 'claims');
    const [name = assert.fail()] = readdirSync(folder);
    truncateSync(join(folder, name), 100);
    await assert.rejects(store.all(), { code: 'claim.state' });
  });

  it('an address is host:port', () => {
    assert.deepEqual(parseAddress('[fe80::1]:8777'), { host: 'fe80::1', port: 8777 });
    for (const text of ['10.0.0.1', 'a:0', 'a:65536', ':1', 'a b:1', '[::1]']) assert.throws(() => parseAddress(text), { code: 'cli.usage' });
  });
});
