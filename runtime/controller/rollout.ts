/**
 * A roll-out, step by step: canaries first, each stage watched before the next, stopped when too much fails. Data only: no clock, no network.
 *
 *   running ⇄ soaking ─▶ ended (completed)
 *      │ too many failures, abort, roll back
 *      ▼
 *   stopping ─ nothing in flight ─▶ ended (stopped, aborted), or rollingBack ─▶ ended (rolledBack)
 *
 * Invariants: the caller makes an event (`rolloutCodec.ts`) durable before it carries out the effects, and begins with `started` after every restart: what was
 * decided and is not known to be sent is then told again, under the same command id. A gateway has one command in flight at most. A command that a gateway
 * reports as failed has changed nothing there; one that never answered may have, so that a late success still counts as a change.
 */
import { LIMITS } from '#runtime/core/limits.ts';
import { failuresBorne } from './rolloutPlan.ts';
import { commandIdOf, hasChanged, isForwardInFlight, isInFlight, isUndoInFlight, type Direction, type GatewayRecord, type Outcome, type RolloutState } from './rolloutState.ts';

export type RolloutEvent =
  /** The controller begins, or begins again. */
  | { readonly kind: 'started' }
  | { readonly kind: 'tick' }
  /** The broker has the command. */
  | { readonly kind: 'accepted'; readonly gateway: string; readonly commandId: string }
  /** The gateway ended it. */
  | { readonly kind: 'result'; readonly gateway: string; readonly commandId: string; readonly isSuccess: boolean; readonly reason: string }
  /** What `plan.healthy` makes of what the gateway reports now. */
  | { readonly kind: 'health'; readonly gateway: string; readonly isHealthy: boolean }
  | { readonly kind: 'pause' }
  | { readonly kind: 'resume' }
  | { readonly kind: 'abort'; readonly why: string }
  | { readonly kind: 'rollBack'; readonly why: string };

export type RolloutEffect =
  /** Send `plan.command`, or `plan.rollback` to undo it. */
  | { readonly kind: 'issue'; readonly gateway: string; readonly commandId: string; readonly direction: Direction; readonly attempt: number }
  /** Ask the gateway to end it, and take it off the broker. */
  | { readonly kind: 'cancel'; readonly gateway: string; readonly commandId: string }
  /** Phase, stage or pause changed. */
  | { readonly kind: 'report' }
  /** The event makes no sense now. */
  | { readonly kind: 'refused'; readonly why: string };

export interface RolloutStep {
  readonly state: RolloutState;
  readonly effects: readonly RolloutEffect[];
}

export const SILENT = 'no answer in time';
export const UNHEALTHY = 'unhealthy after the change';
export const UNHEARD = 'reported no health after the change';
const MICROS_PER_SECOND = 1_000_000;
/** Nobody is judged in the moment in which it answers: what it reports then takes its time. */
const JUDGED_AFTER_SECONDS = 1;

/** Total: what does not fit is ignored or refused. `nowMicros`: wall time; a clock that goes back is held. Costs one look at every gateway. */
export function step(state: RolloutState, event: RolloutEvent, nowMicros: number): RolloutStep {
  const draft = new Draft(state, Math.max(nowMicros, state.clockMicros));
  take(draft, event);
  expire(draft);
  advance(draft);
  if (draft.state.phase === 'ended') draft.set({ isPaused: false });
  const { phase, stage, isPaused } = draft.state;
  if (phase !== state.phase || stage !== state.stage || isPaused !== state.isPaused) draft.effects.push({ kind: 'report' });
  return { state: draft.state, effects: draft.effects };
}

/** When time alone makes something due; Infinity: never. */
export function dueMicros({ phase, isPaused, soakUntilMicros, records }: RolloutState): number {
  let due = phase === 'soaking' && !isPaused ? soakUntilMicros : Infinity;
  for (const record of records) if (isInFlight(record)) due = Math.min(due, record.untilMicros);
  return due;
}

/** The step under way: a copy that may be written until it is given out. */
class Draft {
  state: RolloutState;
  readonly effects: RolloutEffect[] = [];
  #records: GatewayRecord[] | undefined;

  constructor(state: RolloutState, nowMicros: number) { this.state = { ...state, clockMicros: nowMicros }; }

  set(changes: Partial<RolloutState>): void { this.state = { ...this.state, ...changes }; }

