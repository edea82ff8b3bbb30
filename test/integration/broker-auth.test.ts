import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { connect as tlsConnect } from 'node:tls';
import { once } from 'node:events';
import type { IClientOptions } from 'mqtt';
import { hashPassword } from '#runtime/broker/auth.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { ListenerSettings, UserSettings } from '#runtime/core/settings.ts';
import { openTestBroker, temporaryDirectory, type TestBroker } from '#test/support/brokerHarness.ts';
import { closed, connectClient } from '#test/support/mqttClient.ts';
import { requirePeer } from '#test/support/peers.ts';
import { until } from '#test/support/until.ts';

const PASSWORD_LISTENER: ListenerSettings = { host: '127.0.0.1', port: 0, anonymous: false };

/** The return code with which the broker refuses. */
async function refusal(port: number, options: IClientOptions): Promise<number | undefined> {
  const outcome: unknown = await connectClient(port, options).catch((error: unknown) => error);
  assert.ok(outcome instanceof Error, 'the broker let the client in');
  return 'code' in outcome && typeof outcome.code === 'number' ? outcome.code : undefined;
}

describe('broker: authentication and permissions', () => {
  let users: UserSettings[];
  let door: TestBroker;
  let port: number;

  before(async () => {
    users = [
      { name: 'motor', passwordHash: await hashPassword('turn'), publish: ['te/device/%c///m/+', 'shared/%u/#'], subscribe: ['cmd/%c/#'] },
      { name: 'fridge', passwordHash: await hashPassword('cold'), publish: ['#'], subscribe: ['#'] },
    ];
  });
  beforeEach(async () => {
    door = await openTestBroker({ settings: { users, listeners: [PASSWORD_LISTENER] } });
    port = door.broker.listeners()[1]?.port ?? 0;
  });
  afterEach(() => door[Symbol.asyncDispose]());

  it('tells its listeners as they are', () => {
    assert.deepEqual(door.broker.listeners().map(({ host, tls, auth }) => ({ host, tls, auth })), [
      { host: '127.0.0.1', tls: false, auth: 'anonymous' }, { host: '127.0.0.1', tls: false, auth: 'password' },
    ]);
  });

  it('lets a user in with the password, and refuses a wrong one, an unknown user and nobody', async () => {
    await using client = await connectClient(port, { clientId: 'm1', username: 'motor', password: 'turn' });
    assert.deepEqual(door.broker.clients().map((who) => [who.id, who.user, who.address, who.keyDigest()]), [['m1', 'motor', '127.0.0.1', undefined]]);
    assert.ok(client.mqtt.connected);
    assert.equal(await refusal(port, { username: 'motor', password: 'wrong' }), 4);
    assert.equal(await refusal(port, { username: 'nobody', password: 'turn' }), 4);
    assert.equal(await refusal(port, {}), 5);
    await until('three refusals', () => door.counters.of('broker.credentials') === 3);
  });

  it('locks an address out after too many failures, also with the right password', async () => {
    for (let at = 0; at < LIMITS.loginFailuresMax; at++) assert.equal(await refusal(port, { username: 'motor', password: `wrong${at}` }), 4);
    assert.equal(await refusal(port, { username: 'motor', password: 'turn' }), 3);
    await until('the lock', () => door.counters.of('broker.too_many_attempts') === 1);
  });

  it('ends the connection of a client that publishes where it may not', async () => {
    await using client = await connectClient(port, { clientId: 'm1', username: 'motor', password: 'turn' });
    await client.mqtt.publishAsync('te/device/m1///m/vibration', '1', { qos: 1 });
    await client.mqtt.publishAsync('shared/motor/x', '1', { qos: 1 });
    client.mqtt.publish('te/device/m2///m/vibration', '1', { qos: 1 });
    await closed(client);
    assert.deepEqual(door.intake.topics(), ['te/device/m1///m/vibration', 'shared/motor/x']);
    assert.equal(door.counters.of('broker.publish_forbidden'), 1);
  });

  it('grants nothing through a client id that holds a wildcard', async () => {
    await using client = await connectClient(port, { clientId: '+', username: 'motor', password: 'turn' });
    client.mqtt.publish('te/device/+///m/x'.replace('+', 'm2'), '1', { qos: 1 });
    await closed(client);
    assert.deepEqual(door.intake.topics(), []);
    assert.equal(door.counters.of('broker.publish_forbidden'), 1);
  });

  it('does not let one user take the client id of another', async () => {
    await using held = await connectClient(port, { clientId: 'x', username: 'motor', password: 'turn' });
    assert.equal(await refusal(port, { clientId: 'x', username: 'fridge', password: 'cold' }), 2);
    await until('the refusal', () => door.counters.of('broker.client_id_taken') === 1);
    assert.ok(held.mqtt.connected);
  });

  for (const listener of [{ host: '0.0.0.0', port: 0, anonymous: true }, { host: '::', port: 0, anonymous: true }]) {
    it(`refuses to open ${listener.host} for anonymous clients, and for nobody`, async () => {
      await assert.rejects(openTestBroker({ settings: { users, listeners: [listener] } }), { code: 'broker.listener_open' });
      await assert.rejects(openTestBroker({ settings: { listeners: [{ ...listener, anonymous: false }] } }), { code: 'broker.listener_open' });
    });
  }

  it('names the port that is in use, and the variable that changes it', async () => {
    await assert.rejects(openTestBroker({ settings: { port } }), { code: 'broker.port_in_use', message: new RegExp(`${port}.*TENZRO_MQTT_PORT`) });
  });

  it('refuses a password hash that is none', async () => {
    await assert.rejects(openTestBroker({ settings: { users: [{ name: 'x', passwordHash: 'turn', publish: [], subscribe: [] }] } }), { code: 'broker.password_hash' });
  });

  describe('over TLS', () => {
    let dir: string | undefined;
    const file = (name: string): string => path.join(dir ?? '', name);
    before(async function () {
      const program = requirePeer(this, 'openssl');
      dir = await temporaryDirectory();
      const openssl = (...args: string[]): Buffer => execFileSync(program, args, { cwd: dir, stdio: 'pipe' });
      openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=test ca', '-days', '1');
      for (const name of ['server', 'client']) {
        openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1');
        openssl('x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-out', `${name}.pem`, '-days', '1', '-copy_extensions', 'copy');
      }
    });
    after(() => (dir === undefined ? undefined : rm(dir, { recursive: true, force: true })));

    it('serves TLS 1.3, and a client certificate where it asks for one', async () => {
      const tls = { certFile: file('server.pem'), keyFile: file('server.key') };
      await using both = await openTestBroker({ settings: { users, listeners: [{ ...PASSWORD_LISTENER, tls }, { ...PASSWORD_LISTENER, tls: { ...tls, clientCaFile: file('ca.pem') } }] } });
      const [, plain, mutual] = both.broker.listeners();
      assert.deepEqual([plain?.auth, mutual?.auth], ['password', 'certificate+password']);
      const ca = readFileSync(file('ca.pem'));
      const login = { protocol: 'mqtts', ca, username: 'motor', password: 'turn', clientId: 'm1' } as const;
      await using client = await connectClient(plain?.port ?? 0, login);
      await client.mqtt.publishAsync('shared/motor/x', Buffer.alloc(100_000), { qos: 1 });
      const socket = tlsConnect({ host: '127.0.0.1', port: plain?.port ?? 0, ca });
      await once(socket, 'secureConnect');
      assert.equal(socket.getProtocol(), 'TLSv1.3');
      socket.destroy();
      await assert.rejects(connectClient(mutual?.port ?? 0, { ...login, clientId: 'm2' }));
      const certificate = { cert: readFileSync(file('client.pem')), key: readFileSync(file('client.key')) };
      await using trusted = await connectClient(mutual?.port ?? 0, { ...login, ...certificate, clientId: 'm3' });
      await trusted.mqtt.publishAsync('shared/motor/y', 'x', { qos: 2 });
      assert.deepEqual(both.intake.topics(), ['shared/motor/x', 'shared/motor/y']);
    });

    it('names the certificate file that is missing', async () => {
      const tls = { certFile: file('none.pem'), keyFile: file('server.key') };
      await assert.rejects(openTestBroker({ settings: { users, listeners: [{ ...PASSWORD_LISTENER, tls }] } }), { code: 'broker.listener', message: /none\.pem/ });
    });
  });
});
