/** The same fan-out with nothing behind it: one mqtt.js client publishes, others answer, mosquitto between them. */
import { join } from 'node:path';
import { connectClient, type TestClient } from '#test/support/mqttClient.ts';
import { startSecureMosquitto } from '../contenders.ts';
import type { ResponderMethods } from '../peers/responders.ts';
import { nowMs } from './clock.ts';
import { Crew } from './crew.ts';
import type { Order } from './underTest.ts';

const FILE = join(import.meta.dirname, '..', 'peers', 'responders.ts');

export class BareFan implements AsyncDisposable {
  readonly #desk: TestClient;
  readonly #resources: AsyncDisposableStack;

  private constructor(desk: TestClient, resources: AsyncDisposableStack) {
    [this.#desk, this.#resources] = [desk, resources];
  }

  /** Undefined where mosquitto is not installed. */
  static async start(names: readonly string[]): Promise<BareFan | undefined> {
    await using stack = new AsyncDisposableStack();
    const broker = await startSecureMosquitto();
    if (!broker) return undefined;
    const { port, ca } = stack.use(broker);
    await stack.use(new Crew<ResponderMethods>(FILE, 1)).ask('start', () => ({ names, port, ca }));
    const desk = stack.use(await connectClient(port, { protocol: 'mqtts', host: 'localhost', ca, clientId: 'desk' }));
    await desk.mqtt.subscribeAsync('te/+/device/main///cmd/+/+', { qos: 1 });
    return new BareFan(desk, stack.move());
  }

  /** Milliseconds from the first publish to the last answer of each; the command is then cleared, as the desk does. */
  async fanOut(orders: readonly Order[]): Promise<readonly number[]> {
    const { mqtt } = this.#desk;
    const ended: number[] = [];
    const done = Promise.withResolvers<void>();
    const from = nowMs();
    const hear = (topic: string, payload: Buffer): void => {
      if (!payload.includes('"status":"successful"')) return;
      ended.push(nowMs() - from);
      mqtt.publish(topic, '', { qos: 1, retain: true });
      if (ended.length === orders.length) done.resolve();
    };
    mqtt.on('message', hear);
    for (const { gateway, type, id, message } of orders) mqtt.publish(`te/${gateway}/device/main///cmd/${type}/${id}`, JSON.stringify(message), { qos: 1, retain: true });
    await done.promise;
    mqtt.off('message', hear);
    return ended;
  }

  async [Symbol.asyncDispose](): Promise<void> { await this.#resources.disposeAsync(); }
}
