/** A process of bare mqtt.js clients that answer commands with the messages that a gateway answers with, and do nothing else: the limit for a fan-out. */
import { connectClient, type TestClient } from '#test/support/mqttClient.ts';
import { serve } from '../fleet/crew.ts';

const clients: TestClient[] = [];
const AT_ONCE = 32;

export interface RespondOptions { readonly names: readonly string[]; readonly port: number; readonly ca: string }

const methods = {
  async start({ names, port, ca }: RespondOptions): Promise<void> {
    for (let at = 0; at < names.length; at += AT_ONCE) clients.push(...await Promise.all(names.slice(at, at + AT_ONCE).map(async (name) => respond(name, port, ca))));
  },
};

async function respond(name: string, port: number, ca: string): Promise<TestClient> {
  const client = await connectClient(port, { protocol: 'mqtts', host: 'localhost', ca, clientId: name, keepalive: 30 });
  client.mqtt.on('message', (topic, payload) => {
    const text = payload.toString();
    if (!text.includes('"status":"init"')) return;
    const { signature: _, ...members } = JSON.parse(text) as Record<string, unknown>;
    const options = { qos: 1, retain: true } as const;
    client.mqtt.publish(topic, JSON.stringify({ ...members, status: 'executing' }), options);
    client.mqtt.publish(topic, JSON.stringify({ ...members, status: 'successful', result: { done: true } }), options);
  });
  await client.mqtt.subscribeAsync(`te/${name}/device/main///cmd/+/+`, { qos: 0 });
  return client;
}

export type ResponderMethods = typeof methods;

serve(methods);
