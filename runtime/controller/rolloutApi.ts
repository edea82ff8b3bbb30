/** `rollouts.*` and `fleet.views`: what the command line asks of roll-outs, and of what the gateways report. */
import { whenAborted } from '#runtime/core/abort.ts';
import { isoOfMicros } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { isJsonObject, type JsonObject } from '#runtime/core/json.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Api } from './api.ts';
import { ordersIn } from './desk.ts';
import { parseRollout, planFile } from './rolloutPlan.ts';
import { progressOf, reportOf } from './rolloutReport.ts';
import type { RolloutRun } from './rolloutRun.ts';
import type { Rollouts } from './rollouts.ts';
import { asList, asName } from './shape.ts';
import type { FleetViews } from './views.ts';

/**
 * `prepare {plan, gateways}` → `{missing, longestSeconds}` · `sign {id, commands}` → `{missing}` · `start {id}` · `list {}` · `show {id}` (with `plan` and `report`) ·
 * `pause|resume {id, by}`, `abort|rollback {id, by, why}` · `watch {id}`: emits how it stands now and as that changes, until it has ended. Each returns how it stands.
 */
export const rolloutApi = (rollouts: Rollouts): Api => ({
  'rollouts.prepare': async ({ plan, gateways }) => rollouts.prepare(parseRollout(plan), asList(gateways, 'gateways', LIMITS.rolloutGatewaysMax).map((name) => asName(name, 'gateways'))),
  'rollouts.sign': async ({ id, commands }) => rollouts.sign(asName(id, 'id'), ordersIn(commands)),
  'rollouts.start': async ({ id }) => standingOf(await rollouts.start(asName(id, 'id'))),
  'rollouts.list': async () => ({ rollouts: rollouts.all().map(standingOf) }),
  'rollouts.show': async ({ id }) => {
    const run = rollouts.get(asName(id, 'id'));
    return { ...standingOf(run), plan: planFile(run.state.plan), report: reportView(run) };
  },
  'rollouts.pause': async ({ id, by }) => standingOf(await rollouts.order(asName(id, 'id'), { kind: 'pause' }, textIn(by, 'by'))),
  'rollouts.resume': async ({ id, by }) => standingOf(await rollouts.order(asName(id, 'id'), { kind: 'resume' }, textIn(by, 'by'))),
  'rollouts.abort': async ({ id, by, why }) => standingOf(await rollouts.order(asName(id, 'id'), { kind: 'abort', why: textIn(why, 'why') }, textIn(by, 'by'))),
  'rollouts.rollback': async ({ id, by, why }) => standingOf(await rollouts.order(asName(id, 'id'), { kind: 'rollBack', why: textIn(why, 'why') }, textIn(by, 'by'))),
  'rollouts.watch': async ({ id }, { emit, signal }) => {
    const watched = rollouts.get(asName(id, 'id'));
    const ended = Promise.withResolvers<void>();
    const tell = (run: RolloutRun): void => {
      if (run !== watched) return;
      emit(standingOf(run));
      if (run.state.phase === 'ended') ended.resolve();
    };
    using listening = new DisposableStack();
    listening.use(rollouts.listen(tell));
    tell(watched);
    await Promise.race([ended.promise, whenAborted(signal)]);
    return { ...standingOf(watched), report: reportView(watched) };
  },
});

/** `fleet.views {gateway?, health?}`: emits what each gateway reports, by id; with `health: true` without its twins. Returns how many they are. */
export const viewsApi = (views: FleetViews): Api => ({
  'fleet.views': async ({ gateway, health: isHealthOnly }, { emit }) => {
    const all = [...views.all()].filter(({ id }) => gateway === undefined || id === gateway).toSorted((a, b) => (a.id < b.id ? -1 : 1));
    for (const view of all) emit(isHealthOnly === true ? { id: view.id, health: view.health ?? {} } : view);
    return { gateways: all.length };
  },
});

function standingOf({ state }: RolloutRun): JsonObject {
  const { plan, phase, outcome, why, soakUntilMicros } = state;
  return {
    id: plan.id, group: plan.group, type: plan.command.type, ...progressOf(state), ...(phase === 'ended' ? { outcome } : {}), ...(why === '' ? {} : { why }),
    ...(phase === 'soaking' ? { soakUntil: isoOfMicros(soakUntilMicros) } : {}),
  };
}

function reportView({ state }: RolloutRun): JsonObject {
  const report: unknown = reportOf(state);
  return isJsonObject(report) ? report : {};
}

function textIn(value: unknown, name: string): string {
  if (typeof value !== 'string' || value === '' || value.length > LIMITS.rolloutReasonCharactersMax) throw new TenzroError('controller.request', `${name} is no text of at most ${LIMITS.rolloutReasonCharactersMax} characters`);
  return value;
}
