import assert from 'node:assert/strict';
import { join } from 'node:path';
import { hashPassword } from '#runtime/broker/auth.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { filesOf, type ControllerHouse } from '#runtime/controller/house.ts';
import { writePerson } from '#runtime/controller/people.ts';
import { makeHouse, newSigner, openFleetDoor, type FleetDoor } from '#test/support/fleetDoor.ts';
import { closed } from '#test/support/mqttClient.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const ANNA = { username: 'anna', password: 'a good password' };

describe("attacks on a fleet's own broker", function () {
  this.timeout(30_000);
  let dir: TempDir;
  let home: string;
  let house: ControllerHouse;
  let opened: AsyncDisposableStack;
  const [one, two, stranger] = [newSigner(), newSigner(), newSigner()];
  before(async () => {
    dir = tempDir('fleet-broker');
    home = join(dir.path, 'fleet');
    house = await makeHouse(home);
    await writePerson(filesOf(home).users, ANNA.username, await hashPassword(ANNA.password));
  });
  after(() => { dir[Symbol.dispose](); });
  beforeEach(() => { opened = new AsyncDisposableStack(); });
  afterEach(() => opened.disposeAsync());

  const open = async (): Promise<FleetDoor> => {
    const door = opened.use(await openFleetDoor(home, house));
    door.register.add('edge-1', one);
    door.register.add('edge-2', two);
    return door;
  };
  const enter = async (client: ReturnType<FleetDoor['connect']>) => opened.use(await client);

  it('stranger at the broker of a fleet, with a certificate of its own, a password of none, or both: refused by its key, and told', async () => {
    const door = await open();
    await assert.rejects(door.connectAs(stranger), /Not authorized/);
    await assert.rejects(door.connect(), /Not authorized/);
    await assert.rejects(door.connect({ ...ANNA, password: 'another' }), /Bad username or password/);
    await assert.rejects(door.connectAs(stranger, ANNA), /Not authorized/, 'a strange certificate is not mended by a password');
    await until('all refusals to be counted', () => {
      const counted = door.counters.snapshot();
      return counted['broker.unregistered'] === 2 && counted['broker.credentials'] === 2;
    });
  });

  it('gateway of the fleet that signs receipts, wants twins or speaks for another: cut, and nobody hears it', async () => {
    const door = await open();
    for (const topic of ['te/edge-1/chain/ab/receipt', 'te/edge-1/device/main///twin/config/desired', 'te/edge-1/device/main///twin/config/confirm', 'te/edge-2/status', 'elsewhere']) {
      const client = await enter(door.connectAs(one, { reconnectPeriod: 0 }));
      client.mqtt.publish(topic, 'forged', { qos: 1, retain: true });
      await closed(client);
    }
    assert.equal(door.counters.snapshot()['broker.publish_forbidden'], 5);
    const watcher = await enter(door.connect(ANNA));
    await watcher.mqtt.subscribeAsync('te/+/chain/#', { qos: 1 });
    const granted = await (await enter(door.connectAs(one))).mqtt.subscribeAsync(['te/edge-2/#', 'te/#', 'te/edge-1/#']).catch((error: unknown) => String(error));
    assert.match(JSON.stringify(granted), /128|Unspecified error/);
    assert.deepEqual(watcher.received, []);
  });

  it('last will in the name of another gateway: refused with the connection, so that no restart of the broker says it', async () => {
    const door = await open();
    const will = (topic: string) => ({ will: { topic, payload: Buffer.from('down'), qos: 1 as const, retain: true } });
    await assert.rejects(door.connectAs(one, will('te/edge-2/status')), /Not authorized/);
    await assert.rejects(door.connect({ ...ANNA, ...will('te/edge-1/status') }), /Not authorized/);
    await enter(door.connectAs(one, will('te/edge-1/status')));
  });

  it('client id of another gateway, taken first: each has its own space of them', async () => {
    const door = await open();
    const clients = [await enter(door.connectAs(one, { clientId: 'te-edge-2' })), await enter(door.connectAs(two, { clientId: 'te-edge-2' })), await enter(door.connect({ ...ANNA, clientId: 'te-edge-2' }))];
    assert.deepEqual(door.broker.facts()['users'], ['anna', 'edge-1', 'edge-2']);
    assert.ok(clients.every(({ mqtt }) => mqtt.connected));
    await enter(door.connectAs(one, { clientId: 'te-edge-2' }));
    await closed(clients[0] ?? assert.fail());
  });

  it('revoked while it is connected: cut at once, and nobody else', async () => {
    const door = await open();
    const [gone, stays] = [await enter(door.connectAs(one)), await enter(door.connectAs(two))];
    door.register.touch('edge-1');
    await gone.mqtt.publishAsync('te/edge-1/status', 'still here', { qos: 1 });
    door.register.remove('edge-1');
    await closed(gone);
    await assert.rejects(door.connectAs(one), /Not authorized/);
    await stays.mqtt.publishAsync('te/edge-2/status', 'x', { qos: 1 });
  });

  it('gateway that fills what the broker retains: its share, and no more', async () => {
    const door = await open();
    const [greedy, other] = [await enter(door.connectAs(one)), await enter(door.connectAs(two))];
    const payload = Buffer.alloc(512 * 1024, 0x61);
    const count = LIMITS.fleetRetainedPerGatewayBytesMax / payload.length + 2;
    for (let i = 0; i < count; i++) await greedy.mqtt.publishAsync(`te/edge-1/device/main///twin/t${i}`, payload, { qos: 1, retain: true });
    assert.ok((door.counters.snapshot()['broker.retained_full'] ?? 0) >= 2);
    await other.mqtt.publishAsync('te/edge-2/device/main///twin/t', payload, { qos: 1, retain: true });
    const watcher = await enter(door.connect(ANNA));
    await watcher.mqtt.subscribeAsync('te/edge-2/#', { qos: 1 });
    assert.ok((await watcher.arrived(1)).some(({ topic }) => topic === 'te/edge-2/device/main///twin/t'));
    for (let i = 0; i < count; i++) await greedy.mqtt.publishAsync(`te/edge-1/device/main///twin/t${i}`, '', { qos: 1, retain: true });
  });
});
