/**
 * One twin of this gateway: keeps its state on disk and carries out what the machine of `twin.ts` decides.
 * INVARIANTS: one input at a time, in order · a new state is an entry and on disk before its effects begin · what a kill interrupts is done again at the next start.
 */
import type { Json } from '#runtime/core/json.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Counters, KeyValueStore, Log } from '#runtime/core/ports.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import type { Desired, Reported } from '#runtime/core/twin.ts';
import { CONFIG_BODY, KIND, type Cbor, type Draft } from '#runtime/core/types.ts';
import { durableOf, firstState, step, type Effect, type Input, type TwinMachine } from './twin.ts';
import { decodeTwinState, encodeTwinState } from './twinState.ts';

/** What a twin stands for on this gateway. */
export interface TwinPort {
  /** What is in force in this run; `expected` itself where that says the same. */
  inForce(expected: Json): Json;
  /** Why the value may not come into force here; undefined: it may. */
  faultOf(value: Json): string | undefined;
  /** Puts the value of that version into force, as a whole and durably, or with `isUndo` the one before it; may come twice. `restarting`: it will be, in the next run. Rejects where nothing was changed. */
  apply(value: Json, trial: { readonly version: number; readonly isUndo: boolean }): Promise<'applied' | 'restarting'>;
  /** At a start: why what was on trial is not in force any more; undefined: it is, or is still to be applied. */
  withdrawn(trial: Desired, isApplied: boolean): string | undefined;
  /** No trial is under way: what was kept for the way back may go. */
  settled(): void;
}

/** Who caused an input, for the chain. */
export interface Evidence {
  readonly message: Uint8Array;
  readonly operator?: string;
  readonly kid?: string;
}

export interface TwinKeeperOptions {
  readonly name: string;
  readonly port: TwinPort;
  readonly store: KeyValueStore;
  readonly ledger: { append(draft: Draft): Promise<number> };
  /** There is another report. MUST NOT throw. */
  readonly onReport: () => void;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
}

/** Messages that were verified and wait; what does not fit comes again with the next connection. */
const INBOX_MAX = 32;

interface Item {
  readonly input: Input;
  readonly evidence?: Evidence;
}

export class TwinKeeper {
  readonly #options: TwinKeeperOptions;
  readonly #key: string;
  readonly #inbox: Item[] = [];
  #machine: TwinMachine;
  #isStored: boolean;
  #wake = Promise.withResolvers<void>();

  constructor(options: TwinKeeperOptions) {
    this.#options = options;
    this.#key = `twin\u0001${options.name}`;
    const stored = this.#stored();
    this.#isStored = stored !== undefined;
    this.#machine = stored ?? firstState(options.port.inForce({}));
  }

