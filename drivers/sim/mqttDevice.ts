/** One microcontroller's connection: MQTT 3.1.1, its own client id, QoS 1. */
import { setTimeout as sleep } from 'node:timers/promises';
import { connectMqtt } from '#runtime/link/mqttLink.ts';

export interface DeviceConnectionOptions {
  readonly host: string;
  readonly port: number;
  readonly clientId: string;
  /** Retained; set when the connection is lost, and at `close`. */
  readonly will: { readonly topic: string; readonly payload: string };
  /** Sent at every connect: retained state that a broker may have lost. */
  readonly greeting: readonly { readonly topic: string; readonly payload: string }[];
  /** Subscribed at every connect, at QoS 0: a call that it misses is missed. `answer` returns what to publish on the same topic. */
  readonly listen?: { readonly filter: string; readonly answer: (topic: string, payload: Uint8Array) => string | undefined };
  readonly onState?: (state: 'connected' | 'lost', detail: string) => void;
}

export interface DeviceConnection extends AsyncDisposable {
  /** Resolves with true at the next connect, after the greeting; with false when `signal` aborts first. */
  ready(signal: AbortSignal): Promise<boolean>;
  /** Hands over one QoS 1 message. False when the device's small memory is full of unacknowledged ones: this one is lost. */
  publish(topic: string, payload: string, options: { retain: boolean }): boolean;
  /** Messages acknowledged by the broker. */
  acknowledged(): number;
  /** Milliseconds without a connection; 0 while connected. */
  offlineMs(): number;
}

/** What a microcontroller can hold back. */
const UNACKNOWLEDGED_MAX = 64;
const RECONNECT_MS = [500, 1_500] as const;
const CLOSE_TIMEOUT_MS = 2_000;

/** Returns at once and keeps connecting, each time after another delay, so that devices do not come back in step. */
export function connectDevice({ host, port, clientId, will, greeting, listen, onState }: DeviceConnectionOptions): DeviceConnection {
  const client = connectMqtt({
    host, port, protocol: 'mqtt', clientId, keepalive: 30, connectTimeout: 5_000, reconnectPeriod: jitteredMs(),
    will: { topic: will.topic, payload: Buffer.from(will.payload), qos: 1, retain: true },
  });
  let [waiting, acknowledged] = [0, 0];
  let offlineSince: number | undefined = performance.now();
  let lastError = '';
  const send = (topic: string, payload: string, retain: boolean): void => {
    waiting++;
    client.publish(topic, payload, { qos: 1, retain }, (error) => {
      waiting--;
      if (!error) acknowledged++;
    });
  };
  client.on('connect', () => {
    offlineSince = undefined;
    client.options.reconnectPeriod = jitteredMs();
    if (listen) client.subscribe(listen.filter, { qos: 0 });
    for (const { topic, payload } of greeting) send(topic, payload, true);
    onState?.('connected', `${host}:${port}`);
  });
  client.on('close', () => {
    if (offlineSince === undefined) onState?.('lost', lastError);
    offlineSince ??= performance.now();
  });
  client.on('message', (topic, payload) => {
    const answer = listen?.answer(topic, payload);
    if (answer !== undefined) send(topic, answer, false);
  });
  client.on('error', (error) => { lastError = error.message; });
  return {
    publish(topic, payload, { retain }) {
      if (waiting >= UNACKNOWLEDGED_MAX) return false;
      send(topic, payload, retain);
      return true;
    },
    acknowledged: () => acknowledged,
    offlineMs: () => (offlineSince === undefined ? 0 : performance.now() - offlineSince),
    ready: (signal) => new Promise((resolve) => {
      client.once('connect', () => resolve(true));
      signal.addEventListener('abort', () => resolve(false), { once: true });
      if (signal.aborted) resolve(false);
    }),
    async [Symbol.asyncDispose]() {
      // An orderly DISCONNECT discards the will, so the device says itself that it goes.
      if (client.connected) await within(CLOSE_TIMEOUT_MS, client.publishAsync(will.topic, will.payload, { qos: 1, retain: true }));
      await within(CLOSE_TIMEOUT_MS, client.endAsync(!client.connected));
    },
  };
}

/** Waits for a courtesy, but not for ever, and not for its success. */
async function within(timeoutMs: number, courtesy: Promise<unknown>): Promise<void> {
  const done = new AbortController();
  await Promise.race([courtesy.catch(() => undefined), sleep(timeoutMs, undefined, { signal: done.signal }).catch(() => undefined)]);
  done.abort();
}

const jitteredMs = (): number => Math.round(RECONNECT_MS[0] + Math.random() * (RECONNECT_MS[1] - RECONNECT_MS[0]));
