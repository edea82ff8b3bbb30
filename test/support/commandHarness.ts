/** A commander over a log in memory that a test can end at any write, and start again over what was flushed by then. */
import { setImmediate as turn } from 'node:timers/promises';
import { Commander } from '#runtime/fleet/commander.ts';
import type { Clock } from '#runtime/core/clock.ts';
import type { CommandClaims, CommandHandler, CommandType, Operator } from '#runtime/core/command.ts';
import type { Counters, KeyValueStore, LedgerReader, Log } from '#runtime/core/ports.ts';
import type { MaintenanceWindow } from '#runtime/core/settings.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import type { Draft, StoredEntry } from '#runtime/core/types.ts';
import { thumbprintOf } from '#runtime/crypto/jws.ts';
import { newSeed, signerOfSeed, type Signer } from '#runtime/crypto/mldsa.ts';
import type { CommandSource } from '#runtime/fleet/answers.ts';
import { decodeCommandEntry, type CommandEntry } from '#runtime/fleet/entries.ts';
import type { Place } from '#runtime/fleet/judge.ts';
import { signCommand, type CommandMessage } from '#runtime/fleet/message.ts';
import { decodeEntry, encodeEntry } from '#runtime/ledger/entry.ts';

export const GATEWAY = 'gw1';
export const SECOND = 1_000_000;

class HandClock implements Clock {
  wall = 1_800_000_000 * SECOND;
  mono = SECOND;
  wallMicros(): number { return this.wall; }
  monoMicros(): number { return this.mono; }
  pass(seconds: number): void {
    this.wall += seconds * SECOND;
    this.mono += seconds * SECOND;
  }
}

const SILENT: Log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined, child: () => SILENT };

export interface Party { readonly signer: Signer; readonly operator: Operator; readonly seed: Uint8Array }

export function newParty(name: string, may: readonly string[] = ['*']): Party {
  const seed = newSeed();
  const signer = signerOfSeed(seed);
  return { signer, seed, operator: { name, publicKey: signer.publicKey, kid: thumbprintOf(signer.publicKey), may } };
}

export const placeOf = ({ type, id }: Pick<CommandClaims, 'type' | 'id'>): Place => ({ target: MAIN_ENTITY, type, id });

/** Where a message says that it belongs. */
function placeNamedBy({ type, id }: CommandMessage): Place {
  if (typeof type !== 'string' || typeof id !== 'string') throw new TypeError('a message without type and id has no place of its own');
  return placeOf({ type, id });
}

/** What a broker retains, which outlives the process too. It delivers what the gateway says to the gateway itself as well. */
class CommandBroker {
  readonly retained = new Map<string, CommandMessage>();
  #source: CommandSource = { announce: () => undefined };

