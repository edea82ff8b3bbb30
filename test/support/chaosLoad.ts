/** What happens at the gateway's own broker during a chaos run: sensors that publish at QoS 1 and note what was acknowledged, and a pump that counts what it was told. */
import { connectClient, type TestClient } from './mqttClient.ts';
import { until } from './until.ts';

const PUBLISHERS = 8;
const IN_FLIGHT = 16;
const LOOK_MS = 20;
const CONNECT_MS_MAX = 60_000;

const readingTopic = (publisher: number): string => `te/device/load-${publisher}///m/environment`;

/** Each number is published once at most: what is not acknowledged before the connection ends counts as never sent. */
export class Readings {
  /** Numbers that the broker acknowledged, by publisher, in the order of their acknowledgement. */
  readonly acknowledged: readonly number[][] = Array.from({ length: PUBLISHERS }, () => []);
  readonly #port: number;
  readonly #total: number;
  readonly #allowed: () => number;
  readonly #next = Array.from({ length: PUBLISHERS }, () => 0);
  count = 0;

  /** `allowed`: how many may have been acknowledged by now. */
  constructor(port: number, total: number, allowed: () => number) {
    this.#port = port;
    this.#total = total;
    this.#allowed = allowed;
  }

  /** Resolves when all are acknowledged, or `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all(this.acknowledged.map(async (_, publisher) => {
      while (!this.#isDone(signal)) await this.#over(await reconnect(this.#port, `load-${publisher}`, signal), publisher, signal);
    }));
  }

  #isDone(signal: AbortSignal): boolean { return signal.aborted || this.count >= this.#total; }

  async #over(client: TestClient | undefined, publisher: number, signal: AbortSignal): Promise<void> {
    if (!client) return;
    await using connection = client;
    const { mqtt } = connection;
    let underWay = 0;
    const fill = (): void => {
      while (mqtt.connected && underWay < IN_FLIGHT && this.count + underWay * PUBLISHERS < Math.min(this.#allowed(), this.#total + IN_FLIGHT * PUBLISHERS)) {
        underWay++;
        this.#publish(connection, publisher, () => { underWay--; });
      }
    };
    await until('the load', () => {
      fill();
      return !mqtt.connected || this.#isDone(signal);
    }, { timeoutMs: Number.POSITIVE_INFINITY, intervalMs: LOOK_MS });
  }

  #publish({ mqtt }: TestClient, publisher: number, ended: () => void): void {
    const seq = this.#next[publisher] ?? 0;
    this.#next[publisher] = seq + 1;
    mqtt.publish(readingTopic(publisher), JSON.stringify({ temperature: 20 + (seq % 100) / 10, seq }), { qos: 1 }, (error) => {
      ended();
      if (error) return;
      this.acknowledged[publisher]?.push(seq);
      this.count++;
    });
  }
}

/** A device that acts: does what it is told each time that it is told, confirms, and counts. */
export class Pump {
  /** Values by command id, each time. */
  readonly doses = new Map<string, number[]>();
  readonly #port: number;

  constructor(port: number) { this.#port = port; }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const client = await reconnect(this.#port, 'pump', signal);
      if (!client) return;
      await using connection = client;
      connection.mqtt.on('message', (topic: string, payload: Buffer) => { this.#hear(connection, topic, payload); });
      connection.mqtt.subscribe('te/device/pump///cmd/dose/+', { qos: 0 });
      await until('the pump', () => !connection.mqtt.connected || signal.aborted, { timeoutMs: Number.POSITIVE_INFINITY, intervalMs: LOOK_MS });
    }
  }

  #hear({ mqtt }: TestClient, topic: string, payload: Buffer): void {
    const { status, value = Number.NaN } = JSON.parse(payload.toString()) as { readonly status: string; readonly value?: number };
    if (status !== 'init') return;
    const id = topic.slice(topic.lastIndexOf('/') + 1);
    this.doses.set(id, [...(this.doses.get(id) ?? []), value]);
    mqtt.publish(topic, JSON.stringify({ status: 'successful', value }), { qos: 0 });
  }
}

/** Undefined when `signal` aborts. */
async function reconnect(port: number, clientId: string, signal: AbortSignal): Promise<TestClient | undefined> {
  return until(`the gateway's broker to take ${clientId}`, async () => {
    if (signal.aborted) return { client: undefined };
    return { client: await connectClient(port, { clientId }) };
  }, { timeoutMs: CONNECT_MS_MAX, intervalMs: 50 }).then(({ client }) => client);
}
