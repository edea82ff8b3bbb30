/** Gateways that are the real judge and executor of commands over a real connection, with a log in memory: many of them fit one process. What they do is counted. */
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock as clock } from '#runtime/core/clock.ts';
import type { CommandClaims, CommandHandler, Operator } from '#runtime/core/command.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { Counters, FleetLink, KeyValueStore, LinkUser, Log } from '#runtime/core/ports.ts';
import { Commander } from '#runtime/fleet/commander.ts';
import { CommandTopics } from '#runtime/fleet/topics.ts';
import { encodeEntry } from '#runtime/ledger/entry.ts';
import { Hub } from '#runtime/link/hub.ts';
import { openLink, type LinkOptions } from '#runtime/link/mqttLink.ts';

export const QUIET: Log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined, child: () => QUIET };
export const uncounted = (): Counters => ({ add: () => undefined, set: () => undefined, snapshot: () => ({}) });

export class MemoryMap implements KeyValueStore {
  readonly #map = new Map<string, Uint8Array>();
  put(key: string, value: Uint8Array): void { this.#map.set(key, value); }
  remove(key: string): void { this.#map.delete(key); }
  range(prefix: string): Iterable<{ key: string; value: Uint8Array }> { return [...this.#map].filter(([key]) => key.startsWith(prefix)).toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([key, value]) => ({ key, value })); }
  async flushed(): Promise<void> { await Promise.resolve(); }
  async [Symbol.asyncDispose](): Promise<void> { await Promise.resolve(); }
}

/** What a command does there: resolves, or throws why it failed. */
export type Habit = (command: CommandClaims, signal: AbortSignal) => Promise<Readonly<Record<string, unknown>>>;

/** `others` speak over its link too. */
export class LightGateway implements AsyncDisposable {
  readonly name: string;
  /** Ids of what was executed, each time. */
  readonly executed: string[] = [];
  readonly link: FleetLink;
  readonly #stop = new AbortController();
  readonly #working: Promise<void>;

  constructor(name: string, operators: readonly Operator[], broker: Pick<LinkOptions, 'url' | 'ca' | 'user' | 'password' | 'identity'>, habit: Habit = async () => ({ done: true }), others: readonly LinkUser[] = []) {
    this.name = name;
    const handler: CommandHandler = {
      support: { kind: 'value', value: true },
      run: async (command, signal) => {
        this.executed.push(command.id);
        return habit(command, signal);
      },
    };
    const commander = new Commander({ gateway: name, operators: () => operators, handlers: { diagnostics: handler, config_update: handler, log_upload: handler }, maintenance: [], ...memoryLedger(), receiptMicros: () => 0, store: new MemoryMap(), clock, counters: uncounted(), log: QUIET });
    const topic = `te/${name}/status`;
    this.link = openLink({ ...broker, clientId: `te-${name}`, hub: new Hub([overLink(commander, name, topic), ...others], QUIET), will: { topic, payload: DOWN } });
    this.#working = commander.follow(this.#stop.signal);
  }

  async connected(): Promise<this> {
    await this.link.ready(this.#stop.signal);
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#working;
    await this.link[Symbol.asyncDispose]();
  }
}

const [UP, DOWN] = ['{"status":"up"}', '{"status":"down"}'];

/** Work that takes its time. */
export const lasting = (ms: number): Habit => async () => {
  await sleep(ms);
  return {};
};

export const failing = (code: 'command.config', why: string): Habit => async () => { throw new TenzroError(code, why); };

function overLink(commander: Commander, name: string, status: string): LinkUser {
  const open: { link?: FleetLink } = {};
  const topics = new CommandTopics(name, (topic, payload) => { open.link?.publish(topic, Buffer.from(payload), { retain: true }).catch(() => undefined); });
  return {
    filters: [topics.filter], qos: 0,
    connected: (link) => {
      open.link = link;
      link.publish(status, Buffer.from(UP), { retain: true }).catch(() => undefined);
    },
    lost: () => { commander.forget(topics); },
    receive: (topic, payload) => {
      const place = topics.placeOf(topic);
      if (place) commander.receive(topics, place, payload);
    },
  };
}

function memoryLedger(): Pick<ConstructorParameters<typeof Commander>[0], 'ledger' | 'reader'> {
  const entries: Buffer[] = [];
  const entry = (index: number): Uint8Array => entries[index] ?? Buffer.alloc(0);
  return {
    ledger: { bootEpoch: 1, get size() { return entries.length; }, setCursor: () => undefined, append: async (draft) => entries.push(encodeEntry({ ...draft, bootEpoch: 1 })) - 1 },
    reader: {
      entry, size: () => entries.length, oldest: () => 0, cursor: () => 0, seek: (from) => from,
      * read(from, max) { for (let index = from; index < Math.min(from + max, entries.length); index++) yield { index, bytes: entry(index) }; },
    },
  };
}
