/**
 * One twin on the gateway: desired configuration goes into force on trial, and back out by itself unless the fleet confirms in time that it hears the gateway.
 * Data only, no clock, disk or network.
 *
 *   settled ─desired─▶ applying ─applied─▶ probation ─confirmed─▶ settled (confirmed)
 *      ▲ refused          │ failed            │ time is up, or too many restarts
 *      └──────────────────┴─▶ reverting ─applied─▶ settled (reverted)
 *
 * Invariants: the caller makes the new state durable before it carries out effects, in their order and each within a stated time, and begins with `started` after
 * every restart; `apply` is atomic, durable, and may come twice. The value before the trial is kept until the trial is over. While one version is on trial, only the newest other one waits.
 */
import { canonicalJson, type Json } from '#runtime/core/json.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Confirmation, Desired, Reported } from '#runtime/core/twin.ts';

export type Phase = 'settled' | 'applying' | 'probation' | 'reverting';

/** What survives a restart; `twinState.ts` writes it. */
export interface Durable {
  readonly phase: Phase;
  /** The last value that was confirmed, or that the gateway began with. */
  readonly value: Json;
  /** On trial; present in every phase but `settled`. */
  readonly trial?: Desired;
  /** Arrived during a trial. */
  readonly waiting?: Desired;
  /** Report at the beginning of this probation: an older confirmation does not count. */
  readonly probationRevision: number;
  /** Restarts within this probation. */
  readonly starts: number;
  readonly report: Reported;
}

export interface TwinMachine extends Durable {
  /** Monotonic microseconds of this run: the probation ends, or a failed revert is tried again. */
  readonly dueMicros?: number;
}

export type Input =
  /** Of the process. */
  | { readonly kind: 'started'; readonly nowMicros: number }
  /** The signature was verified; `fault`: why the value does not fit its schema. */
  | { readonly kind: 'desired'; readonly desired: Desired; readonly fault?: string }
  /** An `apply` of this version ended; `fault`: it did not happen. */
  | { readonly kind: 'applied'; readonly version: number; readonly undo: boolean; readonly nowMicros: number; readonly fault?: string }
  /** The signature was verified. */
  | { readonly kind: 'confirmed'; readonly confirmation: Confirmation }
  | { readonly kind: 'tick'; readonly nowMicros: number }
  /** The value on trial is in force no more: the gateway could not start with it, or somebody at the machine overruled it. */
  | { readonly kind: 'withdrawn'; readonly reason: string }
  /** What is in force; somebody at the machine may have changed it. */
  | { readonly kind: 'found'; readonly value: Json };

export type Effect =
  /** Put the value into force as a whole, then feed `applied` with version and `undo`. */
  | { readonly kind: 'apply'; readonly value: Json; readonly version: number; readonly undo: boolean }
  /** `state.report` is news, or was asked for: publish it, retained. */
  | { readonly kind: 'report' };

export interface Step {
  readonly state: TwinMachine;
  readonly effects: readonly Effect[];
}

const REPORT: Effect = { kind: 'report' };
const MICROS_PER_SECOND = 1_000_000;

/** `value`: what is in force on a gateway that the fleet has told nothing yet. */
export const firstState = (value: Json): TwinMachine =>
  ({ phase: 'settled', value, probationRevision: 0, starts: 0, report: { revision: 1, version: 0, state: 'unset', value } });

export function step(state: TwinMachine, input: Input): Step {
  switch (input.kind) {
    case 'started': return onStarted(state, input.nowMicros);
    case 'desired': return onDesired(state, input.desired, input.fault);
    case 'applied': return onApplied(state, input);
    case 'confirmed': return onConfirmed(state, input.confirmation);
    case 'tick': return onTick(state, input.nowMicros);
    case 'withdrawn': return onWithdrawn(state, input.reason);
    case 'found': return onFound(state, input.value);
  }
}

/** An `apply` that a kill interrupted is done again. The clock of a probation begins anew, so that a gateway may use up so many only. */
function onStarted(machine: TwinMachine, nowMicros: number): Step {
  const state = durableOf(machine);
  const { phase, trial } = state;
  if (phase === 'settled' || !trial) return { state, effects: [] };
  if (phase === 'reverting') return { state, effects: [undoing(state, trial)] };
  if (phase === 'applying') return { state, effects: [putting(trial)] };
  const starts = state.starts + 1;
  if (starts > LIMITS.twinProbationStartsMax) return revert({ ...state, starts }, trial, `restarted ${starts} times before the fleet confirmed it`);
  return { state: { ...state, starts, dueMicros: dueOf(trial, nowMicros) }, effects: [] };
}

