/** What people and scripts are told of a roll-out: numbers for a progress bar, and the report at its end, by reason of failure. */
import { hasChanged, isInFlight, type Outcome, type Phase, type RolloutState } from './rolloutState.ts';

export interface Progress {
  readonly phase: Phase;
  readonly isPaused: boolean;
  /** Counts from 1. */
  readonly stage: number;
  readonly stages: number;
  readonly stageName: string;
  readonly total: number;
  readonly waiting: number;
  readonly inFlight: number;
  readonly succeeded: number;
  readonly failed: number;
  readonly undone: number;
  /** Gateways that are through with it, 0 to 1; while it is rolled back: of those to be undone. */
  readonly fraction: number;
}

export function progressOf(state: RolloutState): Progress {
  const { records, plan, phase, stage, outcome } = state;
  const counts = { waiting: 0, inFlight: 0, succeeded: 0, failed: 0, undone: 0, undoOver: 0, changed: 0 };
  for (const record of records) {
    if (isInFlight(record)) counts.inFlight++;
    if (record.standing === 'waiting') counts.waiting++;
    if (record.standing === 'succeeded') counts.succeeded++;
    if (record.standing === 'failed') counts.failed++;
    if (record.undo === 'undone') counts.undone++;
    if (record.undo === 'undone' || record.undo === 'failed') counts.undoOver++;
    if (hasChanged(record)) counts.changed++;
  }
  const { undoOver, changed, ...told } = counts;
  const isUndoing = outcome === 'rolledBack' && (phase === 'rollingBack' || phase === 'ended');
  const forward = (counts.succeeded + counts.failed) / records.length;
  const backward = changed === 0 ? 1 : undoOver / changed;
  return { phase, isPaused: state.isPaused, stage: stage + 1, stages: plan.stages.length, stageName: plan.stages[stage]?.name ?? '', total: records.length, ...told, fraction: isUndoing ? backward : forward };
}

export interface RolloutReport {
  readonly id: string;
  /** Absent until it has ended. */
  readonly outcome?: Outcome;
  readonly why: string;
  readonly untouched: readonly string[];
  /** Changed, and not undone. */
  readonly changed: readonly string[];
  readonly undone: readonly string[];
  /** Most frequent reason first. A gateway may stand here and under `changed`: it answered late, or was unhealthy. */
  readonly failures: readonly Failures[];
  readonly undoFailures: readonly Failures[];
}

interface Failures {
  readonly reason: string;
  readonly gateways: readonly string[];
}

export function reportOf({ plan, phase, outcome, why, gateways, records }: RolloutState): RolloutReport {
  const all = gateways.map((gateway, at) => ({ gateway, record: records[at] })).flatMap(({ gateway, record }) => (record ? [{ gateway, ...record }] : []));
  const names = (some: readonly { readonly gateway: string }[]): readonly string[] => some.map(({ gateway }) => gateway);
  return {
    id: plan.id, ...(phase === 'ended' ? { outcome } : {}), why,
    untouched: names(all.filter(({ attempt }) => attempt === 0)),
    changed: names(all.filter((record) => hasChanged(record) && record.undo !== 'undone')),
    undone: names(all.filter(({ undo }) => undo === 'undone')),
    failures: byReason(all.filter(({ standing }) => standing === 'failed')),
    undoFailures: byReason(all.filter(({ undo }) => undo === 'failed').map(({ gateway, undoReason }) => ({ gateway, reason: undoReason }))),
  };
}

function byReason(failed: readonly { readonly gateway: string; readonly reason: string }[]): readonly Failures[] {
  const groups = Map.groupBy(failed, ({ reason }) => reason);
  return [...groups].map(([reason, some]) => ({ reason, gateways: some.map(({ gateway }) => gateway) })).toSorted((a, b) => b.gateways.length - a.gateways.length || (a.reason < b.reason ? -1 : 1));
}
