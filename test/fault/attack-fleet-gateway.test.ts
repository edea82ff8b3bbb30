import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { toHex } from '#runtime/core/bytes.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { encodeReported, type Reported } from '#runtime/core/twin.ts';
import { readActs } from '#runtime/controller/acts.ts';
import { decodeAct } from '#runtime/controller/actsCodec.ts';
import { Intake } from '#runtime/controller/intake.ts';
import { TwinDesk } from '#runtime/controller/twinDesk.ts';
import { Views } from '#runtime/controller/views.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { chainIdOf } from '#runtime/ledger/block.ts';
import { decodeAnswer } from '#runtime/ledger/receipt.ts';
import { packShipment } from '#runtime/ledger/shipment.ts';
import { humanLine } from '#runtime/observe/humanLine.ts';
import { checkIncrement, isSignedByGenesis } from '#runtime/verify/increment.ts';
import { controllerKey, TestRegistry } from '#test/support/fleetRegister.ts';
import { softChain, testReading, type MemoryChain } from '#test/support/memoryChain.ts';
import { silentLog } from '#test/support/sealHarness.ts';

const keyOf = (name: string): Uint8Array => signerOfSeed(sha256(Buffer.from(name))).publicKey;
const idOf = (chain: MemoryChain): string => toHex(chainIdOf(chain.block(0).payload));
const twinTopic = (gateway: string, name: string): string => `te/${gateway}/device/main///twin/${name}`;
const report = (over: Partial<Reported> = {}): Buffer => encodeReported({ revision: 1, version: 0, state: 'unset', value: 1, ...over });

