/**
 * Commands, from a signed message to its result. A message that is judged good becomes an entry first; what executes it follows the ledger: at a start from a
 * durable cursor on, while it runs by what it wrote itself, since nobody else writes these kinds. Each state is an entry before anything follows from it.
 * INVARIANTS: a side effect begins after `executing` is flushed, and only in the run that flushed it; whatever was under way in an earlier run never runs again.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '#runtime/core/clock.ts';
import { isCommandType, isDisturbing, mayCommand, type CommandClaims, type CommandHandler, type CommandType, type Operator } from '#runtime/core/command.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Counters, Follower, KeyValueStore, LedgerReader, Log } from '#runtime/core/ports.ts';
import type { MaintenanceWindow } from '#runtime/core/settings.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { KIND, RESULT_BODY, type Cbor, type Draft } from '#runtime/core/types.ts';
import { decodeEntry, peek } from '#runtime/ledger/entry.ts';
import { Answers, placeOf, type CommandSource } from './answers.ts';
import { CommandBook, keyOf, type Known } from './book.ts';
import { EarlyMessages } from './early.ts';
import { decodeCommandEntry, encodeCommand, encodeResult, type Outcome } from './entries.ts';
import { judge, type Accepted, type Place } from './judge.ts';
import { untilMaintenance } from './maintenance.ts';
import { claimsOf, parseMessage } from './message.ts';
import { step, type Effect, type OpenCommand } from './plan.ts';
import { keepTime, keptTime, ProvableTime } from './provableTime.ts';
import { Refusals } from './refusals.ts';

export interface CommanderOptions {
  readonly gateway: string;
  /** Asked whenever it matters: who is not there any more does not count any more. */
  readonly operators: () => readonly Operator[];
  /** Whether `operators` says all of them: who the owner is shows a moment after the start. Default: always. */
  readonly areOperatorsKnown?: () => boolean;
  /** When a controller gave the newest receipt, µs since 1970; 0: none yet. */
  readonly receiptMicros: () => number;
  readonly handlers: Partial<Readonly<Record<CommandType, CommandHandler>>>;
  /** When commands that disturb may begin; none: at any time. */
  readonly maintenance: readonly MaintenanceWindow[];
  readonly ledger: {
    append(draft: Draft): Promise<number>;
    setCursor(name: string, index: number): void;
    /** Flushed entries. */
    readonly size: number;
    readonly bootEpoch: number;
  };
  readonly reader: LedgerReader & { entry(index: number): Uint8Array };
  readonly store: KeyValueStore;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
}

/** What `seek` looks for: the first bytes of entries of both kinds (entry-format.md). */
const NEEDLES = [KIND.command, KIND.result].map((kind) => Uint8Array.of(0xa7, 1, 1, 2, kind, 3));
const READ_ENTRIES = 256;
/** Entries of earlier runs that are looked at for the newest time. */
const TIME_ENTRIES = 64;
const MICROS_PER_SECOND = 1_000_000;
/** Pause before it is asked again who may command. */
const UNKNOWN_MICROS = 250_000;
/** What waits for the ledger longer than this may wait for the next start. */
const STOP_MS = 2_000;

interface Active extends OpenCommand {
  state: OpenCommand['state'];
  startedMicros?: number;
  readonly place: Place;
  readonly claims: CommandClaims;
  readonly kid: string;
  readonly operator: string;
  readonly commandIndex: number;
  readonly controller: AbortController;
  hasEnded: boolean;
}

export class Commander implements Follower {
  readonly name = 'commands';
  readonly #options: CommanderOptions;
  readonly #book: CommandBook;
  readonly #time: ProvableTime;
  readonly #refusals: Refusals;
  readonly #active = new Map<string, Active>();
  /** Commands whose first entry is under way. */
  readonly #entering = new Set<string>();
  readonly #answers: Answers;
  readonly #early = new EarlyMessages();
  readonly #work = new Set<Promise<void>>();
  #position = 0;
  #wake = Promise.withResolvers<void>();
  #isStopping = false;

