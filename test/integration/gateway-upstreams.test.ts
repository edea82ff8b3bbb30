import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { equalBytes } from '#runtime/core/bytes.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { OWNER_UPSTREAM, type Upstream } from '#runtime/core/fleet.ts';
import type { LinkUser } from '#runtime/core/ports.ts';
import { signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { decodeBlock } from '#runtime/ledger/block.ts';
import { openKeyValueStore } from '#runtime/ledger/kv.ts';
import { blockStoreOf, openReader } from '#runtime/ledger/reader.ts';
import { Upstreams } from '#runtime/upstreams.ts';
import { gatewayConfig, makeBroker, makeController, uplinkConfig, type Controller, type FleetBroker } from '#test/support/fleet.ts';
import { Gateway, tenzro } from '#test/support/gateway.ts';
import { draft, message, seal, send, startLedger } from '#test/support/ledger.ts';
import { connectClient } from '#test/support/mqttClient.ts';
import { silentLog, TestCounters } from '#test/support/sealHarness.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

interface Fleet {
  readonly broker: FleetBroker;
  readonly controller: Controller;
}

describe('a gateway and several fleets', function () {
  this.timeout(120_000);
  let dir: TempDir;
  let north: Fleet;
  let south: Fleet;
  const at = (name: string): string => join(dir.path, name);

  beforeEach(async function () {
    dir = tempDir('upstreams');
    const make = async (name: string): Promise<Fleet> => {
      mkdirSync(at(name));
      return { broker: await makeBroker(this, at(name)), controller: await makeController(at(name)) };
    };
    [north, south] = [await make('north'), await make('south')];
  });
  afterEach(() => { dir[Symbol.dispose](); });

  const upstreamOf = (name: string, { broker, controller }: Fleet, url = broker.url): Upstream => ({
    name, url, ca: readFileSync(broker.caFile, 'utf8'), login: { user: 'fleet', password: readFileSync(broker.passwordFile, 'utf8').trim() },
    receiptKey: Buffer.from(controller.receiptKey, 'hex'), maxBytesPerSecond: 0, forward: [],
  });

  it('delivers to each under its own receipts, and to the one that was away when it is back', async () => {
    await using stack = new AsyncDisposableStack();
    stack.use(await north.broker.start());
    stack.use(await south.broker.start());
    stack.use(await north.controller.start(north.broker));
    const serving = stack.use(await south.controller.start(south.broker));
    writeFileSync(at('gateway.yaml'), gatewayConfig('edge-1', north.broker, north.controller.receiptKey, { others: [uplinkConfig('south', south.broker, south.controller.receiptKey)] }));
    await using gateway = await Gateway.start({ dataDir: at('data'), configFile: at('gateway.yaml') });
    const publish = async (count: number): Promise<number> => {
      await using client = await connectClient(await gateway.port());
      for (let i = 0; i < count; i++) await client.mqtt.publishAsync('te/device/motor///m/load', JSON.stringify({ value: i }), { qos: 1 });
      return (await gateway.status())?.chain.entries ?? 0;
    };
    const receipted = (size: number, names: readonly string[]) => gateway.until(`receipts of ${names.join(' and ')}`, ({ fleet: { upstreams } }) => upstreams.every(({ name, receipt }) => !names.includes(name) || (receipt?.treeSize ?? 0) >= size), 40_000);
    await receipted(await publish(30), ['fleet', 'south']);
    await serving.end('SIGKILL');
    const away = await publish(30);
    const { fleet: { upstreams: [here, there] } } = await receipted(away, ['fleet']);
    assert.deepEqual([here?.name, there?.name, (there?.receipt?.treeSize ?? 0) < away, (there?.lag ?? 0) > 0], ['fleet', 'south', true, true]);
    const human = await tenzro(at('data'), ['status'], { configFile: at('gateway.yaml') });
    assert.match(human.output, /fleet +fleet at mqtts:[^\n]+connected[^\n]+\n *fleet +south at mqtts:/);
    stack.use(await south.controller.start(south.broker));
    await receipted(away, ['fleet', 'south']);
    await gateway.stop();
    for (const { controller } of [north, south]) assert.ok(((await controller.ls())[0]?.entries ?? 0) >= away);
  });

  it('takes a fleet on and lets it go while it runs; the owner\'s receipts are those that blocks name', async () => {
    await using stack = new AsyncDisposableStack();
    for (const { broker, controller } of [north, south]) {
      stack.use(await broker.start());
      stack.use(await controller.start(broker));
    }
    await using ledger = await startLedger(at('data'));
    await using reader = await openReader(at('data'));
    await using store = await openKeyValueStore(at('store'));
    const heard: string[] = [];
    const userOf = (name: string): LinkUser => ({ filters: [], receive: () => undefined, connected: () => { heard.push(`${name} connected`); }, lost: () => { heard.push(`${name} lost`); } });
    const upstreams = new Upstreams([], {
      gateway: 'test', forward: [], writer: ledger, reader, store, signer: async () => signerOfSeed(Buffer.alloc(32, 1)), usersOf: (name) => [userOf(name)], statement: () => ({ version: '1' }), isComplete: () => true, passedMicros: () => 0, isAuthorityRevoked: () => false,
      clock: systemClock, counters: new TestCounters(), log: silentLog,
    });
    const stop = new AbortController();
    const following = upstreams.follow(stop.signal);
    const record = async (): Promise<number> => {
      await Promise.all(Array.from({ length: 50 }, async (_, i) => send(ledger, message('te/device/child///e/test', `entry ${i}`.padEnd(60)))));
      await seal(blockStoreOf(ledger, reader));
      return decodeBlock(reader.block(reader.blockCount() - 1).payload).treeSize;
    };
    const receipted = async (name: string, size: number): Promise<void> => {
      await until(`a receipt of ${name}`, () => (upstreams.status().find((upstream) => upstream.name === name)?.receipt?.treeSize ?? 0) >= size, { timeoutMs: 30_000 });
    };
    upstreams.add(upstreamOf('south', south));
    await receipted('south', await record());
    const fromSouth = upstreams.receiptDigest;
    upstreams.add(upstreamOf(OWNER_UPSTREAM, north, 'mqtts://localhost:1')); // nobody is there
    await until('its fault', () => upstreams.status()[0]?.fault?.includes('ECONNREFUSED') === true);
    assert.deepEqual([upstreams.status().map(({ name }) => name), upstreams.receiptDigest], [[OWNER_UPSTREAM, 'south'], fromSouth]);
    upstreams.add(upstreamOf(OWNER_UPSTREAM, north));
    upstreams.add(upstreamOf(OWNER_UPSTREAM, north)); // the same again
    const size = await record();
    await Promise.all([receipted(OWNER_UPSTREAM, size), receipted('south', size)]);
    assert.ok(upstreams.receiptDigest && fromSouth && !equalBytes(upstreams.receiptDigest, fromSouth));
    await upstreams.remove(OWNER_UPSTREAM);
    await upstreams.remove('never there');
    assert.deepEqual([upstreams.status().map(({ name }) => name), heard], [['south'], ['south connected', `${OWNER_UPSTREAM} connected`, `${OWNER_UPSTREAM} lost`]]);
    await receipted('south', await record());
    upstreams.add(upstreamOf(OWNER_UPSTREAM, north)); // claimed again, by the same fleet: it goes on where it was
    await receipted(OWNER_UPSTREAM, await record());
    stop.abort();
    await following;
    await ledger.append(draft('recording goes on'));
    assert.deepEqual(heard.slice(3).toSorted(), [`${OWNER_UPSTREAM} connected`, `${OWNER_UPSTREAM} lost`, 'south lost']);
  });
});
