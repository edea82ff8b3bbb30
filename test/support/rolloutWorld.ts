/** A controller that dies at any point, a broker that repeats itself, and gateways that fail, fall silent, answer late and flap: what a roll-out must survive. */
import assert from 'node:assert/strict';
import { failuresBorne, type RolloutPlan } from '#runtime/controller/rolloutPlan.ts';
import { SILENT, step, type RolloutEffect, type RolloutEvent } from '#runtime/controller/rollout.ts';
import { encodeEvent, encodeRollout, replay } from '#runtime/controller/rolloutCodec.ts';
import { progressOf } from '#runtime/controller/rolloutReport.ts';
import { beginRollout, isInFlight, type RolloutState } from '#runtime/controller/rolloutState.ts';

const SECOND = 1_000_000;
/** How a gateway takes commands; drawn once per gateway. */
export const HABITS = ['sound', 'failing', 'silent', 'late', 'secondTry', 'flapping', 'sick'] as const;
export type Habit = (typeof HABITS)[number];

export interface Chances {
  /** Per mille: that the controller dies while it carries out the effects of one event. */
  readonly kill: number;
  /** That a cancel gets lost, a result comes twice. */
  readonly lose: number;
  readonly repeat: number;
}

interface Gateway {
  readonly habit: Habit;
  /** Commands that it has ended: what comes again under their ids is answered, not done. */
  readonly ended: Map<string, boolean>;
  readonly cancelled: Set<string>;
  /** What is in force there. */
  isNew: boolean;
}

export class RolloutWorld {
  readonly gateways: ReadonlyMap<string, Gateway>;
  /** Where undoing was tried. */
  readonly undone = new Set<string>();
  /** Where the change happened, at least once. */
  readonly changed = new Set<string>();
  restarts = 0;
  events = 0;
  state: RolloutState;
  nowMicros = SECOND;
  #snapshot: Uint8Array;
  #journal: Buffer[] = [];
  /** What is on its way to the controller. */
  readonly #agenda: { readonly at: number; readonly event: RolloutEvent }[] = [];
  readonly #commands = new Map<string, string>();
  readonly #ids = new Map<string, string>();
  readonly #random: (below: number) => number;
  readonly #chances: Chances;
  #isStopped = false;

  constructor(plan: RolloutPlan, habits: readonly Habit[], random: (below: number) => number, chances: Chances) {
    this.gateways = new Map(habits.map((habit, at) => [`gw-${at}`, { habit, ended: new Map<string, boolean>(), cancelled: new Set<string>(), isNew: false }]));
    this.state = beginRollout(plan, [...this.gateways.keys()], this.nowMicros);
    this.#snapshot = encodeRollout(this.state);
    this.#random = random;
    this.#chances = chances;
    this.feed({ kind: 'started' });
  }

