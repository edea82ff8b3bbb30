/**
 * The roll-outs of a fleet: takes their plans with the messages that an owner signed for them, keeps them going over restarts, and tells how they stand.
 * INVARIANT: no time passes for a roll-out while the controller does not hear the gateways: an answer that waits at the broker is no silence.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { TenzroError } from '#runtime/core/errors.ts';
import { canonicalJson } from '#runtime/core/json.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { FleetLink, LinkUser } from '#runtime/core/ports.ts';
import type { ActBook } from './acts.ts';
import type { Order } from './desk.ts';
import type { RolloutEvent } from './rollout.ts';
import { longestSeconds, type RolloutPlan } from './rolloutPlan.ts';
import { neededCommands } from './rolloutNeeds.ts';
import { RolloutRun, type RunPorts } from './rolloutRun.ts';
import { beginRollout, cancelIdOf, type RolloutState } from './rolloutState.ts';

export interface RolloutsOptions extends Omit<RunPorts, 'isHearing'> {
  readonly acts: ActBook;
  /** Longest wait for retained messages after a connect. */
  readonly settleMs?: number;
}

interface Prepared {
  readonly state: RolloutState;
  /** Whose key signed for it. */
  kid: string;
  /** What is still to be signed, by id of the command or of its cancel. */
  readonly missing: Map<string, { readonly gateway: string; readonly isCancel: boolean; readonly commandId: string; readonly isUndo: boolean }>;
}

const LOOK_MS = 100;
const SETTLE_MS = 2_000;
const MICROS = 1_000_000;

export class Rollouts implements LinkUser {
  readonly filters = [];
  readonly #options: RolloutsOptions;
  readonly #ports: RunPorts;
  readonly #runs = new Map<string, RolloutRun>();
  readonly #prepared = new Map<string, Prepared>();
  readonly #damaged: string[] = [];
  readonly #watchers = new Set<(run: RolloutRun) => void>();
  #hearsFromMicros = Infinity;

  constructor(options: RolloutsOptions) {
    this.#options = options;
    this.#ports = { ...options, isHearing: () => options.desk.isLinked && options.clock.monoMicros() >= this.#hearsFromMicros };
    const { store, log } = options;
    store.sweep();
    for (const id of store.ids()) {
      try {
        const { state, events } = store.load(id);
        this.#runs.set(id, new RolloutRun(state, events, this.#ports));
      } catch (error) {
        if (!(error instanceof TenzroError)) throw error;
        this.#damaged.push(id);
        log.error({ rollout: id, code: error.code, hint: error.hint }, error.message);
      }
    }
  }

