/**
 * The controller's desk: takes commands that their operators signed elsewhere, holds each one retained at the broker until the gateway has ended it, and keeps
 * what became of it. It has no key: what it cannot do, whoever steals it cannot do either.
 * INVARIANTS: a command is on disk before it is published · an outcome is on disk before anybody is told and before the topic is cleared · states only rise.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '#runtime/core/clock.ts';
import { mayCommand, type CommandClaims, type Operator } from '#runtime/core/command.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { isJsonObject, type JsonObject } from '#runtime/core/json.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Counters, FleetLink, LinkUser, Log } from '#runtime/core/ports.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { FLEET_NAME } from '#runtime/core/twin.ts';
import type { ActBook } from './acts.ts';
import { isFinal, isOver, keyOf, mayFollow, readSaying, toldState, type CommandName, type DeskRecord, type DeskState } from './deskRecord.ts';
import type { DeskStore } from './deskStore.ts';
import type { RefusalBook } from './refusals.ts';
import { submissionActs } from './submissions.ts';

/** The form of signed commands, seen from here. */
export interface CommandForm {
  /** Throws `command.*` and `jws.malformed`. */
  read(message: JsonObject): { readonly claims: CommandClaims; readonly kid: string; isSignedBy(publicKey: Uint8Array): boolean };
}

export interface DeskOptions {
  readonly store: DeskStore;
  readonly form: CommandForm;
  /** Whose commands the fleet's gateways obey. */
  readonly operators: () => readonly Operator[];
  readonly acts: ActBook;
  readonly refused?: RefusalBook;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
}

/** A signed command, and the gateway that it is for. */
export interface Order {
  readonly gateway: string;
  readonly message: JsonObject;
}

const MICROS = 1_000_000;
/** Answers that are on their way when the validity ends. */
const GRACE_SECONDS = 35;
const PUBLISHING_AT_ONCE = 32;
const LOOK_MS = 1_000;
/** In place of a command that shall not be obeyed any more: no gateway begins what is not `init`, and one that knows it says how it really stands. */
const WITHDRAWN = Buffer.from('{"status":"withdrawn"}');
const TOPIC = /^te\/([A-Za-z0-9_-]{1,64})\/device\/main\/\/\/cmd\/([A-Za-z0-9_-]{1,64})\/([A-Za-z0-9_-]{1,64})$/;

export const commandTopic = ({ gateway, type, id }: CommandName): string => `te/${gateway}/${MAIN_ENTITY}/cmd/${type}/${id}`;

export class Desk implements LinkUser {
  readonly filters = [`te/+/${MAIN_ENTITY}/cmd/+/+`];
  readonly #options: DeskOptions;
  readonly #store: DeskStore;
  readonly #listeners = new Set<(record: DeskRecord) => void>();
  /** What shall be on the broker next, by command. */
  readonly #outbox = new Map<string, CommandName>();
  /** By open command: since when, by the monotonic clock, it waits for its gateway's next word, and how long before it is published again. */
  readonly #waiting = new Map<string, { readonly sinceMicros: number; readonly waitMs: number }>();
  #link: FleetLink | undefined;
  #publishing = 0;

  constructor(options: DeskOptions) {
    this.#options = options;
    this.#store = options.store;
  }

