import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { toHex } from '#runtime/core/bytes.ts';
import { withChains } from '#runtime/controllerMain.ts';
import { openReader } from '#runtime/ledger/reader.ts';
import { decodeAnswer, openReceipt } from '#runtime/ledger/receipt.ts';
import { hashOfLeaf } from '#runtime/ledger/shipment.ts';
import { gatewayConfig, makeBroker, makeController, type Controller, type FleetBroker } from '#test/support/fleet.ts';
import { Gateway } from '#test/support/gateway.ts';
import { connectClient, type TestClient } from '#test/support/mqttClient.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const SHIPMENTS = 'te/+/chain/+/up';
const RECEIPTS = 'te/+/chain/+/receipt';

describe('uplink over a hostile way', function () {
  this.timeout(180_000);
  let dir: TempDir;
  let near: FleetBroker;
  let far: FleetBroker;
  let controller: Controller;
  const at = (name: string): string => join(dir.path, name);

  beforeEach(async function () {
    dir = tempDir('hostile');
    mkdirSync(at('far'));
    [near, far] = [await makeBroker(this, dir.path), await makeBroker(this, at('far'))];
    controller = await makeController(dir.path);
  });
  afterEach(() => { dir[Symbol.dispose](); });

  const login = async ({ port, caFile, passwordFile }: FleetBroker): Promise<TestClient> =>
    connectClient(port, { protocol: 'mqtts', host: 'localhost', ca: readFileSync(caFile), username: 'fleet', password: readFileSync(passwordFile, 'utf8').trim() });

  /** Carries what matches `filter` from one broker to the other: a fifth is lost, a third comes twice, all of it late by a random time, so in another order. */
  function carry(from: TestClient, to: TestClient, filter: string, seen: (payload: Buffer) => void, done: AbortSignal): void {
    from.mqtt.subscribe(filter, { qos: 1 });
    from.mqtt.on('message', (topic, payload, { retain }) => {
      seen(payload);
      const copies = Math.random() < 0.2 ? 0 : Math.random() < 0.4 ? 2 : 1;
      for (let copy = 0; copy < copies; copy++) {
        sleep(Math.random() * 150, undefined, { signal: done }).then(() => to.mqtt.publishAsync(topic, payload, { qos: 1, retain })).catch(() => undefined); // the test is over, or the way is cut
      }
    });
  }

  it('receipts every entry, in order, where the way loses, doubles, delays and re-orders', async () => {
    await using stack = new AsyncDisposableStack();
    stack.use(await near.start());
    stack.use(await far.start());
    stack.use(await controller.start(far));
    const done = new AbortController();
    stack.defer(() => { done.abort(); });
    const [here, there] = [stack.use(await login(near)), stack.use(await login(far))];
    const sequences: number[] = [];
    carry(here, there, SHIPMENTS, () => undefined, done.signal);
    carry(there, here, RECEIPTS, (payload) => {
      const { receipt } = decodeAnswer(payload);
      if (receipt) sequences.push(openReceipt(receipt, Buffer.from(controller.receiptKey, 'hex')).sequence);
    }, done.signal);
    writeFileSync(at('gateway.yaml'), gatewayConfig('edge-1', near, controller.receiptKey));
    await using gateway = await Gateway.start({ dataDir: at('data'), configFile: at('gateway.yaml') });
    await using sensor = await connectClient(await gateway.port());
    for (let i = 0; i < 200; i++) await sensor.mqtt.publishAsync('te/device/motor///m/load', JSON.stringify({ value: i }), { qos: 1 });
    const size = (await gateway.status())?.chain.entries ?? 0;
    await gateway.until('everything to be receipted', ({ fleet: { upstreams: [uplink] } }) => (uplink?.receipt?.treeSize ?? 0) >= size, 120_000);
    assert.deepEqual(sequences, sequences.toSorted((a, b) => a - b), 'a receipt went back');
    await using reader = await openReader(at('data'));
    const [view] = await controller.ls();
    assert.ok(view && view.entries >= size);
    const kept = await withChains(controller.dir, (chains) => [...chains.leaves(view.chain)].map((leaf) => toHex(hashOfLeaf(leaf))));
    assert.deepEqual(kept.slice(0, size), Array.from({ length: size }, (_, index) => toHex(reader.leafHash(index))));
  });

  it('neither gateway nor controller falls over what strangers publish', async () => {
    await using stack = new AsyncDisposableStack();
    stack.use(await near.start());
    const serving = stack.use(await controller.start(near));
    writeFileSync(at('gateway.yaml'), gatewayConfig('edge-1', near, controller.receiptKey));
    await using gateway = await Gateway.start({ dataDir: at('data'), configFile: at('gateway.yaml') });
    const first = await gateway.until('a receipt', ({ fleet: { upstreams: [uplink] } }) => uplink?.receipt != null, 30_000);
    const stranger = stack.use(await login(near));
    const topic = `te/edge-1/chain/${first.chain.id}`;
    for (const payload of [Buffer.alloc(0), Buffer.from('garbage'), Buffer.alloc(2 * 1024 * 1024, 7)]) {
      await stranger.mqtt.publishAsync(`${topic}/up`, payload, { qos: 1 });
      await stranger.mqtt.publishAsync(`${topic}/receipt`, payload, { qos: 1 });
    }
    await gateway.until('garbage to be counted', ({ counters }) => (counters['uplink.receipt'] ?? 0) >= 3);
    const before = first.fleet.upstreams[0]?.receipt?.sequence ?? 0;
    await gateway.until('another receipt', ({ fleet: { upstreams: [uplink] } }) => (uplink?.receipt?.sequence ?? 0) > before + 1, 30_000);
    assert.ok(serving.running);
  });

  it('freezes both where a gateway was cloned, and tells the operator', async () => {
    await using stack = new AsyncDisposableStack();
    stack.use(await near.start());
    const serving = stack.use(await controller.start(near));
    writeFileSync(at('gateway.yaml'), gatewayConfig('edge-1', near, controller.receiptKey));
    await using original = await Gateway.start({ dataDir: at('data'), configFile: at('gateway.yaml') });
    await original.until('a receipt', ({ fleet: { upstreams: [uplink] } }) => uplink?.receipt != null, 30_000);
    await original.kill();
    cpSync(at('data'), at('clone'), { recursive: true });
    rmSync(at('clone/control.sock'), { force: true });
    await using again = await Gateway.start({ dataDir: at('data'), configFile: at('gateway.yaml') });
    const grown = await again.until('another receipt', ({ fleet: { upstreams: [uplink] }, chain }) => (uplink?.receipt?.sequence ?? 0) >= chain.blocks - 1 && uplink?.connected === true, 30_000);
    assert.equal(grown.fleet.upstreams[0]?.fault, null);
    await again.stop(); // two clients with one id would take the connection from each other
    await using clone = await Gateway.start({ dataDir: at('clone'), configFile: at('gateway.yaml') });
    const view = await until('the fork to be seen', async () => (await controller.ls()).find(({ fork }) => fork), { timeoutMs: 60_000, intervalMs: 300 });
    assert.equal(view.gateway, 'edge-1');
    assert.match(serving.output, /cloned, or restored from an old copy/);
    await clone.until('the clone to know', ({ fleet: { upstreams: [uplink] } }) => /frozen|another block|does not/.test(uplink?.fault ?? ''), 30_000);
    await clone.stop();
    await using back = await Gateway.start({ dataDir: at('data'), configFile: at('gateway.yaml') });
    await back.until('the original to know', ({ fleet: { upstreams: [uplink] } }) => /frozen/.test(uplink?.fault ?? ''), 30_000);
  });
});
