import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Gateway, logLines } from '#test/support/gateway.ts';
import { connectClient, type TestClient } from '#test/support/mqttClient.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const CONFIGURATION = `
system: { enabled: false }
infer: { enabled: false }
attest: { tpm: { mode: none } }
ingest:
  registration: explicit
  mappings:
    - { name: tasmota, topic: tele/+/SENSOR, source: 'device/{1}//', values: [{ path: AM2301.Temperature, channel: temperature, unit: °C }] }
    - { name: esphome, topic: +/sensor/+/state, source: 'device/{1}//', values: [{ channel: '{2}', unit: '' }] }
    - { name: zigbee, topic: zigbee2mqtt/+, source: 'device/{1}//', values: [{ path: temperature, channel: temperature, unit: °C }, { path: contact, channel: contact, unit: '' }] }
    - { name: shelly, topic: +/events/rpc, source: 'device/{1}//', values: [{ path: 'params.switch:0.apower', channel: power, unit: W }] }
  record:
    - { topic: te/device/meter///m/quiet, mode: never }
    - { topic: te/device/meter///m/door, mode: onChange, deadband: 0.5 }
    - { topic: te/device/meter///m/fast, mode: summary, windowMs: 60000 }
    - { topic: te/device/meter///m/all, mode: every }
`.replaceAll(/topic: (\+\S*?),/g, "topic: '$1',");

/** Payloads as the devices send them, and what becomes of them. */
const DEVICES: readonly (readonly [topic: string, payload: string, source: string, mapping: string, values: object])[] = [
  ['tele/plug/SENSOR', '{"Time":"2026-11-23T10:00:00","AM2301":{"Temperature":21.5,"Humidity":44.0},"TempUnit":"C"}', 'device/plug//', 'tasmota', [{ channel: 'temperature', value: 21.5, unit: '°C' }]],
  ['kitchen/sensor/co2/state', '412', 'device/kitchen//', 'esphome', [{ channel: 'co2', value: 412, unit: '' }]],
  ['zigbee2mqtt/door', '{"battery":97,"contact":false,"temperature":null,"linkquality":120}', 'device/door//', 'zigbee', [{ channel: 'contact', value: 0, unit: '' }]],
  ['shelly1pm-a1/events/rpc', '{"src":"shelly1pm-a1","method":"NotifyStatus","params":{"switch:0":{"id":0,"apower":12.5,"output":true}}}', 'device/shelly1pm-a1//', 'shelly', [{ channel: 'power', value: 12.5, unit: 'W' }]],
];

/** Ingest as a configuration file asks for it, through the real gateway and back out through `tenzro log --json`. */
describe('gateway: a configured ingest', function () {
  this.timeout(30_000);
  let dir: TempDir;
  let gateway: Gateway;
  let client: TestClient;
  const dataDir = (): string => join(dir.path, 'data');
  const send = (topic: string, payload: string, retain = false): Promise<unknown> => client.mqtt.publishAsync(topic, payload, { qos: 1, retain });
  const start = async (): Promise<void> => {
    gateway = await Gateway.start({ dataDir: dataDir(), configFile: join(dir.path, 'tenzro.yaml') });
    client = await connectClient(await gateway.port());
  };

  before(async () => {
    dir = tempDir('configured');
    writeFileSync(join(dir.path, 'tenzro.yaml'), CONFIGURATION);
    await start();
  });
  after(async () => {
    await client[Symbol.asyncDispose]();
    await gateway[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  for (const [topic, payload, source, mapping, values] of DEVICES) {
    it(`takes ${mapping} in, registered by its rule`, async () => {
      await send(topic, payload);
      const [reading] = await logLines(dataDir(), ['--source', source, '--kind', 'reading']);
      const body = reading?.body as Record<string, unknown>;
      assert.deepEqual([body['topic'], body['payload'], body['mapping'], body['values']], [topic, payload, mapping, values], JSON.stringify(body));
    });
  }

  it('refuses a child until it is registered, explicitly', async () => {
    await send('te/device/meter///m/all', '{"v":0}');
    await gateway.until('the refusal', ({ counters }) => counters['ingest.rejected.ingest.unregistered'] === 1);
    await send('te/device/meter//', '{"@type":"child-device","name":"Meter"}', true);
    await send('te/device/meter///m/all/meta', '{"units":{"v":"V"}}', true);
    await send('te/device/meter///m/all', '{"v":1}');
    assert.deepEqual(await payloads('all'), ['{"v":1}']);
  });

  it('records every message, changes, summaries or nothing', async () => {
    for (const v of [1, 1.2, 1.6, 1.7]) for (const type of ['quiet', 'door', 'fast']) await send(`te/device/meter///m/${type}`, `{"v":${v}}`);
    assert.deepEqual(await payloads('quiet'), []);
    assert.deepEqual(await payloads('door'), ['{"v":1}', '{"v":1.6}']);
    assert.deepEqual(await payloads('fast'), []);
    const { counters } = await gateway.until('status', () => true);
    assert.deepEqual([counters['ingest.unrecorded'], counters['ingest.unchanged'], counters['ingest.summarised']], [4, 2, 4]);
    await client[Symbol.asyncDispose]();
    assert.equal(await gateway.stop(), 0);
    const [summary] = await logLines(dataDir(), ['--kind', 'summary']);
    assert.equal((summary?.body as { count: number } | undefined)?.count, 4, JSON.stringify(summary));
  });

  it('knows who is registered, and in which units, long after that left the tail of the log', async () => {
    await start();
    const known = await gateway.until('status', () => true);
    const filler = Array.from({ length: 10_500 }, (_, at) => send('kitchen/sensor/co2/state', String(at)));
    await Promise.all(filler);
    await client[Symbol.asyncDispose]();
    await gateway.kill();
    await start();
    await send('te/device/meter///m/all', '{"v":2}');
    const readings = await logLines(dataDir(), ['--source', 'device/meter//', '--kind', 'reading', '--limit', '1']);
    assert.deepEqual((readings[0]?.body as { values: object } | undefined)?.values, [{ channel: 'v', value: 2, unit: 'V' }]);
    const registrations = await logLines(dataDir(), ['--kind', 'registration', '--source', 'device/meter//', '--limit', '100000']);
    assert.equal(registrations.length, 2, `what is known is not recorded again (after ${known.chain.entries} entries)`);
  });

  async function payloads(type: string): Promise<unknown[]> {
    const readings = await logLines(dataDir(), ['--source', 'device/meter//', '--kind', 'reading']);
    return readings.map(({ body }) => body as { topic: string; payload: string }).filter(({ topic }) => topic === `te/device/meter///m/${type}`).map(({ payload }) => payload);
  }
});