  get(name: CommandName): DeskRecord | undefined { return this.#store.get(keyOf(name)); }
  all(): Iterable<DeskRecord> { return this.#store.all(); }
  /** What the gateway said beside state and reason; empty before it said anything. */
  said(name: CommandName): JsonObject { return this.#store.said(keyOf(name)); }
  operatorOf(kid: string): Operator | undefined { return this.#options.operators().find((operator) => operator.kid === kid); }
  get isLinked(): boolean { return this.#link?.isReady ?? false; }

  /** Told after every change that is on disk. MUST NOT throw. */
  listen(listener: (record: DeskRecord) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => { this.#listeners.delete(listener); } };
  }

  /**
   * All or none; resolves when they are on disk. A command that it has already, it has. Throws `command.*`, `jws.malformed` for what no gateway of the fleet
   * would obey, `controller.request` where another command has the id, and `controller.full`.
   */
  async submit(orders: readonly Order[]): Promise<readonly DeskRecord[]> {
    if (orders.length > LIMITS.deskSubmitMax) throw new TenzroError('controller.request', `${orders.length} commands at once, more than ${LIMITS.deskSubmitMax}`);
    const checked = new Map(orders.map((order) => { const record = this.#checked(order); return [keyOf(record), { record, message: order.message }]; }));
    if (checked.size < orders.length) throw new TenzroError('controller.request', 'one command twice');
    const fresh = [...checked.values()].filter(({ record, message }) => !this.#isKnown(record, message));
    if (this.#store.openCount + fresh.length > LIMITS.deskOpenMax) throw new TenzroError('controller.full', `${this.#store.openCount} commands have not ended`);
    for (const act of submissionActs(fresh.map(({ record }) => record))) this.#options.acts.note(act);
    for (const { record, message } of fresh) this.#store.add(record, message);
    await this.#store.flushed();
    for (const { record } of fresh) this.#say(record);
    return [...checked].map(([key, { record }]) => this.#store.get(key) ?? record);
  }

  /** Throws as `check`, and has it recorded. */
  #checked(order: Order): DeskRecord {
    try {
      return this.check(order);
    } catch (error) {
      if (error instanceof TenzroError) this.#options.refused?.add(order.gateway.slice(0, LIMITS.commandIdCharsMax), error);
      throw error;
    }
  }

  /** Looks at a command as its gateway will. Throws `command.*`, `jws.malformed`. */
  check({ gateway, message }: Order): DeskRecord {
    const { form, clock } = this.#options;
    if (Buffer.byteLength(JSON.stringify(message)) > LIMITS.commandBytesMax) throw new TenzroError('command.malformed', `command: more than ${LIMITS.commandBytesMax} bytes`);
    const signed = form.read(message);
    const { claims, kid } = signed;
    const { type, id, issued, ttlSeconds, notBefore } = claims;
    if (!FLEET_NAME.test(gateway) || claims.gateway !== gateway || claims.target !== MAIN_ENTITY) throw new TenzroError('command.target', `signed for ${claims.target.slice(0, 64)} of ${claims.gateway.slice(0, 64)}, handed in for ${gateway.slice(0, 64)}`);
    if (message['status'] !== 'init') throw new TenzroError('command.malformed', 'command: its status is not init');
    const operator = this.operatorOf(kid);
    if (!operator) throw new TenzroError('command.operator', `nobody in this fleet has key ${kid.slice(0, 43)}`);
    if (!signed.isSignedBy(operator.publicKey)) throw new TenzroError('command.signature', `not by the key of ${operator.name}`);
    if (!mayCommand(operator, type)) throw new TenzroError('command.forbidden', `${operator.name} may not ${type}`);
    const nowMicros = clock.wallMicros();
    if ((issued + ttlSeconds) * MICROS <= nowMicros) throw new TenzroError('command.expired', `${type}/${id} for ${gateway}: its validity is over`);
    if (notBefore !== undefined && notBefore >= issued + ttlSeconds) throw new TenzroError('command.malformed', 'command: not_before is after the end of its validity');
    const endsMicros = Math.min(Number.MAX_SAFE_INTEGER, Math.max(issued * MICROS, nowMicros) + (ttlSeconds + GRACE_SECONDS) * MICROS); // of the year 9999, too, what is stored can be read again
    return { gateway, type, id, kid, endsMicros, submittedMicros: nowMicros, changedMicros: nowMicros, state: 'queued', reason: '' };
  }

  #isKnown(record: DeskRecord, message: JsonObject): boolean {
    const key = keyOf(record);
    if (!this.#store.get(key)) return false;
    if (!this.#store.holds(key, message)) throw new TenzroError('controller.request', `another command is ${key} already: ids serve once`);
    return true;
  }

  /** Takes it off the broker. A gateway that has it goes on with it, and its outcome is still taken: only a signed `cancel` stops it there. */
  async withdraw(name: CommandName): Promise<void> {
    const record = this.get(name);
    if (record && !isOver(record.state)) await this.#advance(record, 'withdrawn', 'taken back');
  }

  connected(link: FleetLink): void {
    this.#link = link;
    this.#waiting.clear();
    for (const record of this.#store.open()) this.#say(record);
    this.#pump();
  }

  receive(topic: string, payload: Uint8Array): void {
    const [, gateway = '', type = '', id = ''] = TOPIC.exec(topic) ?? [];
    const record = this.#store.get(keyOf({ gateway, type, id }));
    if (!record || payload.length === 0) return;
    try {
      this.#hear(record, payload);
    } catch (error) {
      this.#options.counters.add('desk.implausible');
      this.#options.log.warn({ gateway, type, id, error: messageOf(error) }, 'what was said of a command is not believed');
      this.#correct(record);
    }
  }

  #hear(record: DeskRecord, payload: Uint8Array): void {
    const { status, reason, said } = readSaying(payload, this.#store.message(keyOf(record)));
    const told = toldState(status);
    if (!told) return status === (isOver(record.state) ? 'withdrawn' : 'init') && !isFinal(record.state) ? undefined : this.#correct(record);
    if (isFinal(record.state)) {
      if (isFinal(told) && told !== record.state) this.#options.counters.add('desk.contradicted');
      return this.#correct(record);
    }
    if (told === record.state) return; // asked again
    if (!mayFollow(record.state, told)) return this.#options.counters.add('desk.overtaken');
    if (!isFinal(told)) this.#wait(keyOf(record));
    this.#do(this.#advance(record, told, reason, said));
  }

  /** Puts on the topic what belongs there, where somebody else's word stands. An open command is left to the next connect: a broker that repeats itself gets no answer each time. */
  #correct(record: DeskRecord): void {
    if (isOver(record.state)) this.#say(record);
  }

  async #advance(record: DeskRecord, state: DeskState, reason = '', said?: JsonObject): Promise<void> {
    const next: DeskRecord = { ...record, state, reason: state === 'failed' && reason === '' ? 'failed without a reason' : reason, changedMicros: this.#options.clock.wallMicros() };
    const forgotten = this.#store.change(next, said);
    if (isOver(state)) this.#waiting.delete(keyOf(record));
    this.#options.counters.add(`desk.${state}`);
    await this.#store.flushed();
    if (isOver(state)) this.#say(next);
    for (const gone of forgotten) this.#say(gone);
    for (const listener of this.#listeners) listener(next);
  }

  /** What fails here is the disk, which tells its reason itself; a restart reads what it holds and hears the rest again. */
  #do(work: Promise<void>): void { work.catch((error: unknown) => { this.#options.log.error({ error: messageOf(error) }, 'the state of a command is not on disk'); }); }

  #say(name: CommandName): void {
    this.#outbox.set(keyOf(name), name);
    this.#pump();
  }

  /** While offline it waits for the next connect. */
  #pump(): void {
    while (this.#publishing < PUBLISHING_AT_ONCE && this.#link?.isReady) {
      const [next] = this.#outbox;
      if (!next) return;
      const [key, name] = next;
      this.#outbox.delete(key);
      this.#publishing++;
      this.#do(this.#publish(this.#link, key, name).finally(() => {
        this.#publishing--;
        this.#pump();
      }));
    }
  }

  async #publish(link: FleetLink, key: string, name: CommandName): Promise<void> {
    try {
      await link.publish(commandTopic(name), this.#wordsFor(key), { retain: true });
    } catch (error) {
      this.#options.log.debug({ key, error: messageOf(error) }, 'not published');
      this.#outbox.set(key, name);
      return;
    }
    const record = this.#store.get(key);
    if (record && !isOver(record.state)) this.#wait(key, this.#waiting.get(key)?.waitMs);
    if (record?.state === 'queued') await this.#advance(record, 'sent');
  }

  /** The command while it is open, nothing once its outcome is known. */
  #wordsFor(key: string): Buffer {
    const record = this.#store.get(key);
    if (!record || isFinal(record.state)) return Buffer.alloc(0);
    const message = isOver(record.state) ? undefined : this.#store.message(key);
    return message ? Buffer.from(JSON.stringify(message)) : WITHDRAWN;
  }

  #wait(key: string, waitMs: number = LIMITS.deskRepeatMs): void { this.#waiting.set(key, { sinceMicros: this.#options.clock.monoMicros(), waitMs }); }

  /** A gateway hears at QoS 0, and what it says may be lost as well: a command without a new word is published again, each time after twice the wait. One that knows it says how it stands. */
  #sayAgain(record: DeskRecord): void {
    const key = keyOf(record);
    const { sinceMicros, waitMs } = this.#waiting.get(key) ?? { sinceMicros: Infinity, waitMs: 0 };
    if (this.#options.clock.monoMicros() - sinceMicros < waitMs * 1_000) return;
    this.#wait(key, Math.min(2 * waitMs, LIMITS.deskRepeatMaxMs));
    this.#say(record);
  }

  /** Ends what nobody answered. Returns when `signal` aborts. */
  async follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const nowMicros = this.#options.clock.wallMicros();
      for (const record of this.#store.open()) {
        if (record.endsMicros <= nowMicros) this.#do(this.#advance(record, 'silent', 'no answer within its validity'));
        else this.#sayAgain(record);
      }
      this.#pump();
      await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined); // aborted: the loop ends
    }
  }
}

/** What the API was handed. Throws `controller.request`. */
export function ordersIn(value: unknown): readonly Order[] {
  if (!Array.isArray(value) || value.length === 0) throw new TenzroError('controller.request', 'commands is not a list of {gateway, message}');
  return (value as readonly unknown[]).map((order) => {
    const { gateway, message } = isJsonObject(order) ? order : {};
    if (typeof gateway !== 'string' || !isJsonObject(message)) throw new TenzroError('controller.request', 'a command is {gateway, message}');
    return { gateway, message };
  });
}