  /** What an operator does, or the world. */
  feed(event: RolloutEvent): readonly RolloutEffect[] {
    const before = this.state;
    const { state, effects } = step(before, event, this.nowMicros);
    this.#journal.push(encodeEvent({ event, nowMicros: this.nowMicros }));
    this.state = state;
    this.events++;
    this.#judge(before, effects);
    const isKilled = this.#random(1_000) < this.#chances.kill;
    for (const effect of effects.slice(0, isKilled ? this.#random(effects.length + 1) : effects.length)) this.#carryOut(effect);
    if (isKilled) this.restart();
    return effects;
  }

  /** Kill −9 and start: nothing but the snapshot and the journal is left. */
  restart(): void {
    const replayed = replay(this.#snapshot, this.#journal);
    assert.deepEqual(encodeRollout(replayed), encodeRollout(this.state), 'the journal says what the state was');
    this.state = replayed;
    if (this.#random(2) === 0) [this.#snapshot, this.#journal] = [encodeRollout(replayed), []];
    this.restarts++;
    this.feed({ kind: 'started' });
  }

  /** Until nothing is left to happen; `onEvent` may interfere. */
  run(onEvent: (world: RolloutWorld) => void = () => undefined): void {
    for (let turns = 0; this.state.phase !== 'ended' || this.#agenda.length > 0; turns++) {
      assert.ok(turns < 60 * this.gateways.size + 2_000, `it does not end: ${JSON.stringify(progressOf(this.state))}`);
      this.#agenda.sort((a, b) => b.at - a.at);
      const next = this.#agenda.pop();
      this.nowMicros = Math.max(this.nowMicros, next?.at ?? this.nowMicros + 10 * SECOND);
      this.feed(next?.event ?? { kind: 'tick' });
      this.#flap();
      onEvent(this);
    }
  }

  #later(seconds: number, event: RolloutEvent): void {
    this.#agenda.push({ at: this.nowMicros + Math.round(seconds * SECOND), event });
    if (this.#random(1_000) < this.#chances.repeat) this.#agenda.push({ at: this.nowMicros + Math.round((seconds + this.#random(200)) * SECOND), event });
  }

  #carryOut(effect: RolloutEffect): void {
    if (effect.kind === 'cancel') this.#onCancel(effect);
    if (effect.kind === 'issue') this.#onIssue(effect);
  }

  #onCancel({ gateway, commandId }: Extract<RolloutEffect, { kind: 'cancel' }>): void {
    if (this.#random(1_000) >= this.#chances.lose) this.gateways.get(gateway)?.cancelled.add(commandId);
  }

  #onIssue({ gateway, commandId, direction, attempt }: Extract<RolloutEffect, { kind: 'issue' }>): void {
    const there = this.gateways.get(gateway);
    assert.ok(there);
    const what = `${gateway} ${direction} ${attempt}`;
    assert.equal(this.#commands.get(commandId) ?? what, what, 'an id is one command');
    assert.equal(this.#ids.get(what) ?? commandId, commandId, 'a command has one id');
    this.#commands.set(commandId, what);
    this.#ids.set(what, commandId);
    if (direction === 'undo') this.undone.add(gateway);
    this.#later(this.#random(3), { kind: 'accepted', gateway, commandId });
    if (there.ended.has(commandId)) return;
    if (there.habit === 'silent') return;
    const isSound = !there.cancelled.has(commandId) && (direction === 'undo' || (there.habit !== 'failing' && (there.habit !== 'secondTry' || attempt > 1)));
    const seconds = there.habit === 'late' && direction === 'forward' ? 70 + this.#random(300) : 1 + this.#random(20);
    this.#agenda.push({ at: this.nowMicros + seconds * SECOND, event: { kind: 'result', gateway, commandId, isSuccess: isSound, reason: isSound ? '' : 'disk full' } });
    there.ended.set(commandId, isSound);
    if (!isSound) return;
    there.isNew = direction === 'forward';
    if (direction === 'forward') this.changed.add(gateway);
    if (direction === 'forward') this.#later(seconds + 1, { kind: 'health', gateway, isHealthy: there.habit !== 'sick' });
  }

  #flap(): void {
    const some = `gw-${this.#random(this.gateways.size)}`;
    if (this.gateways.get(some)?.habit === 'flapping') this.#later(1, { kind: 'health', gateway: some, isHealthy: this.#random(3) > 0 });
  }

  /** What must hold after every event. */
  #judge(before: RolloutState, effects: readonly RolloutEffect[]): void {
    const { state } = this;
    const issued = effects.filter((effect) => effect.kind === 'issue');
    const progress = progressOf(state);
    assert.equal(progress.waiting + progress.succeeded + progress.failed + state.records.filter(({ standing }) => standing === 'sending' || standing === 'sent').length, progress.total);
    assert.ok(progress.fraction >= 0 && progress.fraction <= 1);
    assert.ok(state.records.filter(isInFlight).length <= state.plan.concurrency, 'no more in flight than allowed');
    if (state.isPaused) assert.equal(issued.length, 0, 'a pause really stops');
    for (const { gateway, direction } of issued) {
      if (direction === 'forward') assert.ok((state.places.get(gateway) ?? Infinity) < (state.ends[state.stage] ?? 0), 'nobody before its stage');
      if (direction === 'undo') assert.ok((state.records[state.places.get(gateway) ?? -1]?.successes ?? 0) > 0, 'only who changed is undone');
    }
    if (before.phase !== 'running' && before.phase !== 'soaking') this.#isStopped = true;
    if (this.#isStopped) assert.ok(issued.every(({ direction }) => direction === 'undo'), 'after a stop nothing goes forward');
    const byCommand = state.records.filter(({ standing, reason }) => standing === 'failed' && (reason === SILENT || reason === 'disk full')).length;
    assert.ok(byCommand <= failuresBorne(state.plan, state.ends[state.stage] ?? 0) + state.plan.concurrency, 'no more failures than are borne and were in flight');
  }
}
