import assert from 'node:assert/strict';
import { createPublicKey } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hashPassword } from '#runtime/broker/auth.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { LinkUser } from '#runtime/core/ports.ts';
import { filesOf, type ControllerHouse } from '#runtime/controller/house.ts';
import { writePerson } from '#runtime/controller/people.ts';
import { pemOf } from '#runtime/crypto/certificate.ts';
import { earFor, makeHouse, newSigner, openFleetDoor, type FleetDoor } from '#test/support/fleetDoor.ts';
import { closed } from '#test/support/mqttClient.ts';
import { requirePeer } from '#test/support/peers.ts';
import { Program, run } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const ANNA = { username: 'anna', password: 'a good password' };

describe("controller: the fleet's own broker", function () {
  this.timeout(30_000);
  let dir: TempDir;
  let home: string;
  let house: ControllerHouse;
  let opened: AsyncDisposableStack;
  const [one, two] = [newSigner(), newSigner()];
  before(async () => {
    dir = tempDir('fleet-broker');
    home = join(dir.path, 'fleet');
    house = await makeHouse(home);
    await writePerson(filesOf(home).users, ANNA.username, await hashPassword(ANNA.password));
  });
  after(() => { dir[Symbol.dispose](); });
  beforeEach(() => { opened = new AsyncDisposableStack(); });
  afterEach(() => opened.disposeAsync());

  const open = async (...users: readonly LinkUser[]): Promise<FleetDoor> => {
    const door = opened.use(await openFleetDoor(home, house, users));
    door.register.add('edge-1', one);
    door.register.add('edge-2', two);
    return door;
  };
  const enter = async (client: ReturnType<FleetDoor['connect']>) => opened.use(await client);

  it('brings what gateways say to the parts of the controller, and theirs to the gateways, retained over a restart', async () => {
    const first = earFor('te/+/status');
    let door = await open(first);
    const gateway = await enter(door.connectAs(one));
    await gateway.mqtt.publishAsync('te/edge-1/status', '{"status":"up"}', { qos: 1, retain: true });
    assert.deepEqual(first.heard, ['te/edge-1/status {"status":"up"}']);
    await gateway.mqtt.subscribeAsync('te/edge-1/device/main///cmd/+/+', { qos: 1 });
    await first.links[0]?.publish('te/edge-1/device/main///cmd/attest/1', Buffer.from('{}'), { retain: true });
    assert.equal((await gateway.arrived(1))[0]?.payload, '{}');
    await opened.disposeAsync();
    opened = new AsyncDisposableStack();
    const second = earFor('te/+/status');
    door = await open(second);
    assert.deepEqual(second.heard, ['te/edge-1/status {"status":"up"}'], 'who comes later hears what is retained');
    const again = await enter(door.connectAs(one));
    await again.mqtt.subscribeAsync('te/edge-1/#', { qos: 1 });
    await again.arrived(2);
    assert.deepEqual(again.received.map(({ topic, retain }) => `${topic} ${retain}`).toSorted(), ['te/edge-1/device/main///cmd/attest/1 true', 'te/edge-1/status true']);
  });

  it('knows a gateway by its key: whatever name, issuer or date its certificate has', async () => {
    const door = await open();
    assert.ok(one.privateKey);
    const issued = pemOf(house.authority.gatewayCertificate(createPublicKey(one.privateKey), 'edge-2', 0)) + pemOf(house.authority.intermediate);
    const client = await enter(door.connectAs(one, { cert: issued, username: 'edge-2', password: 'x' }));
    await client.mqtt.publishAsync('te/edge-1/status', 'x', { qos: 1 });
    client.mqtt.publish('te/edge-2/status', 'x', { qos: 1 });
    await closed(client);
    assert.equal(door.counters.snapshot()['broker.publish_forbidden'], 1);
  });

  it('takes people in and out while it serves', async () => {
    const door = await open();
    const anna = await enter(door.connect(ANNA));
    await writePerson(filesOf(home).users, 'ben', await hashPassword('another good one'));
    const ben = await until('ben', () => door.connect({ username: 'ben', password: 'another good one' }), { timeoutMs: 10_000, intervalMs: 300 });
    opened.use(ben);
    await writePerson(filesOf(home).users, 'ben', undefined);
    await closed(ben);
    assert.ok(anna.mqtt.connected);
    writeFileSync(filesOf(home).users, '{"version":1,"users":[{"name":"eve","passwordHash":"none"}]}');
    await assert.rejects(door.connect({ username: 'eve', password: 'none' }), /Bad username or password/);
    await writePerson(filesOf(home).users, 'eve', undefined);
    await writePerson(filesOf(home).users, ANNA.username, await hashPassword(ANNA.password));
  });

  it('takes a whole shipment, and nothing larger', async () => {
    const ear = earFor('te/+/chain/+/up');
    const door = await open(ear);
    const client = await enter(door.connectAs(one));
    await client.mqtt.publishAsync('te/edge-1/chain/ab/up', Buffer.alloc(LIMITS.shipmentBytesMax, 0x61), { qos: 1 });
    assert.equal(ear.heard[0]?.length, 'te/edge-1/chain/ab/up '.length + LIMITS.shipmentBytesMax);
    client.mqtt.publish('te/edge-1/chain/ab/up', Buffer.alloc(LIMITS.fleetPacketBytesMax, 0x61), { qos: 1 });
    await closed(client);
    assert.equal(door.counters.snapshot()['broker.packet_too_large'], 1);
  });

  describe('before other programs', () => {
    it('openssl verifies its chain under its names, over TLS 1.3 with X25519, and hears of the hybrid from Node', async function () {
      const openssl = requirePeer(this, 'openssl');
      const door = await open();
      const ask = (...args: readonly string[]) => run('/bin/sh', ['-c', `exec "$@" </dev/null`, 'sh', openssl, 's_client', '-connect', `localhost:${door.port}`, '-CAfile', filesOf(home).ca, '-verify_return_error', ...args]);
      const good = await ask('-verify_hostname', 'localhost', '-groups', 'X25519');
      assert.match(good.output, /Verify return code: 0 \(ok\)/);
      assert.match(good.output, /New, TLSv1\.3/);
      assert.match(good.output, /Server Temp Key: X25519/);
      assert.doesNotMatch((await ask('-verify_hostname', 'elsewhere.example')).output, /Verify return code: 0/);
      assert.doesNotMatch((await ask('-tls1_2')).output, /Verify return code: 0 \(ok\)[\s\S]*Protocol\s*: TLSv1\.2[\s\S]*Master-Key: [0-9A-F]{96}/);
      await enter(door.connectAs(one));
      const { tlsVersion, groups } = door.broker.facts();
      assert.deepEqual([tlsVersion, Object.keys(groups as object).toSorted()], ['TLSv1.3', ['X25519MLKEM768', 'x25519']]);
    });

    it('mosquitto_sub looks on with a password, and mosquitto_pub says nothing with it', async function () {
      const [sub, pub] = [requirePeer(this, 'mosquitto_sub'), requirePeer(this, 'mosquitto_pub')];
      const door = await open();
      const where = ['-h', 'localhost', '-p', String(door.port), '--cafile', filesOf(home).ca, '-u', ANNA.username, '-P', ANNA.password, '-q', '1'];
      await using watcher = new Program(sub, [...where, '-t', 'te/#', '-v']);
      await until('mosquitto_sub to be there', () => (door.broker.facts()['users'] as readonly string[]).includes('anna'));
      await (await enter(door.connectAs(one))).mqtt.publishAsync('te/edge-1/status', '{"status":"up"}', { qos: 1, retain: true });
      await until('the status', () => watcher.output.includes('te/edge-1/status {"status":"up"}'));
      const said = await run(pub, [...where, '-t', 'te/edge-1/status', '-m', 'forged', '-r']);
      assert.ok(said.code !== 0 || !watcher.output.includes('forged'));
      assert.equal(door.counters.snapshot()['broker.publish_forbidden'], 1);
    });
  });
});
