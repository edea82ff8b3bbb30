/** A roll-out as data: the plan, its gateways in their order, and where each of them stands. Pure. */
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { encodeCbor } from '#runtime/crypto/cbor.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { orderOf, stageEnds, type RolloutPlan } from './rolloutPlan.ts';

/** sending: decided and durable, not known to be with the broker · sent: with the broker. */
export const STANDINGS = ['waiting', 'sending', 'sent', 'succeeded', 'failed'] as const;
export type Standing = (typeof STANDINGS)[number];
/** none: nothing was tried, or it is to be tried again. */
export const UNDOS = ['none', 'sending', 'sent', 'undone', 'failed'] as const;
export type Undo = (typeof UNDOS)[number];
/** unknown: it reported nothing since its command succeeded. */
export const HEALTHS = ['unknown', 'healthy', 'unhealthy'] as const;
export type Health = (typeof HEALTHS)[number];
export const PHASES = ['running', 'soaking', 'stopping', 'rollingBack', 'ended'] as const;
export type Phase = (typeof PHASES)[number];
export const OUTCOMES = ['completed', 'stopped', 'aborted', 'rolledBack'] as const;
export type Outcome = (typeof OUTCOMES)[number];
export const DIRECTIONS = ['forward', 'undo'] as const;
export type Direction = (typeof DIRECTIONS)[number];

export interface GatewayRecord {
  readonly standing: Standing;
  /** Commands it was sent; they count from 1. */
  readonly attempt: number;
  /** When the command in flight counts as unanswered. */
  readonly untilMicros: number;
  /** Why the last command failed. */
  readonly reason: string;
  /** Attempts that succeeded, in time or late: bit n − 1 stands for attempt n. */
  readonly successes: number;
  /** Those of them that the last undo is to undo. */
  readonly covered: number;
  readonly health: Health;
  readonly undo: Undo;
  readonly undoAttempt: number;
  readonly undoReason: string;
}

export interface RolloutState {
  readonly plan: RolloutPlan;
  /** In the order in which they are touched; fixed at the beginning. */
  readonly gateways: readonly string[];
  /** As `gateways`. */
  readonly records: readonly GatewayRecord[];
  readonly phase: Phase;
  /** Index into `plan.stages`. */
  readonly stage: number;
  /** Nothing is sent while it is true; answers are still taken. */
  readonly isPaused: boolean;
  readonly soakUntilMicros: number;
  /** What it will have been, once `stopping` or `rollingBack` is over; when `ended`, what it was. */
  readonly outcome: Outcome;
  /** Why it was stopped, for people. */
  readonly why: string;
  /** Commands in flight were asked to end. */
  readonly isCancelling: boolean;
  /** Latest time that it has seen: it never goes back. */
  readonly clockMicros: number;
  /** Of `gateways`; where a gateway stands. Derived. */
  readonly places: ReadonlyMap<string, number>;
  /** Where each stage ends. Derived. */
  readonly ends: readonly number[];
}

const UNTOUCHED: GatewayRecord = { standing: 'waiting', attempt: 0, untilMicros: 0, reason: '', successes: 0, covered: 0, health: 'unknown', undo: 'none', undoAttempt: 0, undoReason: '' };

/** `gateways`: the group's members now; who joins the group later is not touched. Throws `fleet.file`. */
export function beginRollout(plan: RolloutPlan, gateways: readonly string[], nowMicros: number): RolloutState {
  if (gateways.length === 0 || gateways.length > LIMITS.rolloutGatewaysMax) throw new TenzroError('fleet.file', `group ${plan.group} has ${gateways.length} gateways: a roll-out takes 1 to ${LIMITS.rolloutGatewaysMax}`);
  const ordered = orderOf(plan.id, gateways);
  return withDerived({
    plan, gateways: ordered, records: ordered.map(() => UNTOUCHED), phase: 'running', stage: 0, isPaused: false, soakUntilMicros: 0, outcome: 'completed', why: '', isCancelling: false, clockMicros: nowMicros,
  });
}

export const withDerived = (state: Omit<RolloutState, 'places' | 'ends'>): RolloutState =>
  ({ ...state, places: new Map(state.gateways.map((gateway, at) => [gateway, at])), ends: stageEnds(state.plan.stages, state.gateways.length) });

/** One id for one gateway, direction and attempt, whoever computes it: after a restart the same command is sent again, not another. 128 bits, base64url. */
export const commandIdOf = (rolloutId: string, gateway: string, direction: Direction, attempt: number): string =>
  `r-${sha256(Buffer.from('tenzro/rollout/command/1', 'utf8'), encodeCbor([rolloutId, gateway, direction, attempt])).toString('base64url', 0, 16)}`;

/** Of the `cancel` that ends that command. */
export const cancelIdOf = (commandId: string): string => `c-${commandId.slice('r-'.length)}`;

export const hasChanged = ({ successes }: GatewayRecord): boolean => successes !== 0;
export const isForwardInFlight = ({ standing }: GatewayRecord): boolean => standing === 'sending' || standing === 'sent';
export const isUndoInFlight = ({ undo }: GatewayRecord): boolean => undo === 'sending' || undo === 'sent';
export const isInFlight = (record: GatewayRecord): boolean => isForwardInFlight(record) || isUndoInFlight(record);
