/**
 * When the gateway asks for a lease, holds it, and has none: data, without clock or network. Times are monotonic microseconds, so that no step of the wall
 * clock lengthens a lease; nothing of it outlives the process, so that a lease ends with the boot that it was given in.
 *
 *   none ─▶ enrolling ─▶ challenged ─▶ held ─▶ due ─▶ (challenged …)
 *                 ╰── failed ──╯  ╰─ refused      ╰─▶ lapsed ─▶ (enrolling …)
 */
import { LIMITS } from '#runtime/core/limits.ts';

export type Phase = 'none' | 'enrolling' | 'challenged' | 'held' | 'due' | 'lapsed' | 'refused';

export interface Held {
  /** SHA-256 of the statement. */
  readonly digest: Uint8Array;
  /** Its entry in the log. */
  readonly index: number;
  /** Trust level that the verifier computed. */
  readonly level: string;
  /** From when its lifetime counts: before the verifier signed it, so that a slow network cannot lengthen it. */
  readonly fromMicros: number;
  readonly untilMicros: number;
}

/** `refused`: the verifier judged and said no. `failed`: there was no judgement. */
export interface Fault {
  readonly kind: 'refused' | 'failed';
  readonly reason: string;
}

export interface LeaseState {
  readonly held?: Held;
  readonly fault?: Fault;
  /** The last one ran out. */
  readonly lapsed: boolean;
  /** What is under way. */
  readonly round: 'idle' | 'enrolling' | 'challenged';
  /** Failed rounds since the last lease. */
  readonly failures: number;
  /** When the next round begins. */
  readonly nextMicros: number;
}

export type Input =
  | { readonly kind: 'tick'; readonly nowMicros: number }
  /** Enrolled, or going on without. */
  | { readonly kind: 'enrolled' }
  /** `chance`: random, 0 to 1. */
  | { readonly kind: 'granted'; readonly held: Held; readonly chance: number }
  | { readonly kind: 'failed'; readonly fault: Fault; readonly nowMicros: number; readonly chance: number; readonly retryAfterMs?: number };

/** begin: start a round · tell: the standing changed, record and publish it. */
export type Effect = 'begin' | 'tell';

export interface Step {
  readonly state: LeaseState;
  readonly effects: readonly Effect[];
}

export const startState = (nowMicros: number): LeaseState => ({ lapsed: false, round: 'idle', failures: 0, nextMicros: nowMicros });

export function step(state: LeaseState, input: Input): Step {
  switch (input.kind) {
    case 'tick': return onTick(state, input.nowMicros);
    case 'enrolled': return { state: { ...state, round: 'challenged' }, effects: [] };
    case 'granted': return onGranted(input.held, input.chance);
    case 'failed': return onFailed(state, input);
  }
}

function onTick(state: LeaseState, nowMicros: number): Step {
  const hasLapsed = state.held !== undefined && nowMicros >= state.held.untilMicros;
  const { held: _, ...without } = state;
  const kept: LeaseState = hasLapsed ? { ...without, lapsed: true } : state;
  const begins = kept.round === 'idle' && nowMicros >= kept.nextMicros;
  return { state: begins ? { ...kept, round: 'enrolling' } : kept, effects: [...(hasLapsed ? ['tell' as const] : []), ...(begins ? ['begin' as const] : [])] };
}

/** Renewal at half its life, at most a tenth of that earlier: gateways that began together drift apart. */
function onGranted(held: Held, chance: number): Step {
  const halfMicros = (held.untilMicros - held.fromMicros) / 2;
  return { state: { held, lapsed: false, round: 'idle', failures: 0, nextMicros: held.fromMicros + Math.round(halfMicros * (1 - chance / 10)) }, effects: ['tell'] };
}

/** A refusal ends the lease in hand; a failure leaves it its time. */
function onFailed(state: LeaseState, { fault, nowMicros, chance, retryAfterMs = 0 }: Extract<Input, { kind: 'failed' }>): Step {
  const { held, ...without } = state;
  const failures = state.failures + 1;
  const backoffMs = Math.min(LIMITS.leaseRetryMs * 2 ** Math.min(failures - 1, 20), LIMITS.leaseRetryMaxMs) * (0.75 + chance / 2);
  const next: LeaseState = { ...without, ...(held && fault.kind === 'failed' ? { held } : {}), fault, round: 'idle', failures, nextMicros: nowMicros + Math.round(Math.max(backoffMs, retryAfterMs) * 1_000) };
  const isNews = !next.held && (state.held !== undefined || state.fault?.reason !== fault.reason);
  return { state: next, effects: isNews ? ['tell'] : [] };
}

/** The lease in force at that moment, whether or not a tick has come since. */
export const inForce = ({ held }: LeaseState, nowMicros: number): Held | undefined => (held && nowMicros < held.untilMicros ? held : undefined);

export function phaseOf(state: LeaseState, nowMicros: number): Phase {
  if (inForce(state, nowMicros)) return nowMicros >= state.nextMicros || state.round !== 'idle' || state.fault ? 'due' : 'held';
  if (state.fault?.kind === 'refused') return 'refused';
  if (state.lapsed || state.held) return 'lapsed';
  return state.fault || state.round === 'idle' ? 'none' : state.round;
}

/** Why there is no lease. */
export const reasonOf = ({ fault, lapsed }: LeaseState): string => fault?.reason ?? (lapsed ? 'it was not renewed in time' : 'the verifier was not heard yet in this run');

/** When something is due next. */
export const dueMicros = ({ held, round, nextMicros }: LeaseState): number => Math.min(held?.untilMicros ?? Infinity, round === 'idle' ? nextMicros : Infinity);