/** A version at or below the last one is a redelivery: it is answered by the report and changes nothing. */
function onDesired(state: TwinMachine, desired: Desired, fault: string | undefined): Step {
  if (desired.version <= Math.max(state.report.version, state.waiting?.version ?? 0)) return { state, effects: [REPORT] };
  if (state.phase !== 'settled') return fault === undefined ? { state: { ...state, waiting: desired }, effects: [] } : { state, effects: [] };
  if (fault !== undefined) return { state: reporting(state, { version: desired.version, state: 'refused', value: state.value, reason: fault }), effects: [REPORT] };
  return begin(state, desired);
}

function begin(state: TwinMachine, trial: Desired): Step {
  const { waiting: _, ...kept } = durableOf(state);
  const begun = reporting({ ...kept, phase: 'applying', trial, starts: 0 }, { version: trial.version, state: 'applying', value: state.value });
  return { state: begun, effects: [putting(trial), REPORT] };
}

/** A failed apply may have got half way in spite of its promise: the value before is put back in any case. */
function onApplied(state: TwinMachine, { version, undo, fault, nowMicros }: Extract<Input, { kind: 'applied' }>): Step {
  const { phase, trial } = state;
  if (trial?.version !== version || phase !== (undo ? 'reverting' : 'applying')) return { state, effects: [] };
  if (phase === 'reverting') {
    if (fault !== undefined) return { state: { ...state, dueMicros: nowMicros + LIMITS.twinRevertRetryMs * 1_000 }, effects: [] };
    return settle(state, { version, state: 'reverted', value: state.value, ...(state.report.reason === undefined ? {} : { reason: state.report.reason }) });
  }
  if (fault !== undefined) return revert(state, trial, `could not be applied: ${fault}`);
  const tried = reporting({ ...state, phase: 'probation', dueMicros: dueOf(trial, nowMicros) }, { version, state: 'probation', value: trial.value });
  return { state: { ...tried, probationRevision: tried.report.revision }, effects: [REPORT] };
}

function onConfirmed(state: TwinMachine, { version, revision }: Confirmation): Step {
  const { phase, trial } = state;
  const isOfThisTrial = phase === 'probation' && trial?.version === version && revision >= state.probationRevision && revision <= state.report.revision;
  return isOfThisTrial ? settle({ ...state, value: trial.value }, { version, state: 'confirmed', value: trial.value }) : { state, effects: [] };
}

function onTick(state: TwinMachine, nowMicros: number): Step {
  const { phase, trial, dueMicros = Infinity } = state;
  if (!trial || nowMicros < dueMicros) return { state, effects: [] };
  if (phase === 'probation') return revert(state, trial, `the fleet did not confirm it within ${trial.confirmSeconds} s`);
  return { state: durableOf(state), effects: phase === 'reverting' ? [undoing(state, trial)] : [] };
}

function onWithdrawn(state: TwinMachine, reason: string): Step {
  const { phase, trial } = state;
  return trial && (phase === 'applying' || phase === 'probation') ? revert(state, trial, reason) : { state, effects: [] };
}

/** Who stands at the machine has the last word: it is told, and not undone. */
function onFound(state: TwinMachine, value: Json): Step {
  if (state.phase !== 'settled' || canonicalJson(value) === canonicalJson(state.value)) return { state, effects: [] };
  return { state: reporting({ ...state, value }, { version: state.report.version, state: 'local', value }), effects: [REPORT] };
}

function revert(state: TwinMachine, trial: Desired, reason: string): Step {
  const reverting = reporting({ ...durableOf(state), phase: 'reverting' }, { version: trial.version, state: 'reverting', value: state.value, reason });
  return { state: reverting, effects: [undoing(state, trial), REPORT] };
}

/** The trial is over; what arrived meanwhile is next. */
function settle(state: TwinMachine, outcome: Omit<Reported, 'revision'>): Step {
  const { trial: _, ...kept } = durableOf(state);
  const settled = reporting({ ...kept, phase: 'settled', starts: 0 }, outcome);
  return settled.waiting ? begin(settled, settled.waiting) : { state: settled, effects: [REPORT] };
}

const putting = ({ value, version }: Desired): Effect => ({ kind: 'apply', value, version, undo: false });
const undoing = ({ value }: Durable, { version }: Desired): Effect => ({ kind: 'apply', value, version, undo: true });
const dueOf = ({ confirmSeconds }: Desired, nowMicros: number): number => nowMicros + confirmSeconds * MICROS_PER_SECOND;

/** The revision rises only with what the report says. */
function reporting(state: TwinMachine, told: Omit<Reported, 'revision'>): TwinMachine {
  const cut = told.reason === undefined ? told : { ...told, reason: Buffer.from(told.reason).subarray(0, LIMITS.twinReasonBytesMax).toString('utf8').replace(/\uFFFD+$/, '') };
  const { revision, ...last } = state.report;
  return canonicalJson({ ...last }) === canonicalJson({ ...cut }) ? state : { ...state, report: { revision: revision + 1, ...cut } };
}

/** What a restart keeps. */
export function durableOf(state: TwinMachine): Durable {
  const { dueMicros: _, ...durable } = state;
  return durable;
}
