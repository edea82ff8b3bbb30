/** One roll-out under way: takes events in order, makes them durable, and carries out what follows from them through the desk. */
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { Clock } from '#runtime/core/clock.ts';
import type { Log } from '#runtime/core/ports.ts';
import type { Desk, Order } from './desk.ts';
import { isFinal, type CommandName, type DeskRecord } from './deskRecord.ts';
import { matches } from './query.ts';
import { dueMicros, step, type RolloutEffect, type RolloutEvent } from './rollout.ts';
import { cancelIdOf, commandIdOf, hasChanged, type Direction, type RolloutState } from './rolloutState.ts';
import type { RolloutStore } from './rolloutStore.ts';
import type { FleetViews } from './views.ts';

export interface RunPorts {
  readonly store: RolloutStore;
  readonly desk: Desk;
  readonly views: FleetViews;
  readonly clock: Clock;
  readonly log: Log;
  /** Whether the controller hears its gateways: while it does not, no time passes for a roll-out. */
  readonly isHearing: () => boolean;
}

/** Events until a new snapshot is worth its bytes. */
const EVENTS_PER_GATEWAY = 4;
const EVENTS_MIN = 256;
const SUBMITTED_AT_ONCE = 64;

export class RolloutRun {
  readonly #ports: RunPorts;
  #state: RolloutState;
  #events: number;
  /** Has it been fed `started` since this process began? Before that, nothing of what happened meanwhile is known. */
  #isStarted = false;
  #dueMicros: number | undefined;
  #effects: Promise<void> = Promise.resolve();
  /** Its commands so far. */
  readonly #commands = new Map<string, CommandName>();
  /** Something changed since somebody looked. */
  isNews = true;

  constructor(state: RolloutState, events: number, ports: RunPorts) {
    this.#state = state;
    this.#events = events;
    this.#ports = ports;
    const { gateways, records, plan } = state;
    for (const [at, gateway] of gateways.entries()) {
      const { attempt = 0, undoAttempt = 0 } = records[at] ?? {};
      for (let n = 1; n <= attempt; n++) this.#own(gateway, commandIdOf(plan.id, gateway, 'forward', n), 'forward');
      for (let n = 1; n <= undoAttempt; n++) this.#own(gateway, commandIdOf(plan.id, gateway, 'undo', n), 'undo');
    }
  }

