import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { OTHER_BROKERS, PASSWORD, type OtherBroker } from '#test/support/fleetBrokers.ts';
import { connectClient, type TestClient } from '#test/support/mqttClient.ts';
import { tempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const COUNT = 50;

/** What docs/operate/brokers.md says that a PUBACK is worth. The fleet's own broker: test/fault/broker-kill.test.ts. */
describe('what a fleet\'s broker has retained after kill -9', function () {
  this.timeout(30_000);

  for (const [name, make, kept] of [['mosquitto', OTHER_BROKERS.mosquitto, 0], ['nats-server', OTHER_BROKERS['nats-server'], COUNT]] as const) {
    it(`${name}: ${kept} of ${COUNT} messages that it acknowledged`, async function () {
      using dir = tempDir('fleet-broker-memory');
      await using opened = new AsyncDisposableStack();
      const broker = await make(this, dir.path);
      const program = await broker.start();
      const client = await connect(broker);
      for (let i = 0; i < COUNT; i++) await client.mqtt.publishAsync(`te/edge-1/device/main///cmd/sync_time/${i}`, '{}', { qos: 1, retain: true });
      await program.end('SIGKILL');
      await client[Symbol.asyncDispose]();
      opened.use(await broker.start());
      const later = opened.use(await connect(broker));
      await later.mqtt.subscribeAsync('te/#', { qos: 1 });
      await later.mqtt.publishAsync('te/edge-1/status', 'last', { qos: 1 });
      await until('the last word', () => later.received.some(({ payload }) => payload === 'last'));
      if (kept > 0) await until('what was retained', () => later.received.length > kept);
      assert.equal(later.received.filter(({ retain }) => retain).length, kept);
    });
  }
});

const connect = ({ port, caFile }: OtherBroker): Promise<TestClient> => connectClient(port, { protocol: 'mqtts', host: 'localhost', ca: readFileSync(caFile, 'utf8'), username: 'fleet', password: PASSWORD });