/** A gateway that was claimed, and turned: what it sends in its own name must reach neither the others nor the controller's next start. */
describe('attacks of a gateway of the fleet on its controller', () => {
  let registry: TestRegistry;
  beforeEach(async () => { registry = await TestRegistry.open(); });
  afterEach(async () => { await registry[Symbol.asyncDispose](); });

  const twinDesk = (): TwinDesk => {
    const { store, acts, counters, register } = registry;
    return new TwinDesk({ store, acts, counters, signer: controllerKey, operators: () => [], isMember: (name) => register.isMember(name), log: silentLog });
  };
  const conflictsTold = (): number => readActs(registry.store).filter((cose) => decodeAct(cose).what === 'twin.conflict').toArray().length;

  /** Entries of a chain that nobody ever sealed. */
  async function invent(gateway: string, chainId: Uint8Array = randomBytes(32)): Promise<string> {
    const answer = await registry.intake.take({ gateway, chain: toHex(chainId) }, await packShipment({ chainId, first: 0, leaves: [{ entry: testReading(1) }], blocks: [] }));
    assert.ok(answer);
    return toHex(chainId);
  }

  it('gateway that invents chain after chain without a block: a few are kept, the others forgotten, and those of its neighbours stand', async () => {
    const { chain, sealer } = softChain(1, 2);
    await registry.claim('workshop', sealer.signer.publicKey);
    await registry.claim('evil', keyOf('evil'));
    await registry.send(chain, [0, 1], [0, 0]);
    const invented: string[] = [];
    for (let i = 0; i < LIMITS.gatewayBlocklessChainsMax + 5; i++) invented.push(await invent('evil'));
    await registry.reopen();
    assert.deepEqual(registry.chains.all().map(([name]) => name).toSorted(), [idOf(chain), ...invented.slice(-LIMITS.gatewayBlocklessChainsMax)].toSorted());
    assert.deepEqual([[...registry.chains.leaves(invented[0] ?? '')].length, registry.counters.snapshot()['controller.blockless_forgotten']], [0, 5]);
    assert.equal((await registry.send(chain, [1, 2], [0, 1])).nextBlock, 1, 'what its neighbour sent before is still there');
  });

  it('gateway, or a stranger, that floods the chain of a victim: it keeps nobody waiting, and is refused, controller.unclaimed', async () => {
    const { chain, sealer } = softChain(2, 2);
    await registry.claim('workshop', sealer.signer.publicKey);
    await registry.claim('evil', keyOf('evil'));
    await registry.send(chain, [0, 2], [0, 1]);
    const chainId = chainIdOf(chain.block(0).payload);
    const packed = await packShipment({ chainId, first: 2, leaves: chain.entries.slice(2).map((entry) => ({ entry })), blocks: chain.blocks.slice(1) });
    const [forged, strange, genuine] = await Promise.all(['evil', 'nobody', 'workshop'].map((gateway) => registry.intake.take({ gateway, chain: toHex(chainId) }, packed)));
    assert.deepEqual([forged, strange].map((answer) => answer && decodeAnswer(answer).refusal?.code), ['controller.unclaimed', 'controller.unclaimed']);
    assert.equal(genuine && decodeAnswer(genuine).nextBlock, 2);
    const both = await Promise.all([randomBytes(32), randomBytes(32)].map(async (id) => registry.intake.take({ gateway: 'evil', chain: toHex(id) }, await packShipment({ chainId: id, first: 0, leaves: [{ entry: testReading(1) }], blocks: [] }))));
    assert.equal(both.filter((answer) => answer === undefined).length, 1, 'one shipment of a gateway at a time: it does not take the turns of the others');
  });

  it('shipment that brings out a fault of ours: refused and told, core.invariant, and the controller goes on', async () => {
    const { chain, sealer } = softChain(2, 2);
    await registry.claim('workshop', sealer.signer.publicKey);
    const { chains, register, acts, counters } = registry;
    let isBroken = true;
    const judge = { judge: (increment: Parameters<typeof checkIncrement>[0]) => { if (isBroken) throw new RangeError('a fault'); return checkIncrement(increment); }, isSignedByGenesis };
    const intake = new Intake({ chains, register, acts, signer: controllerKey, clock: systemClock, counters, log: silentLog, judge });
    const chainId = chainIdOf(chain.block(0).payload);
    const packed = await packShipment({ chainId, first: 0, leaves: chain.entries.map((entry) => ({ entry })), blocks: chain.blocks });
    const send = async () => decodeAnswer(await intake.take({ gateway: 'workshop', chain: toHex(chainId) }, packed) ?? assert.fail());
    assert.equal((await send()).refusal?.code, 'core.invariant');
    assert.equal(counters.snapshot()['core.invariant'], 1);
    isBroken = false;
    assert.deepEqual([(await send()).refusal, (await send()).nextBlock], [undefined, 2]);
  });

  it('twin whose report takes more room once it is kept: refused, twin.malformed, and the controller starts again', async () => {
    await registry.claim('evil', keyOf('evil'));
    const [desk, value] = [twinDesk(), `[${Array.from({ length: 2_000 }, () => '1e20').join(',')},"${'x'.repeat(37_000)}"]`];
    const payload = Buffer.from(`{"revision":1,"version":0,"state":"unset","value":${value}}`);
    assert.ok(payload.length < LIMITS.twinMessageBytesMax);
    desk.receive(twinTopic('evil', 'config'), payload);
    assert.equal(registry.counters.snapshot()['twin.malformed'], 1);
    await registry.store.flushed();
    await registry.reopen();
    assert.deepEqual(twinDesk().list(), []);
  });

  it('gateway that reports twin after twin, or in the name of nobody: its share and no more, controller.full, and its neighbours have theirs', async () => {
    await registry.claim('evil', keyOf('evil'));
    await registry.claim('workshop', keyOf('workshop'));
    const { counters, register } = registry;
    const views = new Views(counters, (name) => register.isMember(name));
    let desk = twinDesk();
    const say = (gateway: string, name: string): void => { for (const part of [desk, views]) part.receive(twinTopic(gateway, name), report()); };
    for (let i = 0; i < LIMITS.gatewayTwinsMax + 3; i++) say('evil', `t${i}`);
    for (const [gateway, name] of [['nobody', 'config'], ['workshop', 'config'], ['evil', 't0']] as const) say(gateway, name);
    await registry.store.flushed();
    await registry.reopen();
    desk = twinDesk();
    desk.receive(twinTopic('evil', 'another'), report());
    assert.deepEqual(desk.list().map(({ gateway }) => gateway).filter((gateway) => gateway !== 'evil'), ['workshop']);
    assert.equal(desk.list().length, LIMITS.gatewayTwinsMax + 1);
    assert.deepEqual([...views.all()].map(({ id, twin }) => [id, Object.keys(twin ?? {}).length]), [['evil', LIMITS.gatewayTwinsMax], ['workshop', 1]]);
    const { 'controller.full': full, 'views.full': viewsFull, 'twin.stranger': stranger, 'views.stranger': viewsStranger } = counters.snapshot();
    assert.deepEqual([full, viewsFull, stranger, viewsStranger], [4, 3, 1, 1]);
  });

  it('gateway that contradicts itself without end: one act says so, and what follows is only counted, twin.conflict', async () => {
    await registry.claim('evil', keyOf('evil'));
    const desk = twinDesk();
    for (let i = 0; i < 20; i++) desk.receive(twinTopic('evil', 'config'), report({ revision: i + 1, version: i % 2, value: i }));
    await registry.store.flushed();
    assert.equal(conflictsTold(), 1);
    assert.ok((registry.counters.snapshot()['twin.conflict'] ?? 0) > 5);
  });

  it('log of a gateway, or its answer, that would write on the operator\'s terminal: shown as visible escapes', () => {
    const line = humanLine(JSON.stringify({ room: '\u001b]0;owned\u0007', msg: 'a\u009b2J', note: '\u202e', level: 30 }), false);
    assert.ok(!/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/.test(line), JSON.stringify(line));
    for (const odd of [{ room: 5 }, { msg: { toString: 1 } }, { room: null, time: 'x', level: {} }]) assert.match(humanLine(JSON.stringify(odd), false), /info/);
  });
});