  get report(): Reported { return this.#machine.report; }
  /** Of versions that were taken up, also of one that waits. */
  get newestVersion(): number { return Math.max(this.#machine.report.version, this.#machine.waiting?.version ?? 0); }
  /** In force and not confirmed, and since which report. */
  get probation(): { readonly trial: Desired; readonly sinceRevision: number } | undefined {
    const { phase, trial, probationRevision } = this.#machine;
    return phase === 'probation' && trial ? { trial, sinceRevision: probationRevision } : undefined;
  }

  /** What was verified. Never throws. */
  feed(input: Input, evidence: Evidence): void {
    if (this.#inbox.length >= INBOX_MAX) return this.#options.counters.add('twin.overflow');
    this.#inbox.push({ input, evidence });
    this.#wake.resolve();
  }

  /** Until `signal` aborts. */
  async follow(signal: AbortSignal): Promise<void> {
    const stop = (): void => { this.#wake.resolve(); };
    signal.addEventListener('abort', stop, { once: true });
    this.#begin();
    while (!signal.aborted) {
      const [item] = this.#inbox;
      if (item && await this.#isTaken(item)) this.#inbox.shift();
      else if (!signal.aborted) await this.#pause(item ? LIMITS.twinRevertRetryMs * 1_000 : this.#dueInMicros());
    }
  }

  /** What the kill or stop before left open comes first. */
  #begin(): void {
    const { port, clock } = this.#options;
    const { phase, trial } = this.#machine;
    const reason = trial && phase !== 'reverting' ? port.withdrawn(trial, phase === 'probation') : undefined;
    this.#inbox.unshift(...(reason === undefined ? [] : [{ input: { kind: 'withdrawn', reason } as const }]), { input: { kind: 'started', nowMicros: clock.monoMicros() } }, { input: { kind: 'found', value: port.inForce(this.#machine.value) } });
    if (phase === 'settled') port.settled();
  }

  #dueInMicros(): number { return (this.#machine.dueMicros ?? Infinity) - this.#options.clock.monoMicros(); }

  async #pause(micros: number): Promise<void> {
    this.#wake = Promise.withResolvers();
    const waitMs = Math.min(LIMITS.twinRevertRetryMs, Math.max(1, Math.ceil(micros / 1_000)));
    const timer = setTimeout(() => { this.#wake.resolve(); }, waitMs);
    await this.#wake.promise;
    clearTimeout(timer);
    const nowMicros = this.#options.clock.monoMicros();
    if (this.#inbox.length === 0 && nowMicros >= (this.#machine.dueMicros ?? Infinity)) this.#inbox.push({ input: { kind: 'tick', nowMicros } });
  }

  /** False where disk or ledger do not take it now: it is tried again. */
  async #isTaken({ input, evidence }: Item): Promise<boolean> {
    const before = this.#machine;
    const { state, effects } = step(before, input);
    try {
      await this.#keep(before, state, input, evidence);
    } catch (error) {
      this.#options.log.warn({ twin: this.#options.name, error: messageOf(error) }, 'a twin waits for disk or ledger');
      return false;
    }
    this.#machine = state;
    const follows: Item[] = [];
    if (before.phase !== 'settled' && state.phase === 'settled') {
      this.#options.port.settled();
      follows.push({ input: { kind: 'found', value: this.#options.port.inForce(state.value) } });
    }
    for (const effect of effects) follows.push(...await this.#perform(effect));
    this.#inbox.splice(1, 0, ...follows);
    return true;
  }

  /** Entries first: the chain may tell a thing twice after a kill, and never misses one. */
  async #keep(before: TwinMachine, state: TwinMachine, input: Input, evidence: Evidence | undefined): Promise<void> {
    const bytes = encodeTwinState(durableOf(state));
    if (this.#isStored && bytes.equals(encodeTwinState(durableOf(before)))) return;
    const { name, store, counters, log } = this.#options;
    if (input.kind === 'desired') await this.#record('desired', input.desired.version, undefined, evidence);
    const { revision, version, state: change, reason } = state.report;
    if (revision > before.report.revision) {
      await this.#record(change, version, reason, input.kind === 'confirmed' ? evidence : undefined);
      counters.add(`twin.${change}`);
      log.info({ twin: name, version, state: change, ...(reason === undefined ? {} : { reason }) }, `twin ${name}: ${change}`);
    }
    store.put(this.#key, bytes);
    await store.flushed();
    this.#isStored = true; // from now on no revision stands for two reports
  }

  async #record(change: string, version: number, reason: string | undefined, evidence: Evidence | undefined): Promise<void> {
    const { name, ledger, clock } = this.#options;
    const body = new Map<number, Cbor>([[CONFIG_BODY.twin, name], [CONFIG_BODY.change, change], [CONFIG_BODY.version, version]]);
    if (reason !== undefined) body.set(CONFIG_BODY.reason, reason);
    if (evidence?.operator !== undefined) body.set(CONFIG_BODY.operator, evidence.operator);
    if (evidence?.kid !== undefined) body.set(CONFIG_BODY.kid, evidence.kid);
    if (evidence) body.set(CONFIG_BODY.message, evidence.message);
    await ledger.append({ kind: KIND.config, source: MAIN_ENTITY, wallMicros: clock.wallMicros(), monoMicros: clock.monoMicros(), body });
  }

  /** Returns what is to be taken next. */
  async #perform(effect: Effect): Promise<readonly Item[]> {
    const { port, onReport, counters, clock } = this.#options;
    if (effect.kind === 'report') {
      onReport();
      return [];
    }
    const { value, version, undo } = effect;
    try {
      if (await port.apply(value, { version, isUndo: undo }) === 'restarting') return [];
      return [{ input: { kind: 'applied', version, undo, nowMicros: clock.monoMicros() } }];
    } catch (error) {
      counters.add(undo ? 'twin.undo_failed' : 'twin.apply_failed');
      return [{ input: { kind: 'applied', version, undo, nowMicros: clock.monoMicros(), fault: messageOf(error) } }];
    }
  }

  /** Undefined where there is none, or it is damaged: then the fleet is asked for its newest version again. */
  #stored(): TwinMachine | undefined {
    const [held] = [...this.#options.store.range(this.#key)].filter(({ key }) => key === this.#key);
    if (!held) return undefined;
    try {
      return decodeTwinState(held.value);
    } catch (error) {
      this.#options.counters.add('twin.state');
      this.#options.log.error({ twin: this.#options.name }, messageOf(error));
      return undefined;
    }
  }
}

