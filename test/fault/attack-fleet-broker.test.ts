import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { NODE_NAME, OwnedGateway, Requester, readMessage, type Message } from '#test/support/commandGateway.ts';
import { makeBroker, uplinkConfig, type FleetBroker } from '#test/support/fleet.ts';
import { logLines, type Gateway } from '#test/support/gateway.ts';
import { connectClient, type TestClient } from '#test/support/mqttClient.ts';
import { requirePeer } from '#test/support/peers.ts';
import type { Program } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

/** Attacks of who runs the fleet's broker: every topic is theirs, and every retained message. */
describe('attacks: the fleet\'s broker', function () {
  this.timeout(60_000);
  let dir: TempDir;
  let broker: FleetBroker;
  let serving: Program;
  let owned: OwnedGateway;
  let gateway: Gateway;
  let fleet: Requester;
  let hostile: TestClient;

  const start = async (): Promise<void> => {
    gateway = await owned.start();
    await gateway.until('the fleet\'s broker', ({ fleet: { upstreams } }) => upstreams[0]?.connected === true, 30_000);
  };
  const entries = async (): Promise<readonly Message[]> => (await logLines(owned.dataDir, ['--kind', 'command,result', '--limit', '10000'])).map(({ kind, body }) => ({ kind, ...(body as Message) }));
  const say = async (rest: string, payload: string | Buffer): Promise<void> => { await hostile.mqtt.publishAsync(`te/${NODE_NAME}/${rest}`, payload, { qos: 1, retain: true }); };
  const configUpdate = (id: string): string => owned.sign('config_update', id, { ttlSeconds: 3_600, parameters: { config: `${readFileSync(owned.configFile, 'utf8')}# ${id}\n` } });

  before(async function () {
    requirePeer(this, 'mosquitto_pub');
    dir = tempDir('attack-fleet');
    broker = await makeBroker(this, dir.path);
    owned = new OwnedGateway(dir.path);
    await owned.prepare();
    writeFileSync(owned.configFile, owned.configuration(`uplinks:\n${uplinkConfig('fleet', broker, 'ab'.repeat(32))}\n`));
    serving = await broker.start();
    hostile = await connectClient(broker.port, { protocol: 'mqtts', host: 'localhost', ca: readFileSync(broker.caFile), username: 'fleet', password: readFileSync(broker.passwordFile, 'utf8').trim() });
    fleet = Requester.over(broker);
    await start();
  });
  after(async () => {
    await hostile[Symbol.asyncDispose]();
    await gateway[Symbol.asyncDispose]();
    await serving[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  it('hostile fleet broker: unsigned and forged commands, states and receipts that nobody said change nothing and are recorded or counted, command.unsigned and command.signature', async () => {
    const before = readFileSync(owned.configFile, 'utf8');
    const { signature: _signature, ...unsigned } = readMessage(configUpdate('unsigned'));
    const forged = { ...readMessage(configUpdate('forged')), parameters: { config: owned.configuration('# theirs\n') } };
    await say('device/main///cmd/config_update/unsigned', JSON.stringify(unsigned));
    await say('device/main///cmd/config_update/forged', JSON.stringify(forged));
    for (const [id, code] of [['unsigned', 'command.unsigned'], ['forged', 'command.signature']] as const) {
      assert.ok(String((await fleet.ended('config_update', id))['reason']).startsWith(`${code}: `));
      assert.deepEqual((await entries()).filter((entry) => entry['id'] === id).map(({ state, code: told }) => [state, told]), [['refused', code]]);
    }
    const { chain: { id: chain } } = await gateway.until('a chain', (status) => status.chain.id !== null, 20_000);
    await say('device/main///cmd/config_update/nobody', '{"status":"successful"}');
    await say('device/main///cmd/config_update/bytes', Buffer.from([0xff, 0, 1]));
    await say(`chain/${chain}/receipt`, Buffer.from('a receipt'));
    const { counters, fleet: status } = await gateway.until('all of it', ({ counters: now }) => (now['fleet.ignored'] ?? 0) > 0 && (now['uplink.receipt'] ?? 0) > 0 && (now['fleet.refused.command.malformed'] ?? 0) > 0);
    assert.deepEqual([status.upstreams[0]?.receipt, status.upstreams[0]?.connected, counters['fleet.accepted'] ?? 0], [null, true, 0]);
    assert.equal(readFileSync(owned.configFile, 'utf8'), before);
  });

  it('hostile fleet broker: a retained command replayed at every connection, after a kill too, is not done again, and its true state stands', async () => {
    const file = configUpdate('once');
    await fleet.publish('config_update', 'once', file);
    await fleet.ended('config_update', 'once');
    const after = readFileSync(owned.configFile, 'utf8').replace('# once\n', '');
    writeFileSync(owned.configFile, after);
    for (const end of ['stop', 'kill'] as const) {
      await gateway[end]();
      await say('device/main///cmd/config_update/once', readFileSync(file));
      await start();
      await until('its true state', async () => (await fleet.retained('config_update', 'once'))?.['status'] === 'successful');
    }
    await say('device/main///cmd/config_update/once', JSON.stringify({ ...readMessage(file), status: 'failed', reason: 'it says' }));
    await until('its true state', async () => (await fleet.retained('config_update', 'once'))?.['status'] === 'successful');
    assert.deepEqual((await entries()).filter((entry) => entry['id'] === 'once').map(({ kind, state }) => (kind === 'command' ? kind : state)), ['command', 'executing', 'successful']);
    assert.equal(readFileSync(owned.configFile, 'utf8'), after);
  });
});
