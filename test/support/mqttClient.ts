/** A real MQTT client for tests: mqtt.js, imported here only. */
import { connect, type IClientOptions, type IPublishPacket, type MqttClient } from 'mqtt';

interface Received { readonly topic: string; readonly payload: string; readonly qos: number; readonly retain: boolean; readonly dup: boolean }

export interface TestClient extends AsyncDisposable {
  readonly mqtt: MqttClient;
  readonly received: readonly Received[];
  /** Resolves when at least `count` messages have arrived. */
  arrived(count: number): Promise<readonly Received[]>;
}

/** Connects over TCP (or TLS with `protocol: 'mqtts'`), without reconnecting by itself. */
export async function connectClient(port: number, options: IClientOptions = {}): Promise<TestClient> {
  const early: Received[] = [];
  let arrival: (() => void) | undefined;
  const mqtt = connect({ host: '127.0.0.1', port, protocol: 'mqtt', protocolVersion: 4, reconnectPeriod: 0, connectTimeout: 5_000, ...options });
  // listening before the connection stands: a resumed session delivers with the CONNACK
  mqtt.on('message', (topic: string, payload: Buffer, { qos, retain, dup }: IPublishPacket) => {
    early.push({ topic, payload: payload.toString(), qos, retain, dup });
    arrival?.();
  });
  await new Promise<void>((resolve, reject) => {
    mqtt.once('connect', () => resolve());
    mqtt.on('error', (error) => {
      mqtt.end(true);
      reject(error);
    });
    mqtt.once('close', () => reject(new Error('the connection was closed')));
  });
  return {
    mqtt,
    received: early,
    async arrived(count) {
      while (early.length < count) await new Promise<void>((resolve) => { arrival = resolve; });
      return early;
    },
    async [Symbol.asyncDispose]() { await mqtt.endAsync(true); },
  };
}

/** Resolves when the broker (or the network) has ended the client's connection. */
export async function closed(client: TestClient): Promise<void> {
  if (client.mqtt.connected) await new Promise<void>((resolve) => { client.mqtt.once('close', () => resolve()); });
}