  constructor(options: CommanderOptions) {
    this.#options = options;
    this.#book = new CommandBook(options.store);
    this.#answers = new Answers({ ...options, read: (index) => this.#read(index) });
    this.#refusals = new Refusals({ ...options, record: (body) => { this.#do(this.#append(KIND.result, body)); } });
    this.#position = this.#restore();
    this.#time = this.#restoredTime();
    for (const known of this.#book.open()) this.#activate(known);
  }

  processed(): number { return this.#position; }

  /** Somebody signed that time once: it is not before it, for good. `isNow`: just now, so that a clock that is ahead of it is not believed. */
  raiseTime(micros: number, isNow: boolean): void {
    if (isNow) this.#time.tell(micros);
    else this.#time.raise(micros);
    keepTime(this.#options.store, this.#time.kept);
  }

  /** Microseconds since 1970. `now`: the newest time that can be proved; `signed`: what has passed for sure, whatever the clock of this machine says; `ahead`: how far that clock is not believed. */
  get time(): { readonly now: number; readonly signed: number; readonly ahead: number } { return { now: this.#time.nowMicros(), signed: this.#time.signedMicros(), ahead: this.#time.kept.aheadMicros }; }

  /** Keys were taken away: what they commanded and has not ended fails, but for what cannot be stopped any more. */
  operatorsChanged(): void {
    for (const active of this.#active.values()) {
      if (this.#counts(active) || (active.state === 'executing' && this.#handlerOf(active.type).isUnstoppable)) continue;
      this.#do(this.#finish(active, failure(new TenzroError('command.operator', 'the key that signed it does not count here any more'))));
    }
  }

  /** Commands that have not ended. */
  open(): readonly { readonly type: string; readonly id: string; readonly state: string }[] {
    return Array.from(this.#active.values(), ({ place: { type, id }, state }) => ({ type, id, state }));
  }

  /** The source is gone, or lost its connection: what it retains is heard anew when it is back. */
  forget(source: CommandSource): void {
    this.#answers.forget(source);
    this.#early.forget(source);
  }

  /**
   * A message on a command's topic, also one of our own; the same command over several sources is one command. Cheap for what is known; copies what it keeps;
   * never throws.
   */
  receive(source: CommandSource, place: Place, payload: Uint8Array): void {
    const key = keyOf(place.type, place.id);
    const known = this.#book.get(key);
    if (payload.length === 0) this.#answers.clear(source, key);
    else if (this.#entering.has(key)) this.#answers.hold(source, key);
    else if (known) this.#answers.restate(source, known, payload);
    else if (this.#refusals.mayJudge) this.#consider(source, place, payload);
    else this.#options.counters.add('fleet.unjudged');
  }

  #consider(source: CommandSource, place: Place, payload: Uint8Array): void {
    try {
      const { status } = parseMessage(payload);
      if (status !== 'init') return this.#options.counters.add('fleet.ignored');
      this.#accept(place, Buffer.from(payload), this.#judge(place, payload));
      this.#answers.hold(source, keyOf(place.type, place.id));
    } catch (cause) {
      const error = cause instanceof TenzroError ? cause : new TenzroError('core.invariant', messageOf(cause), { cause });
      if ((error.code === 'command.operator' || error.code === 'command.no_operators') && !this.#areOperatorsKnown && this.#early.hold(source, place, payload)) return;
      if (this.#refusals.add(place, error, payload)) source.announce(place, { status: 'failed', reason: reasonOf(error) });
      this.#wake.resolve();
    }
  }

  #judge(place: Place, payload: Uint8Array): Accepted {
    const { gateway, operators, receiptMicros } = this.#options;
    const accepted = judge(payload, place, { gateway, operators: operators(), nowMicros: this.#time.nowMicros(), passedMicros: Math.max(this.#time.signedMicros(), receiptMicros()), horizonOf: (kid) => this.#book.horizonOf(kid) });
    const isCancel = accepted.claims.type === 'cancel';
    if (this.#active.size + this.#entering.size >= LIMITS.commandsOpenMax * (isCancel ? 2 : 1)) throw new TenzroError('command.busy', `${LIMITS.commandsOpenMax} commands have not ended`);
    return accepted;
  }

  #accept(place: Place, message: Buffer, { operator, expiresMicros }: Accepted): void {
    const key = keyOf(place.type, place.id);
    this.#answers.keep((other) => this.#book.get(other) !== undefined || this.#entering.has(other));
    this.#entering.add(key);
    const body = encodeCommand({ ...place, operator: operator.name, kid: operator.kid, message, expiresMicros });
    this.#do(this.#append(KIND.command, body).finally(() => this.#entering.delete(key)).then((known) => {
      if (!known) return;
      this.#options.counters.add('fleet.accepted');
      this.#options.log.info({ type: place.type, id: place.id, operator: operator.name }, 'command accepted');
      this.#activate(known);
      this.#wake.resolve();
    }));
  }

  #read(index: number): ReturnType<typeof decodeCommandEntry> {
    try {
      return decodeCommandEntry(decodeEntry(this.#options.reader.entry(index)));
    } catch (error) {
      this.#options.log.debug({ index, error: messageOf(error) }, 'the entry of a command is gone');
      return undefined;
    }
  }

  async follow(signal: AbortSignal): Promise<void> {
    signal.addEventListener('abort', () => this.#stop(), { once: true });
    if (signal.aborted) this.#stop();
    for (const { type, id, state } of this.#book.all()) if (state === 'successful') this.#handlerOf(type).settled?.({ id });
    while (!this.#isStopping) {
      this.#wake = Promise.withResolvers();
      if (this.#areOperatorsKnown) for (const { source, place, payload } of this.#early.take()) this.receive(source, place, payload);
      const { effects, nextMicros = Infinity } = step(this.#held(), this.#options.clock.monoMicros());
      for (const effect of effects) this.#perform(effect);
      if (effects.length > 0) continue;
      await this.#pause(Math.min(nextMicros, this.#refusals.due() ?? Infinity, this.#areOperatorsKnown ? Infinity : this.#options.clock.monoMicros() + UNKNOWN_MICROS));
    }
    await Promise.race([Promise.all(this.#work), sleep(STOP_MS, undefined, { ref: false })]);
  }

  get #areOperatorsKnown(): boolean { return this.#options.areOperatorsKnown?.() ?? true; }

  /** Commands with their time to begin: the later of their own and, where they disturb, of the next window, by the time that can be proved now. What the owner may have signed begins when that is known. */
  #held(): readonly OpenCommand[] {
    const { maintenance, clock } = this.#options;
    const opensMicros = clock.monoMicros() + untilMaintenance(maintenance, this.#time.nowMicros());
    const candidates = [...this.#active.values()].filter((active) => this.#areOperatorsKnown || active.state === 'executing' || this.#counts(active));
    return candidates.map((active) => (this.#isHeld(active.claims) ? { ...active, dueMicros: Math.max(active.dueMicros, opensMicros) } : active));
  }

  /** What this gateway does not do disturbs nobody, and is told so at once. */
  #isHeld(claims: CommandClaims): boolean { return isDisturbing(claims) && this.#handlerOf(claims.type).support.kind === 'value'; }

  #stop(): void {
    this.#isStopping = true;
    for (const { controller } of this.#active.values()) controller.abort();
    this.#wake.resolve();
  }

  async #pause(untilMicros: number): Promise<void> {
    const waitMs = Math.max(1, Math.min(LIMITS.commandCursorMs, Math.ceil((untilMicros - this.#options.clock.monoMicros()) / 1_000)));
    const timer = setTimeout(() => this.#wake.resolve(), waitMs);
    await this.#wake.promise;
    clearTimeout(timer);
    if (this.#work.size === 0 && this.#position < this.#options.ledger.size) this.#do(this.#moveCursor(this.#options.ledger.size));
  }

  /** Nobody else writes these kinds, and we were writing none at this size. */
  async #moveCursor(size: number): Promise<void> {
    await this.#book.flushed();
    this.#position = size;
    this.#options.ledger.setCursor(this.name, size);
  }

  #perform(effect: Effect): void {
    const active = this.#active.get(effect.key);
    if (!active) return;
    switch (effect.do) {
      case 'schedule': active.state = 'scheduled'; return this.#do(this.#say(active, { state: 'scheduled' }));
      case 'expire': return this.#do(this.#finish(active, failure(new TenzroError('command.timeout', `not done within ${active.claims.ttlSeconds} s`))));
      case 'resume':
        active.startedMicros = this.#options.clock.monoMicros();
        return this.#do(this.#resume(active));
      case 'start':
        active.state = 'executing';
        active.startedMicros = this.#options.clock.monoMicros();
        return this.#do(this.#execute(active));
    }
  }

  async #execute(active: Active): Promise<void> {
    const { claims, controller } = active;
    const handler = this.#handlerOf(claims.type);
    if (!this.#counts(active)) return this.#finish(active, failure(new TenzroError('command.operator', 'the key that signed it does not count here any more')));
    if (handler.support.kind === 'none') return this.#finish(active, failure(new TenzroError('command.unsupported', handler.support.reason)));
    await this.#say(active, { state: 'executing' });
    if (controller.signal.aborted) return;
    try {
      const result = JSON.stringify(await handler.run(claims, controller.signal));
      await this.#finish(active, { state: 'successful', result });
    } catch (cause) {
      if (!this.#isStopping) await this.#finish(active, failure(cause));
    }
  }

  #counts({ kid, claims }: Active): boolean { return this.#options.operators().some((operator) => operator.kid === kid && mayCommand(operator, claims.type)); }

  async #resume(active: Active): Promise<void> {
    try {
      const result = await this.#handlerOf(active.claims.type).resume?.(active.claims);
      if (result) await this.#finish(active, { state: 'successful', result: JSON.stringify(result) });
      else if (!this.#isStopping) await this.#finish(active, failure(new TenzroError('command.interrupted', 'the gateway stopped while it executed this')));
    } catch (cause) {
      if (!this.#isStopping) await this.#finish(active, failure(cause));
    }
  }

  #handlerOf(type: string): CommandHandler {
    if (type === 'cancel') return { support: { kind: 'value', value: true }, run: async (claims) => this.#cancel(claims) };
    const handler = isCommandType(type) ? this.#options.handlers[type] : undefined;
    return handler ?? { support: { kind: 'none', reason: `this gateway does not do ${type}` }, run: async () => ({}) };
  }

  async #cancel({ parameters }: CommandClaims): Promise<Readonly<Record<string, unknown>>> {
    const { type, id } = parameters;
    if (typeof type !== 'string' || typeof id !== 'string') throw new TenzroError('command.parameters', 'type and id of the command to cancel are missing');
    const other = this.#active.get(keyOf(type, id));
    if (!other) throw new TenzroError('command.parameters', `${keyOf(type, id)} is not under way`);
    if (other.state === 'executing' && this.#handlerOf(type).isUnstoppable) throw new TenzroError('command.parameters', `${keyOf(type, id)} cannot be stopped any more`);
    await this.#finish(other, failure(new TenzroError('command.cancelled', 'cancelled')));
    return { cancelled: keyOf(type, id) };
  }

  /** The first outcome counts. */
  async #finish(active: Active, outcome: Outcome): Promise<void> {
    if (active.hasEnded) return;
    active.hasEnded = true;
    active.controller.abort();
    this.#active.delete(active.key);
    this.#options.counters.add(`fleet.${outcome.state}`);
    this.#options.log.info({ type: active.type, id: active.place.id, state: outcome.state, ...(outcome.reason === undefined ? {} : { reason: outcome.reason }) }, 'command ended');
    this.#wake.resolve();
    await this.#say(active, outcome);
    if (outcome.state === 'successful') this.#handlerOf(active.type).settled?.(active.claims);
  }

  async #say({ place, kid, operator, commandIndex }: Active, outcome: Outcome): Promise<void> {
    const isTooLong = outcome.result !== undefined && Buffer.byteLength(outcome.result) > LIMITS.commandResultBytesMax;
    const said = isTooLong ? failure(new TenzroError('core.invariant', 'the result is longer than a result may be')) : outcome;
    const known = await this.#append(KIND.result, encodeResult(place, said, [[RESULT_BODY.command, commandIndex], [RESULT_BODY.operator, operator], [RESULT_BODY.kid, kid]]));
    if (known) this.#answers.announce(known);
  }

  /** Resolves when flushed, with what the command is then. */
  async #append(kind: typeof KIND.command | typeof KIND.result, body: Cbor): Promise<Known | undefined> {
    const { ledger, clock } = this.#options;
    const draft = { kind, source: MAIN_ENTITY, wallMicros: clock.wallMicros(), monoMicros: clock.monoMicros(), body };
    return this.#book.fold(await ledger.append(draft), { ...draft, bootEpoch: ledger.bootEpoch });
  }

  /** Work that is waited for at the end. What fails here is the ledger: it told its reason already, and the next start goes on from what it holds. */
  #do(work: Promise<unknown>): void {
    const done = work.then(() => undefined, (error: unknown) => this.#options.log.warn({ error: messageOf(error) }, 'a command waits for the next start'));
    this.#work.add(done);
    void done.finally(() => this.#work.delete(done));
  }

  /** Both times count from the signature, or from the arrival where the clock was behind it: `expires` says which it was. */
  #activate(known: Known): void {
    const command = this.#read(known.commandIndex);
    const nowMicros = this.#options.clock.monoMicros();
    const expiresMicros = nowMicros + known.expiresMicros - this.#time.nowMicros();
    const place = placeOf(known);
    const claims = command?.kind === 'command' && command.body.id === known.id ? this.#claimsIn(command.body.message) : undefined;
    const waitSeconds = claims?.notBefore === undefined ? -Infinity : claims.notBefore - claims.issued - claims.ttlSeconds;
    this.#active.set(known.key, {
      key: known.key, type: known.type, state: claims ? known.state : 'executing', order: known.commandIndex, dueMicros: expiresMicros + waitSeconds * MICROS_PER_SECOND, expiresMicros,
      place, claims: claims ?? goneClaims(place, known), kid: known.kid, operator: command?.kind === 'command' ? command.body.operator : '', commandIndex: known.commandIndex, controller: new AbortController(), hasEnded: false,
    });
  }

  /** Undefined for what another version took, and this one does not know. */
  #claimsIn(message: Uint8Array): CommandClaims | undefined {
    try {
      return claimsOf(parseMessage(message));
    } catch (error) {
      this.#options.log.warn({ error: messageOf(error) }, 'the chain holds a command that this version does not know');
      return undefined;
    }
  }

  /** Folds what the book does not know yet. Returns how far the chain was read. */
  #restore(): number {
    const { reader } = this.#options;
    const size = reader.size();
    let index = reader.seek(this.#book.isFound ? reader.cursor(this.name) : reader.oldest(), NEEDLES);
    while (index < size) {
      for (const { index: at, bytes } of reader.read(index, READ_ENTRIES)) {
        const { kind } = peek(bytes);
        if (kind === KIND.command || kind === KIND.result) this.#book.fold(at, decodeEntry(bytes));
        index = at + 1;
      }
      index = reader.seek(index, NEEDLES);
    }
    this.#book.begin();
    return size;
  }

  /** Of earlier runs and of signed times. */
  #restoredTime(): ProvableTime {
    const { reader, ledger, store, clock } = this.#options;
    let newest = 0;
    for (const { bytes } of reader.read(Math.max(0, reader.size() - TIME_ENTRIES), TIME_ENTRIES)) {
      const { bootEpoch, wallMicros } = decodeEntry(bytes);
      if (bootEpoch < ledger.bootEpoch) newest = wallMicros;
    }
    const kept = keptTime(store);
    let { signedMicros } = kept;
    for (const { type, state, issued } of this.#book.all()) if (type === 'sync_time' && state === 'successful') signedMicros = Math.max(signedMicros, issued * MICROS_PER_SECOND);
    return new ProvableTime(clock, newest, { ...kept, signedMicros });
  }
}

/** For a command whose entry is gone: it is taken for one that was interrupted. */
const goneClaims = ({ target, type, id }: Place, { issued }: Known): CommandClaims => ({ gateway: '', target, type, id, issued, ttlSeconds: 0, isDryRun: false, parameters: {} });

function failure(cause: unknown): Outcome {
  const error = cause instanceof TenzroError ? cause : new TenzroError('core.invariant', messageOf(cause), { cause });
  return { state: 'failed', code: error.code, reason: error.message };
}

const reasonOf = (error: TenzroError): string => `${error.code}: ${error.message}`;
