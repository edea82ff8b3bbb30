/** Many simulated gateways on one connection: they answer commands without judging them, badly mannered where a test wants it. What they did is counted. */
import { randomOf } from './random.ts';
import type { TestClient } from './mqttClient.ts';

export interface Manners {
  /** Per mille: a delivery is not noticed, a state is told twice, states come in the wrong order, a command fails. */
  readonly miss: number;
  readonly repeat: number;
  readonly shuffle: number;
  readonly fail: number;
}

const FILTER = 'te/+/device/main///cmd/+/+';

export class Responders {
  /** Effects by topic: a gateway does each id once. */
  readonly done = new Map<string, 'successful' | 'failed'>();
  missed = 0;
  readonly #client: TestClient;
  readonly #manners: Manners;
  readonly #random = randomOf(7);

  private constructor(client: TestClient, manners: Manners) {
    this.#client = client;
    this.#manners = manners;
    client.mqtt.on('message', (topic: string, payload: Buffer) => { this.#hear(topic, payload); });
  }

  static async of(client: TestClient, names: readonly string[], manners: Manners): Promise<Responders> {
    const responders = new Responders(client, manners);
    for (const name of names) await client.mqtt.publishAsync(`te/${name}/status`, '{"status":"up"}', { qos: 1, retain: true });
    await responders.listen();
    return responders;
  }

  /** Again: as after a reconnect, retained messages come once more. */
  async listen(): Promise<void> {
    await this.#client.mqtt.unsubscribeAsync(FILTER);
    await this.#client.mqtt.subscribeAsync(FILTER, { qos: 0 });
  }

  #hear(topic: string, payload: Buffer): void {
    if (payload.length === 0) return;
    const { signature: _signature, status, ...members } = JSON.parse(payload.toString()) as { signature?: string; status?: string; type?: string; id?: string };
    if (status !== 'init') return;
    if (!this.done.has(topic)) {
      if (this.#random(1_000) < this.#manners.miss) {
        this.missed++;
        return;
      }
      this.done.set(topic, members.type !== 'cancel' && this.#random(1_000) < this.#manners.fail ? 'failed' : 'successful');
    }
    const end = this.done.get(topic) ?? 'failed';
    const words = [{ ...members, status: 'executing' }, { ...members, status: end, ...(end === 'failed' ? { reason: 'command.config: disk full' } : { result: {} }) }];
    if (this.#random(1_000) < this.#manners.shuffle) words.reverse();
    if (this.#random(1_000) < this.#manners.repeat) words.push(...words);
    for (const word of words) this.#client.mqtt.publish(topic, JSON.stringify(word), { qos: 1, retain: true });
  }
}
