import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { openTestBroker, temporaryDirectory } from '#test/support/brokerHarness.ts';
import { connectClient } from '#test/support/mqttClient.ts';

async function serve(dir: string): Promise<{ child: ChildProcess; port: number }> {
  const child = spawn(process.execPath, [fileURLToPath(new URL('../support/brokerServe.ts', import.meta.url)), dir], { stdio: ['ignore', 'pipe', 'inherit'] });
  for await (const line of createInterface({ input: child.stdout })) return { child, port: Number(line) };
  throw new Error('the broker did not start');
}

describe('broker: kill -9', () => {
  it('keeps every acknowledged message for a durable client that is away, and the retained ones', async () => {
    const dir = await temporaryDirectory();
    try {
      const { child, port } = await serve(dir);
      const durable = await connectClient(port, { clientId: 'durable', clean: false });
      await durable.mqtt.subscribeAsync('q/#', { qos: 2 });
      await durable.mqtt.endAsync();
      const publisher = await connectClient(port, { clientId: 'publisher' });
      for (let at = 0; at < 30; at++) await publisher.mqtt.publishAsync(`q/${at}`, 'x', { qos: at % 2 === 0 ? 1 : 2, retain: at === 29 });
      child.kill('SIGKILL');
      await once(child, 'exit');
      await publisher.mqtt.endAsync(true);

      await using after = await openTestBroker({ dir });
      await using back = await connectClient(after.port, { clientId: 'durable', clean: false });
      // in order for each QoS: the client shows a QoS 2 message only at its PUBREL
      const topics = (await back.arrived(30)).map(({ topic }) => topic);
      for (const rest of [0, 1]) {
        const expected = Array.from({ length: 15 }, (_, at) => `q/${at * 2 + rest}`);
        assert.deepEqual(topics.filter((topic) => expected.includes(topic)), expected);
      }
      await using fresh = await connectClient(after.port);
      await fresh.mqtt.subscribeAsync('q/#');
      assert.deepEqual((await fresh.arrived(1)).map(({ topic, retain }) => [topic, retain]), [['q/29', true]]);
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  });
});