  #own(gateway: string, id: string, direction: Direction): void {
    const { command, rollback } = this.#state.plan;
    this.#commands.set(id, { gateway, id, type: (direction === 'undo' ? rollback?.type : command.type) ?? '' });
  }

  get state(): RolloutState { return this.#state; }
  get id(): string { return this.#state.plan.id; }
  get events(): number { return this.#events; }

  /** What was handed in for an order of an operator, at the time that may pass. Returns why it was refused; resolves when it is on disk. */
  async order(event: RolloutEvent): Promise<string | undefined> {
    const effects = this.#feed(event, this.#nowMicros());
    await this.#ports.store.flushed();
    return effects.find((effect) => effect.kind === 'refused')?.why;
  }

  /** What became of a command, of this roll-out or of another. */
  onDesk(record: DeskRecord): void {
    if (this.#commands.get(record.id)?.gateway !== record.gateway) return;
    if (record.state === 'sent') this.#feed({ kind: 'accepted', gateway: record.gateway, commandId: record.id }, this.#nowMicros());
    if (isFinal(record.state)) this.#feed({ kind: 'result', gateway: record.gateway, commandId: record.id, isSuccess: record.state === 'successful', reason: record.reason }, this.#nowMicros());
  }

  /** A gateway reported something: what it says after its change is what counts. */
  onView(gateway: string): void { if (this.#isStarted) this.#lookAt(gateway); }

  /** Lets time pass, once the controller hears the gateways. */
  look(): void {
    if (!this.#ports.isHearing()) return;
    if (!this.#isStarted) return this.#start();
    const nowMicros = this.#ports.clock.wallMicros();
    this.#dueMicros ??= dueMicros(this.#state);
    if (this.#dueMicros > nowMicros) return;
    if (this.#state.phase === 'soaking') this.#lookAtAll();
    this.#feed({ kind: 'tick' }, nowMicros);
  }

  /** First what happened while nobody listened, in the time of then; only after that, time passes. */
  #start(): void {
    for (const name of this.#commands.values()) {
      const record = this.#ports.desk.get(name);
      if (record) this.onDesk(record);
    }
    this.#lookAtAll();
    this.#isStarted = true;
    this.#feed({ kind: 'started' }, this.#ports.clock.wallMicros());
  }

  /** What a gateway said last stands until it, or its last will, says otherwise. */
  #lookAtAll(): void { for (const gateway of this.#state.gateways) this.#lookAt(gateway); }

  #lookAt(gateway: string): void {
    const { plan: { healthy }, places, records, clockMicros } = this.#state;
    const record = records[places.get(gateway) ?? -1];
    const view = this.#ports.views.get(gateway);
    if (!healthy || !record || !view || !hasChanged(record)) return;
    const isHealthy = matches(healthy.query, view);
    if (record.health !== (isHealthy ? 'healthy' : 'unhealthy')) this.#feed({ kind: 'health', gateway, isHealthy }, clockMicros);
  }

  #nowMicros(): number { return this.#isStarted && this.#ports.isHearing() ? this.#ports.clock.wallMicros() : this.#state.clockMicros; }

  #feed(event: RolloutEvent, nowMicros: number): readonly RolloutEffect[] {
    const { state, effects } = step(this.#state, event, nowMicros);
    const { store, log } = this.#ports;
    store.append(this.id, this.#events++, { event, nowMicros });
    this.#state = state;
    this.#dueMicros = undefined;
    this.isNews = true;
    if (this.#events >= Math.max(EVENTS_MIN, EVENTS_PER_GATEWAY * state.gateways.length)) {
      store.snapshot(this.id, state, this.#events);
      this.#events = 0;
    }
    for (const effect of effects) if (effect.kind === 'issue') this.#own(effect.gateway, effect.commandId, effect.direction);
    if (effects.some(({ kind }) => kind === 'issue' || kind === 'cancel')) {
      this.#effects = this.#effects.then(() => this.#carryOut(effects)).catch((error: unknown) => { log.error({ rollout: this.id, error: messageOf(error) }, 'a roll-out waits for the next start'); });
    }
    return effects;
  }

  /** In the order in which they were decided, and never before they are on disk. */
  async #carryOut(effects: readonly RolloutEffect[]): Promise<void> {
    await this.#ports.store.flushed();
    for (const effect of effects) if (effect.kind === 'cancel') await this.#cancel(effect.commandId);
    const issues = effects.filter((effect) => effect.kind === 'issue');
    for (let at = 0; at < issues.length; at += SUBMITTED_AT_ONCE) {
      const some = issues.slice(at, at + SUBMITTED_AT_ONCE);
      await this.#submit(some).catch(async () => { for (const one of some) await this.#submit([one]).catch((error: unknown) => { this.#fail(one, error); }); });
    }
  }

  /** What is known already, after a restart, is not told by the desk again. */
  async #submit(issues: readonly { readonly gateway: string; readonly commandId: string }[]): Promise<void> {
    const orders = issues.map(({ gateway, commandId }): Order => {
      const message = this.#ports.store.message(this.id, commandId);
      if (!message) throw new TenzroError('controller.request', 'no message was signed for this attempt');
      return { gateway, message };
    });
    for (const record of await this.#ports.desk.submit(orders)) this.onDesk(record);
  }

  /** What cannot be sent ends as a gateway's own failure would, and counts as one. */
  #fail({ gateway, commandId }: { readonly gateway: string; readonly commandId: string }, cause: unknown): void {
    this.#feed({ kind: 'result', gateway, commandId, isSuccess: false, reason: cause instanceof TenzroError ? `${cause.code}: ${cause.message}` : messageOf(cause) }, this.#nowMicros());
  }

  async #cancel(commandId: string): Promise<void> {
    const { desk, store, log } = this.#ports;
    const name = this.#commands.get(commandId);
    const record = name && desk.get(name);
    if (!record || isFinal(record.state)) return;
    await desk.withdraw(record);
    const message = store.message(this.id, cancelIdOf(commandId));
    if (!message || record.state === 'queued') return;
    await desk.submit([{ gateway: record.gateway, message }]).catch((error: unknown) => { log.warn({ rollout: this.id, gateway: record.gateway, error: messageOf(error) }, 'no cancel is sent'); });
  }

  /** Resolves when all that was decided was carried out. */
  async settled(): Promise<void> { await this.#effects; }
}
