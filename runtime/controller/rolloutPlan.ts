/** What a roll-out shall do, as data: to whom, in which stages, and when it must stop. docs/reference/rollouts.md is its reference. */
import { COMMAND_TYPES, isCommandType, type CommandType } from '#runtime/core/command.ts';
import { boundedJson, canonicalJson, isJsonObject, type JsonObject } from '#runtime/core/json.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { queryAt } from './groups.ts';
import type { Query } from './query.ts';
import { asCount, asFields, asList, asName, asText, wrong, type Fields } from './shape.ts';

export interface StagePlan {
  readonly name: string;
  /** Gateways that are touched by its end, those of the stages before included. */
  readonly reach: { readonly kind: 'count' | 'percent'; readonly value: number };
  /** How long the changed gateways are watched before the next stage. */
  readonly soakSeconds: number;
}

export interface CommandPlan {
  readonly type: CommandType;
  readonly parameters: JsonObject;
  readonly ttlSeconds: number;
}

export interface RolloutPlan {
  readonly id: string;
  readonly group: string;
  readonly command: CommandPlan;
  /** Absent: cannot be rolled back. */
  readonly rollback?: CommandPlan;
  readonly stages: readonly StagePlan[];
  /** What a changed gateway must report at the end of a soak. */
  readonly healthy?: { readonly where: string; readonly query: Query };
  /** More failures than these among the gateways of the stages so far stop the rest. The lower one counts. */
  readonly failures: { readonly percent: number; readonly max: number };
  readonly onFailure: 'stop' | 'rollBack';
  /** Commands in flight at once. */
  readonly concurrency: number;
  /** Commands that one gateway gets before it counts as failed. */
  readonly attempts: number;
  /** A gateway that has not ended a command after this is taken for silent. */
  readonly answerSeconds: number;
}

const KEYS = ['id', 'group', 'command', 'rollback', 'stages', 'healthy', 'failures', 'onFailure', 'concurrency', 'attempts', 'answerSeconds'] as const;
const WHOLE_PERCENT = 100;

/** `{version: 1, rollout: {…}}`. Throws `fleet.file`; unknown keys are refused. */
export function parseRollout(value: unknown): RolloutPlan {
  const file = asFields(value, 'rollout file', ['version', 'rollout']);
  if (file['version'] !== 1) throw wrong('rollout file: version must be 1');
  const given = asFields(file['rollout'], 'rollout', KEYS);
  const command = commandAt(given['command'], 'rollout.command');
  const rollback = given['rollback'] === undefined ? undefined : commandAt(given['rollback'], 'rollout.rollback');
  const onFailure = given['onFailure'] ?? 'stop';
  if (onFailure !== 'stop' && onFailure !== 'rollBack') throw wrong('rollout.onFailure must be stop or rollBack');
  if (onFailure === 'rollBack' && !rollback) throw wrong('rollout.onFailure is rollBack, and there is no rollout.rollback');
  const longestTtl = Math.max(command.ttlSeconds, rollback?.ttlSeconds ?? 0);
  const healthy = given['healthy'] === undefined ? undefined : asText(given['healthy'], 'rollout.healthy');
  return {
    id: asName(given['id'], 'rollout.id'), group: asName(given['group'], 'rollout.group'), command, ...(rollback ? { rollback } : {}),
    stages: stagesOf(given['stages']), ...(healthy === undefined ? {} : { healthy: { where: healthy, query: queryAt(healthy, 'rollout.healthy') } }),
    failures: failuresOf(given['failures']), onFailure,
    concurrency: asCount(given['concurrency'] ?? 100, 'rollout.concurrency', 1, LIMITS.rolloutGatewaysMax),
    attempts: asCount(given['attempts'] ?? 1, 'rollout.attempts', 1, LIMITS.rolloutAttemptsMax),
    answerSeconds: asCount(given['answerSeconds'] ?? longestTtl, 'rollout.answerSeconds (at least ttlSeconds)', longestTtl, LIMITS.rolloutSecondsMax),
  };
}

function commandAt(value: unknown, name: string): CommandPlan {
  const given = asFields(value, name, ['type', 'parameters', 'ttlSeconds']);
  const parameters = boundedJson(given['parameters'] ?? {}, { depthMax: LIMITS.twinDepthMax, valuesMax: LIMITS.twinValuesMax }, (why) => wrong(`${name}.parameters: ${why}`));
  if (!isJsonObject(parameters)) throw wrong(`${name}.parameters must be a map`);
  if (Buffer.byteLength(canonicalJson(parameters)) > LIMITS.twinValueBytesMax) throw wrong(`${name}.parameters take more than ${LIMITS.twinValueBytesMax} bytes`);
  const type = asText(given['type'], `${name}.type`);
  if (!isCommandType(type) || type === 'cancel') throw wrong(`${name}.type: '${type.slice(0, 40)}' is none of ${COMMAND_TYPES.filter((known) => known !== 'cancel').join(', ')}`);
  return { type, parameters, ttlSeconds: asCount(given['ttlSeconds'] ?? 3_600, `${name}.ttlSeconds`, 1, LIMITS.rolloutSecondsMax) };
}

