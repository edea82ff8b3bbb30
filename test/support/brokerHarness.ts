/** A broker of ours on a free port, over a real LMDB in a temporary directory, with an intake that tests can hold back. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gatewayDoor } from '#runtime/broker/admission.ts';
import { openBroker, type Broker } from '#runtime/broker/broker.ts';
import { systemClock } from '#runtime/core/clock.ts';
import type { Counters, InboundMessage, Intake, KeyValueStore, Log } from '#runtime/core/ports.ts';
import type { MqttSettings } from '#runtime/core/settings.ts';
import { openKeyValueStore } from '#runtime/ledger/kv.ts';

class CountingCounters implements Counters {
  readonly values: Record<string, number> = {};
  add(name: string, by = 1): void { this.values[name] = (this.values[name] ?? 0) + by; }
  set(name: string, value: number): void { this.values[name] = value; }
  snapshot(): Record<string, number> { return { ...this.values }; }
  of(name: string): number { return this.values[name] ?? 0; }
}

const silentLog: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {}, child: () => silentLog };

/** Accepts at once, or, while held, when told to. */
class HeldIntake implements Intake {
  readonly accepted: InboundMessage[] = [];
  held = false;
  refusal: Error | undefined;
  #waiting: ((error?: Error) => void)[] = [];
  #watchers: (() => void)[] = [];

  accept(message: InboundMessage, done: (error?: Error) => void): void {
    this.accepted.push({
      clientId: message.clientId, topic: message.topic, payload: Buffer.from(message.payload), qos: message.qos,
      retain: message.retain, duplicate: message.duplicate, packetId: message.packetId,
    });
    if (this.held) this.#waiting.push(done);
    else if (this.refusal === undefined) done();
    else done(this.refusal);
    for (const wake of this.#watchers.splice(0)) wake();
  }

  release(): void {
    this.held = false;
    for (const done of this.#waiting.splice(0)) done();
  }

  topics(): string[] { return this.accepted.map(({ topic }) => topic); }

  /** Resolves when at least `count` messages were offered. */
  async offered(count: number): Promise<void> {
    while (this.accepted.length < count) await new Promise<void>((resolve) => { this.#watchers.push(resolve); });
  }
}

export interface TestBroker extends AsyncDisposable {
  readonly broker: Broker;
  readonly port: number;
  readonly intake: HeldIntake;
  readonly counters: CountingCounters;
  /** Names of the store's keys that were written, in order. */
  readonly written: readonly string[];
}

export interface TestBrokerOptions {
  readonly settings?: Partial<MqttSettings>;
  /** A directory that outlives the broker; without it a fresh one that does not. */
  readonly dir?: string;
  readonly connectTimeoutMs?: number;
}

export async function openTestBroker({ settings, dir, ...rest }: TestBrokerOptions = {}): Promise<TestBroker> {
  await using opening = new AsyncDisposableStack();
  const home = dir ?? opening.adopt(await temporaryDirectory(), (temporary) => rm(temporary, { recursive: true, force: true }));
  const written: string[] = [];
  const store = opening.use(watched(await openKeyValueStore(home), written));
  const intake = new HeldIntake();
  const counters = new CountingCounters();
  const broker = opening.use(await openBroker({
    ...gatewayDoor({ port: 0, listeners: [], users: [], ...settings }, systemClock), intake, store, log: silentLog, counters, clock: systemClock, ...rest,
  }));
  const opened = opening.move();
  return { broker, port: broker.listeners()[0]?.port ?? 0, intake, counters, written, [Symbol.asyncDispose]: () => opened.disposeAsync() };
}

export const temporaryDirectory = (): Promise<string> => mkdtemp(path.join(tmpdir(), 'tenzro-broker-'));

function watched(store: KeyValueStore, written: string[]): KeyValueStore {
  return {
    put: (key, value) => { written.push(key); store.put(key, value); },
    remove: (key) => store.remove(key),
    range: (prefix) => store.range(prefix),
    flushed: () => store.flushed(),
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}