  connect(commander: Commander, isAlive: () => boolean = () => true): void {
    commander.forget(this.#source);
    this.#source = { announce: (place, message) => { if (isAlive()) this.publish(commander, message, place); } };
    for (const [key, message] of this.retained) {
      const [type = '', id = ''] = key.split('/');
      commander.receive(this.#source, placeOf({ type, id }), Buffer.from(JSON.stringify(message)));
    }
  }

  /** What is said of a failure; '' where nothing is. */
  reasonOf(key: string): string {
    const reason = this.retained.get(key)?.['reason'];
    return typeof reason === 'string' ? reason : '';
  }

  /** Retained first, then delivered. */
  publish(commander: Commander, message: CommandMessage, place: Place = placeNamedBy(message)): void {
    this.retained.set(`${place.type}/${place.id}`, message);
    commander.receive(this.#source, place, Buffer.from(JSON.stringify(message)));
  }

  clear(commander: Commander, key: string): void {
    const [type = '', id = ''] = key.split('/');
    this.retained.delete(key);
    commander.receive(this.#source, placeOf({ type, id }), Buffer.alloc(0));
  }
}

/** The world that outlives a process: log, map, clock, retained topics. */
export class CommandWorld {
  readonly clock = new HandClock();
  readonly owner = newParty('owner');
  readonly counts: Record<string, number> = {};
  /** When a controller gave the newest receipt. */
  receiptMicros = 0;
  readonly own = new CommandBroker();
  readonly fleet = new CommandBroker();
  readonly #entries: Buffer[] = [];
  readonly #map = new Map<string, Uint8Array>();
  #cursor = 0;
  #epoch = 0;
  handlers: Partial<Record<CommandType, CommandHandler>> = {};
  maintenance: readonly MaintenanceWindow[] = [];
  operators: readonly Operator[] = [this.owner.operator];
  areOperatorsKnown = true;
  /** The process dies before this many further appends are flushed. */
  appendsLeft = Number.POSITIVE_INFINITY;

  claims(over: Partial<CommandClaims> = {}): CommandClaims {
    return { gateway: GATEWAY, target: MAIN_ENTITY, type: 'diagnostics', id: '1', issued: Math.floor(this.clock.wall / SECOND), ttlSeconds: 60, isDryRun: false, parameters: {}, ...over };
  }

  sign(over: Partial<CommandClaims> = {}, { signer }: Party = this.owner): CommandMessage { return signCommand(signer, this.claims(over)); }

  entries(): readonly CommandEntry['body'][] {
    return this.#entries.flatMap((bytes) => { const decoded = decodeCommandEntry(decodeEntry(bytes)); return decoded ? [decoded.body] : []; });
  }

  /** States that entries say of a command, in order. */
  states(key: string): readonly string[] {
    return this.entries().flatMap((body) => (`${body.type}/${body.id}` === key ? ['state' in body ? body.state : 'command'] : []));
  }

  get retained(): Map<string, CommandMessage> { return this.own.retained; }

  reasonOf(key: string): string { return this.own.reasonOf(key); }

  /** A new process over what was flushed. What an earlier one still does reaches nothing. */
  start(): Commander {
    this.#epoch += 1;
    const epoch = this.#epoch;
    const isAlive = (): boolean => this.#epoch === epoch && this.appendsLeft >= 0;
    const counters: Counters = { add: (name, by = 1) => { this.counts[name] = (this.counts[name] ?? 0) + by; }, set: () => undefined, snapshot: () => this.counts };
    const commander = new Commander({
      gateway: GATEWAY, operators: () => this.operators, areOperatorsKnown: () => this.areOperatorsKnown, handlers: this.handlers, maintenance: this.maintenance, ledger: this.#ledger(isAlive), reader: this.#reader(), receiptMicros: () => this.receiptMicros, store: this.#store(isAlive), clock: this.clock, counters, log: SILENT,
    });
    for (const broker of [this.own, this.fleet]) broker.connect(commander, isAlive);
    return commander;
  }

  publish(commander: Commander, message: CommandMessage, place: Place = placeNamedBy(message)): void { this.own.publish(commander, message, place); }

  #ledger(isAlive: () => boolean): ConstructorParameters<typeof Commander>[0]['ledger'] {
    const entries = this.#entries;
    return {
      bootEpoch: this.#epoch,
      get size() { return entries.length; },
      setCursor: (_name, index) => { if (isAlive()) this.#cursor = index; },
      append: async (draft: Draft) => {
        await Promise.resolve();
        this.appendsLeft -= 1;
        if (!isAlive()) return new Promise<number>(() => undefined);
        return entries.push(encodeEntry({ ...draft, bootEpoch: this.#epoch })) - 1;
      },
    };
  }

  #reader(): LedgerReader & { entry(index: number): Uint8Array } {
    const entry = (index: number): Uint8Array => this.#entries[index] ?? Buffer.alloc(0);
    return {
      entry, size: () => this.#entries.length, oldest: () => 0, cursor: () => this.#cursor, seek: (from) => from,
      * read(from, max): Generator<StoredEntry> { for (let index = from; index < Math.min(from + max, this.size()); index++) yield { index, bytes: entry(index) }; },
    };
  }

  /** Written at once: a kill may lose it together with the entry it is about, never alone. */
  #store(isAlive: () => boolean): KeyValueStore {
    return {
      put: (key, value) => { if (isAlive()) this.#map.set(key, value); },
      remove: (key) => { if (isAlive()) this.#map.delete(key); },
      range: (prefix) => [...this.#map].filter(([key]) => key.startsWith(prefix)).map(([key, value]) => ({ key, value })),
      flushed: async () => undefined,
      [Symbol.asyncDispose]: async () => undefined,
    };
  }

  /** Forgets the map beside the log, as when it was set aside. */
  loseMap(): void { this.#map.clear(); }

  /** Spoils everything in the map beside the log. */
  damageMap(): void { for (const key of this.#map.keys()) this.#map.set(key, Buffer.from([0xff])); }
}

/** Until nothing moves any more that needs no time. */
export const moves = async (): Promise<void> => { for (let at = 0; at < 60; at++) await turn(); };

/** Runs the commander until nothing moves any more, then ends it; one whose writes hang ends by itself later. */
export async function settle(commander: Commander, act: () => void = () => undefined): Promise<void> {
  const stop = new AbortController();
  const following = commander.follow(stop.signal);
  act();
  await moves();
  stop.abort();
  await Promise.race([following, moves()]);
}