function stagesOf(value: unknown): readonly StagePlan[] {
  const stages = asList(value, 'rollout.stages', LIMITS.rolloutStagesMax).map(stageAt);
  const last = stages.at(-1)?.reach;
  if (last?.kind !== 'percent' || last.value !== WHOLE_PERCENT) throw wrong('rollout.stages: the last one must be percent: 100; who shall not be touched does not belong to the group');
  return stages;
}

function stageAt(value: unknown, at: number): StagePlan {
  const name = `rollout.stages[${at}]`;
  const given = asFields(value, name, ['name', 'count', 'percent', 'soakSeconds']);
  if ((given['count'] === undefined) === (given['percent'] === undefined)) throw wrong(`${name} needs either count or percent`);
  const soakSeconds = asCount(given['soakSeconds'] ?? 0, `${name}.soakSeconds`, 0, LIMITS.rolloutSecondsMax);
  const reach = given['count'] === undefined
    ? { kind: 'percent' as const, value: asCount(given['percent'], `${name}.percent`, 1, WHOLE_PERCENT) }
    : { kind: 'count' as const, value: asCount(given['count'], `${name}.count`, 1, LIMITS.rolloutGatewaysMax) };
  return { name: given['name'] === undefined ? `stage ${at + 1}` : asText(given['name'], `${name}.name`).slice(0, 64), reach, soakSeconds };
}

function failuresOf(value: unknown): RolloutPlan['failures'] {
  const given: Fields = asFields(value, 'rollout.failures', ['percent', 'max']);
  if (given['percent'] === undefined && given['max'] === undefined) throw wrong('rollout.failures needs percent, max, or both');
  return { percent: asCount(given['percent'] ?? WHOLE_PERCENT, 'rollout.failures.percent', 0, WHOLE_PERCENT), max: asCount(given['max'] ?? LIMITS.rolloutGatewaysMax, 'rollout.failures.max', 0, LIMITS.rolloutGatewaysMax) };
}

/** The plan as a file has it: parsing it again gives the same plan. */
export function planFile({ healthy, stages, ...plan }: RolloutPlan): JsonObject {
  const written = stages.map(({ name, reach, soakSeconds }) => ({ name, [reach.kind]: reach.value, soakSeconds }));
  const { command, rollback, failures, ...rest } = plan;
  return {
    version: 1,
    rollout: { ...rest, failures: { ...failures }, command: { ...command }, ...(rollback ? { rollback: { ...rollback } } : {}), stages: written, ...(healthy ? { healthy: healthy.where } : {}) },
  };
}

/** Who comes first: another order for every roll-out, so that the same gateways are not always the canaries; the same one whenever it is asked. */
export function orderOf(rolloutId: string, gateways: readonly string[]): readonly string[] {
  const rank = new Map(gateways.map((gateway) => [gateway, sha256(Buffer.from(`tenzro/rollout/order/1\0${rolloutId}\0${gateway}`, 'utf8')).toString('hex')]));
  return [...rank.keys()].toSorted((a, b) => ((rank.get(a) ?? '') < (rank.get(b) ?? '') ? -1 : 1));
}

/** Where each stage ends among `total` gateways; never before the stage before it. */
export function stageEnds(stages: readonly StagePlan[], total: number): readonly number[] {
  let end = 0;
  return stages.map(({ reach }) => {
    const wanted = reach.kind === 'count' ? reach.value : Math.ceil((total * reach.value) / WHOLE_PERCENT);
    end = Math.max(end, Math.min(wanted, total));
    return end;
  });
}

/** Failures that are borne among the first `reached` gateways. */
export const failuresBorne = ({ failures }: RolloutPlan, reached: number): number => Math.min(failures.max, Math.floor((failures.percent * reached) / WHOLE_PERCENT));

/** The longest that it takes by its plan, where nobody pauses it: every stage with every wave of `concurrency` answered late, and as long again to undo it all. Seconds. */
export function longestSeconds({ stages, concurrency, attempts, answerSeconds }: RolloutPlan, total: number): number {
  const soaks = stages.reduce((sum, { soakSeconds }) => sum + soakSeconds, 0);
  const waves = stages.length + Math.ceil(total / concurrency);
  return soaks + 2 * waves * attempts * answerSeconds;
}