  /** A retained message is told after the connect: until the last of them is in, nobody is taken for silent. */
  connected(_link: FleetLink): void { this.#hearsFromMicros = this.#options.clock.monoMicros() + (this.#options.settleMs ?? SETTLE_MS) * 1_000; }
  receive(): void { /* it subscribes to nothing: desk and views tell it */ }

  get(id: string): RolloutRun {
    const run = this.#runs.get(id);
    if (!run) throw new TenzroError('controller.request', this.#damaged.includes(id) ? `what is stored of roll-out ${id} is damaged` : `there is no roll-out ${id}`);
    return run;
  }

  all(): readonly RolloutRun[] { return [...this.#runs.values()]; }

  /** Told a few times a second of what has changed. MUST NOT throw. */
  listen(listener: (run: RolloutRun) => void): Disposable {
    this.#watchers.add(listener);
    return { [Symbol.dispose]: () => { this.#watchers.delete(listener); } };
  }

  /** Begins nothing yet: the messages for it come next. Throws `controller.request`, `controller.full`, `fleet.file`. */
  prepare(plan: RolloutPlan, gateways: readonly string[]): { readonly missing: number; readonly longestSeconds: number } {
    if (this.#runs.has(plan.id) || this.#damaged.includes(plan.id)) throw new TenzroError('controller.request', `roll-out ${plan.id} was begun before: ids serve once`);
    if (this.#prepared.size >= LIMITS.rolloutsPreparedMax) this.#prepared.delete([...this.#prepared.keys()][0] ?? '');
    const state = beginRollout(plan, gateways, this.#options.clock.wallMicros());
    const missing: Prepared['missing'] = new Map();
    for (const { gateway, direction, commandId } of neededCommands(state)) {
      missing.set(commandId, { gateway, isCancel: false, commandId, isUndo: direction === 'undo' });
      missing.set(cancelIdOf(commandId), { gateway, isCancel: true, commandId, isUndo: direction === 'undo' });
    }
    this.#prepared.set(plan.id, { state, kid: '', missing });
    return { missing: missing.size, longestSeconds: longestSeconds(plan, state.gateways.length) };
  }

  /** Messages for a prepared roll-out: each is checked as its gateway will check it. Throws `command.*`, `jws.malformed`, `controller.request`. */
  async sign(id: string, orders: readonly Order[]): Promise<{ readonly missing: number }> {
    const prepared = this.#preparedAs(id);
    for (const order of orders) this.#take(id, prepared, order);
    await this.#options.store.flushed();
    return { missing: prepared.missing.size };
  }

  #take(id: string, prepared: Prepared, order: Order): void {
    const { state: { plan, gateways }, missing } = prepared;
    const { type, id: messageId, endsMicros, kid } = this.#options.desk.check(order);
    const wanted = missing.get(messageId);
    const command = wanted?.isUndo ? plan.rollback : plan.command;
    const [wantedType, parameters] = wanted?.isCancel ? ['cancel', { type: command?.type ?? '', id: wanted.commandId }] : [command?.type, command?.parameters ?? {}];
    const given = order.message['parameters'] ?? {};
    if (wanted?.gateway !== order.gateway || type !== wantedType || canonicalJson(given) !== canonicalJson(parameters)) throw new TenzroError('controller.request', `${order.gateway}: ${type}/${messageId} is none of the messages that roll-out ${id} still needs`);
    const lastsSeconds = endsMicros / MICROS - this.#options.clock.wallMicros() / MICROS;
    if (lastsSeconds < longestSeconds(plan, gateways.length)) throw new TenzroError('controller.request', `${order.gateway}: ${type}/${messageId} is not valid for as long as the roll-out may take`);
    prepared.kid = kid;
    missing.delete(messageId);
    this.#options.store.putMessage(id, messageId, order.message);
  }

  /** Throws `controller.request` while messages are missing. */
  async start(id: string): Promise<RolloutRun> {
    const { state, missing, kid } = this.#preparedAs(id);
    if (missing.size > 0) throw new TenzroError('controller.request', `${missing.size} messages for roll-out ${id} are not signed yet`);
    this.#prepared.delete(id);
    this.#forgetOld();
    const { store, acts } = this.#options;
    acts.note({ who: kid, what: 'rollout.started', about: id, detail: `${state.plan.command.type} to ${state.gateways.length} gateways of ${state.plan.group}` });
    store.snapshot(id, state, 0);
    await store.flushed();
    const run = new RolloutRun(state, 0, this.#ports);
    this.#runs.set(id, run);
    return run;
  }

  /** `by`: who asked, at the controller's own socket. Throws `controller.request` where it makes no sense now. */
  async order(id: string, event: Extract<RolloutEvent, { kind: 'pause' | 'resume' | 'abort' | 'rollBack' }>, by: string): Promise<RolloutRun> {
    const run = this.get(id);
    this.#options.acts.note({ who: `local:${by}`, what: `rollout.${event.kind}`, about: id, ...('why' in event ? { detail: event.why } : {}) });
    const refused = await run.order(event);
    if (refused !== undefined) throw new TenzroError('controller.request', `roll-out ${id}: ${refused}`);
    return run;
  }

  #preparedAs(id: string): Prepared {
    const prepared = this.#prepared.get(id);
    if (!prepared) throw new TenzroError('controller.request', `roll-out ${id} is not prepared: the controller was started again, or another one took its place`);
    return prepared;
  }

  #forgetOld(): void {
    const ended = this.all().filter(({ state }) => state.phase === 'ended').toSorted((a, b) => a.state.clockMicros - b.state.clockMicros);
    for (const run of ended.slice(0, Math.max(0, this.#runs.size + 1 - LIMITS.rolloutsMax))) {
      this.#runs.delete(run.id);
      this.#options.store.remove(run.id, run.events);
    }
    if (this.#runs.size >= LIMITS.rolloutsMax) throw new TenzroError('controller.full', `${this.#runs.size} roll-outs have not ended`);
  }

  /** Returns when `signal` aborts, and what was decided by then was carried out. */
  async follow(signal: AbortSignal): Promise<void> {
    const { desk, views } = this.#options;
    using listening = new DisposableStack();
    listening.use(desk.listen((record) => { for (const run of this.#runs.values()) run.onDesk(record); }));
    listening.use(views.listen(({ id }) => { for (const run of this.#runs.values()) if (run.state.phase !== 'ended') run.onView(id); }));
    while (!signal.aborted) {
      for (const run of this.#runs.values()) {
        run.look();
        if (run.isNews) for (const watcher of this.#watchers) watcher(run);
        run.isNews = false;
      }
      await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined); // aborted: the loop ends
    }
    for (const run of this.#runs.values()) await run.settled();
  }
}