  setRecord(at: number, changes: Partial<GatewayRecord>): void {
    const record = this.state.records[at];
    if (!record) return;
    if (!this.#records) {
      this.#records = [...this.state.records];
      this.set({ records: this.#records });
    }
    this.#records[at] = { ...record, ...changes };
  }

  idOf(at: number, direction: Direction, attempt: number): string { return commandIdOf(this.state.plan.id, this.gatewayAt(at), direction, attempt); }
  gatewayAt(at: number): string { return this.state.gateways[at] ?? ''; }

  tell(kind: 'issue' | 'cancel', at: number, direction: Direction, attempt: number): void {
    const command = { gateway: this.gatewayAt(at), commandId: this.idOf(at, direction, attempt) };
    this.effects.push(kind === 'cancel' ? { kind, ...command } : { kind, ...command, direction, attempt });
  }
}

function take(draft: Draft, event: RolloutEvent): void {
  switch (event.kind) {
    case 'started': return retell(draft);
    case 'tick': return;
    case 'accepted': return onAccepted(draft, event.gateway, event.commandId);
    case 'result': return onResult(draft, event);
    case 'health': return onHealth(draft, event.gateway, event.isHealthy);
    case 'pause': return draft.state.phase === 'ended' || draft.state.isPaused ? refuse(draft, 'it has ended or is paused already') : draft.set({ isPaused: true });
    case 'resume': return draft.state.isPaused ? resume(draft) : refuse(draft, 'it is not paused');
    case 'abort': return draft.state.phase === 'ended' ? refuse(draft, 'it has ended') : stop(draft, 'aborted', event.why, 'cancel');
    case 'rollBack': return rollBack(draft, event.why);
  }
}

const refuse = (draft: Draft, why: string): void => { draft.effects.push({ kind: 'refused', why }); };

/** Whatever a kill may have kept from being told. An attempt that was given up may still be on the broker. */
function retell(draft: Draft): void {
  for (const [at, record] of draft.state.records.entries()) {
    const [last, lastUndo] = [record.attempt - Number(record.reason !== SILENT), record.undoAttempt - Number(record.undoReason !== SILENT)];
    for (let attempt = 1; attempt <= last; attempt++) draft.tell('cancel', at, 'forward', attempt);
    for (let attempt = 1; attempt <= lastUndo; attempt++) draft.tell('cancel', at, 'undo', attempt);
    if (draft.state.isCancelling) cancel(draft, at, record);
  }
  resend(draft);
}

/** What was decided and may not have been sent. After a stop nothing is: it is left to run out. */
function resend(draft: Draft): void {
  const { isPaused, phase, records } = draft.state;
  if (isPaused) return;
  for (const [at, record] of records.entries()) {
    if (phase === 'running' && record.standing === 'sending') draft.tell('issue', at, 'forward', record.attempt);
    if (phase === 'rollingBack' && record.undo === 'sending') draft.tell('issue', at, 'undo', record.undoAttempt);
  }
}

function onAccepted(draft: Draft, gateway: string, commandId: string): void {
  const at = draft.state.places.get(gateway) ?? -1;
  const record = draft.state.records[at];
  if (record?.standing === 'sending' && commandId === draft.idOf(at, 'forward', record.attempt)) draft.setRecord(at, { standing: 'sent' });
  if (record?.undo === 'sending' && commandId === draft.idOf(at, 'undo', record.undoAttempt)) draft.setRecord(at, { undo: 'sent' });
}

function onResult(draft: Draft, { gateway, commandId, isSuccess, reason }: Extract<RolloutEvent, { kind: 'result' }>): void {
  const at = draft.state.places.get(gateway) ?? -1;
  const record = draft.state.records[at];
  if (!record) return;
  const attemptOf = (direction: Direction, newest: number): number | undefined => Array.from({ length: newest }, (_, i) => newest - i).find((attempt) => draft.idOf(at, direction, attempt) === commandId);
  const forward = attemptOf('forward', record.attempt);
  const undo = forward === undefined ? attemptOf('undo', record.undoAttempt) : undefined;
  const cut = reason.slice(0, LIMITS.rolloutReasonCharactersMax).toWellFormed();
  if (forward !== undefined && isSuccess) changed(draft, at, record, forward);
  else if (forward === record.attempt && isForwardInFlight(record)) failForward(draft, at, record, cut);
  if (undo !== undefined) onUndo(draft, at, record, undo === record.undoAttempt && isUndoInFlight(record), isSuccess, cut);
}

/** A success that is told again changes nothing; one of another attempt is another change, also where one was undone already. */
function changed(draft: Draft, at: number, record: GatewayRecord, attempt: number): void {
  const successes = record.successes | (1 << (attempt - 1));
  const isInTime = record.standing === 'waiting' || (isForwardInFlight(record) && attempt === record.attempt);
  draft.setRecord(at, isInTime ? { standing: 'succeeded', reason: '', successes, health: 'unknown' } : { successes });
}

function onUndo(draft: Draft, at: number, record: GatewayRecord, isAwaited: boolean, isSuccess: boolean, reason: string): void {
  if (isSuccess && record.undo !== 'undone') draft.setRecord(at, { undo: 'undone', undoReason: '', ...(record.undo === 'none' ? { covered: record.successes } : {}) });
  else if (isAwaited && !isSuccess) failUndo(draft, at, record, reason);
}

/** Another attempt while the roll-out runs and some are left. */
function failForward(draft: Draft, at: number, record: GatewayRecord, reason: string): void {
  const isAgain = draft.state.phase === 'running' && record.attempt < draft.state.plan.attempts && !hasChanged(record);
  draft.setRecord(at, { standing: isAgain ? 'waiting' : 'failed', reason: reason === '' ? 'failed without a reason' : reason });
}

function failUndo(draft: Draft, at: number, record: GatewayRecord, reason: string): void {
  const isAgain = draft.state.phase === 'rollingBack' && record.undoAttempt < draft.state.plan.attempts;
  draft.setRecord(at, { ...(isAgain ? { undo: 'none', covered: 0 } : { undo: 'failed' }), undoReason: reason === '' ? 'failed without a reason' : reason });
}

function onHealth(draft: Draft, gateway: string, isHealthy: boolean): void {
  const at = draft.state.places.get(gateway) ?? -1;
  const health = isHealthy ? 'healthy' : 'unhealthy';
  const record = draft.state.records[at];
  if (record && hasChanged(record) && record.health !== health) draft.setRecord(at, { health });
}

/** Who was not watched did not soak: the time begins anew. */
function resume(draft: Draft): void {
  draft.set({ isPaused: false });
  resend(draft);
  if (draft.state.phase === 'soaking') soak(draft);
}

function rollBack(draft: Draft, why: string): void {
  const { phase, outcome, plan } = draft.state;
  if (!plan.rollback) return refuse(draft, 'its plan has no rollback');
  if (phase === 'rollingBack' || (phase === 'ended' && outcome === 'rolledBack')) return refuse(draft, 'it is rolled back already');
  stop(draft, 'rolledBack', why, 'cancel');
}

/** Nothing more is sent for it; who failed and would have been tried again has failed. An operator who asks for it ends a pause; a threshold does not. */
function stop(draft: Draft, outcome: Outcome, why: string, inFlight: 'cancel' | 'leave'): void {
  draft.set({ phase: 'stopping', outcome, why: why.slice(0, LIMITS.rolloutReasonCharactersMax).toWellFormed(), isPaused: inFlight === 'leave' && draft.state.isPaused, isCancelling: inFlight === 'cancel' });
  for (const [at, record] of draft.state.records.entries()) {
    if (record.standing === 'waiting' && record.attempt > 0) draft.setRecord(at, { standing: 'failed' });
    if (inFlight === 'cancel') cancel(draft, at, record);
  }
}

function cancel(draft: Draft, at: number, record: GatewayRecord): void {
  if (isForwardInFlight(record)) draft.tell('cancel', at, 'forward', record.attempt);
  if (isUndoInFlight(record)) draft.tell('cancel', at, 'undo', record.undoAttempt);
}

/** Who does not answer has failed; its command is taken back, so that it does not come as a surprise later. */
function expire(draft: Draft): void {
  for (const [at, record] of draft.state.records.entries()) {
    if (!isInFlight(record) || draft.state.clockMicros < record.untilMicros) continue;
    cancel(draft, at, record);
    if (isForwardInFlight(record)) failForward(draft, at, record, SILENT);
    else failUndo(draft, at, record, SILENT);
  }
}

function advance(draft: Draft): void {
  if (draft.state.phase === 'running' || draft.state.phase === 'soaking') {
    stopIfTooMuchFailed(draft);
    advanceStages(draft);
  }
  const { phase, outcome, records } = draft.state;
  if (phase === 'stopping' && !records.some(isInFlight)) draft.set({ phase: outcome === 'rolledBack' ? 'rollingBack' : 'ended', isCancelling: false });
  if (outcome === 'rolledBack' && (draft.state.phase === 'rollingBack' || draft.state.phase === 'ended')) advanceRollback(draft);
}

function advanceStages(draft: Draft): void {
  for (;;) {
    const { phase, isPaused, stage, ends, clockMicros, soakUntilMicros } = draft.state;
    const end = ends[stage] ?? 0;
    if (phase === 'running') {
      issue(draft, end, 'forward', ({ standing }) => standing === 'waiting');
      if (draft.state.records.slice(0, end).some((record) => record.standing === 'waiting' || isForwardInFlight(record))) return;
      soak(draft);
    } else if (phase === 'soaking') {
      if (isPaused || clockMicros < soakUntilMicros) return;
      judgeHealth(draft, end);
      if (stopIfTooMuchFailed(draft)) return;
      draft.set(stage + 1 < ends.length ? { phase: 'running', stage: stage + 1 } : { phase: 'ended' });
    } else return;
  }
}

function soak(draft: Draft): void {
  const { plan, stage, clockMicros } = draft.state;
  const seconds = Math.max(plan.stages[stage]?.soakSeconds ?? 0, plan.healthy ? JUDGED_AFTER_SECONDS : 0);
  draft.set({ phase: 'soaking', soakUntilMicros: clockMicros + seconds * MICROS_PER_SECOND });
}

/** Everyone that was changed so far, also in earlier stages, as it stands at this moment: who flaps is taken as it is found. */
function judgeHealth(draft: Draft, end: number): void {
  if (!draft.state.plan.healthy) return;
  for (const [at, { standing, health }] of draft.state.records.slice(0, end).entries()) {
    if (standing === 'succeeded' && health !== 'healthy') draft.setRecord(at, { standing: 'failed', reason: health === 'unhealthy' ? UNHEALTHY : UNHEARD });
  }
}

function stopIfTooMuchFailed(draft: Draft): boolean {
  const { plan, records, ends, stage } = draft.state;
  const reached = ends[stage] ?? 0;
  const failed = records.reduce((sum, { standing }) => sum + Number(standing === 'failed'), 0);
  const borne = failuresBorne(plan, reached);
  if (failed <= borne) return false;
  stop(draft, plan.onFailure === 'rollBack' ? 'rolledBack' : 'stopped', `${failed} of ${reached} failed, ${borne} are borne`, 'leave');
  return true;
}

/** Exactly those that changed: late ones too, also when it had ended. */
function advanceRollback(draft: Draft): void {
  const isOpen = (record: GatewayRecord): boolean => (record.successes & ~record.covered) !== 0 && !isUndoInFlight(record);
  if (draft.state.records.some(isOpen)) draft.set({ phase: 'rollingBack' });
  issue(draft, draft.state.records.length, 'undo', isOpen);
  if (!draft.state.records.some((record) => isOpen(record) || isInFlight(record))) draft.set({ phase: 'ended' });
}

function issue(draft: Draft, end: number, direction: Direction, isNext: (record: GatewayRecord) => boolean): void {
  const { isPaused, plan, records, clockMicros } = draft.state;
  if (isPaused) return;
  let room = plan.concurrency - records.reduce((sum, record) => sum + Number(isInFlight(record)), 0);
  const untilMicros = clockMicros + plan.answerSeconds * MICROS_PER_SECOND;
  for (let at = 0; at < end && room > 0; at++) {
    const record = records[at];
    if (!record || !isNext(record)) continue;
    const attempt = (direction === 'forward' ? record.attempt : record.undoAttempt) + 1;
    draft.setRecord(at, direction === 'forward' ? { standing: 'sending', attempt, reason: '', untilMicros } : { undo: 'sending', undoAttempt: attempt, undoReason: '', covered: record.successes, untilMicros });
    draft.tell('issue', at, direction, attempt);
    room--;
  }
}
