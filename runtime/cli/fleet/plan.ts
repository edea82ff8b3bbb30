/** `tenzro fleet plan`: what a roll-out would do, from files alone. */
import { statSync } from 'node:fs';
import { parseDocumentText } from '#runtime/config/document.ts';
import { membersOf, parseGroups, parseViews } from '#runtime/controller/groups.ts';
import { matches } from '#runtime/controller/query.ts';
import { failuresBorne, parseRollout, type RolloutPlan } from '#runtime/controller/rolloutPlan.ts';
import { beginRollout } from '#runtime/controller/rolloutState.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { printable } from '#runtime/core/printable.ts';
import { EXIT, type Io } from '../io.ts';
import { read } from '../verify.ts';

export interface PlanFlags {
  readonly groups: string;
  readonly twins: string;
  readonly rollout: string;
  readonly json?: boolean;
}

interface StageView {
  readonly name: string;
  /** Gateways that are touched by its end. */
  readonly reached: number;
  readonly gateways: readonly string[];
  readonly soakSeconds: number;
  readonly failuresBorne: number;
}

const NAMES_SHOWN = 8;
const DRY_RUN = 'DRY RUN over files: nothing is sent, and no gateway and no controller is asked.';

/** Throws `fleet.file`, `cli.usage`. Exit 1 where the group lists gateways that the twins file does not have. */
export function fleetPlan(io: Io, { groups, twins, rollout, json }: PlanFlags): void {
  const plan = inFile(rollout, parseRollout);
  const known = inFile(groups, parseGroups);
  const group = known.get(plan.group);
  if (!group) throw new TenzroError('fleet.file', `${rollout}: rollout.group: ${groups} has no group ${plan.group}; it has ${[...known.keys()].join(', ')}`);
  const views = inFile(twins, parseViews);
  const members = membersOf(group, views);
  const state = beginRollout(plan, members.gateways, 0);
  const stages = plan.stages.map(({ name, soakSeconds }, at): StageView => {
    const [from, reached] = [at === 0 ? 0 : state.ends[at - 1] ?? 0, state.ends[at] ?? 0];
    return { name, reached, gateways: state.gateways.slice(from, reached), soakSeconds, failuresBorne: failuresBorne(plan, reached) };
  });
  const touched = new Set(members.gateways);
  const { healthy } = plan;
  const unhealthyNow = healthy ? views.filter((view) => touched.has(view.id) && !matches(healthy.query, view)).map(({ id }) => id) : [];
  if (members.unknown.length > 0) io.exitCode = EXIT.problem;
  if (json) return io.json({ dryRun: true, rollout: plan.id, group: plan.group, command: plan.command, known: views.length, total: members.gateways.length, unknown: members.unknown, stages, unhealthyNow });
  io.line(io.paint(DRY_RUN, 'yellow'));
  for (const line of headLines(plan, members.gateways.length, views.length)) io.line(line);
  if (healthy) io.line(`health   ${printable(healthy.where)}, at the end of each soak; as they report now, ${unhealthyNow.length === 0 ? 'all would pass' : `${unhealthyNow.length} would not: ${shortList(unhealthyNow)}`}`);
  if (members.unknown.length > 0) io.line(io.paint(`unknown  ${shortList(members.unknown)}: listed in the group, and not in ${printable(twins)}; they would not be touched`, 'red'));
  io.line('');
  for (const [at, stage] of stages.entries()) io.line(stageLine(at, stage, members.gateways.length));
}

function headLines({ id, group, command, rollback, failures, onFailure, concurrency, attempts, answerSeconds }: RolloutPlan, total: number, known: number): readonly string[] {
  const borne = [...(failures.percent < 100 ? [`${failures.percent} % of the gateways reached`] : []), ...(failures.max < LIMITS.rolloutGatewaysMax ? [`${failures.max} in all`] : [])].join(' and ');
  const after = onFailure === 'rollBack' ? 'what changed is rolled back' : 'the rest is left alone';
  return [
    `rollout  ${id}: ${command.type} ${printable(JSON.stringify(command.parameters))}`,
    `group    ${group}: ${total} of ${known} gateways`,
    `pace     ${concurrency} at once, ${attempts} ${attempts === 1 ? 'attempt' : 'attempts'}, ${spanOf(answerSeconds)} to answer`,
    `failures ${borne === '' ? 'any number is borne' : `up to ${borne} are borne; beyond, it stops and ${after}`}${rollback ? '' : '; it has no rollback'}`,
  ];
}

function stageLine(at: number, { name, reached, gateways, soakSeconds, failuresBorne: borne }: StageView, total: number): string {
  const whom = gateways.length === 0 ? 'nobody new' : shortList(gateways);
  return `${at + 1}. ${printable(name)}: ${gateways.length} gateways (${reached} of ${total} reached), soak ${spanOf(soakSeconds)}, stops beyond ${borne} failed\n   ${whom}`;
}

export const shortList = (names: readonly string[]): string => `${names.slice(0, NAMES_SHOWN).join(' ')}${names.length > NAMES_SHOWN ? ` and ${names.length - NAMES_SHOWN} more` : ''}`;

export function spanOf(seconds: number): string {
  for (const [size, unit] of [[86_400, 'd'], [3_600, 'h'], [60, 'min']] as const) if (seconds >= size && seconds % size === 0) return `${seconds / size} ${unit}`;
  return `${seconds} s`;
}

/** JSON where the name says so, which is faster for large fleets; else YAML. */
export function inFile<Result>(path: string, parse: (value: unknown) => Result): Result {
  const text = textOf(path);
  const value = path.endsWith('.json') ? jsonOf(path, text) : yamlOf(path, text);
  try {
    return parse(value);
  } catch (cause) {
    if (cause instanceof TenzroError && cause.code === 'fleet.file') throw new TenzroError('fleet.file', `${path}: ${cause.message}`, { cause });
    throw cause;
  }
}

function textOf(path: string): string {
  const { size } = statSync(path, { throwIfNoEntry: false }) ?? { size: 0 };
  if (size > LIMITS.fleetFileBytesMax) throw new TenzroError('fleet.file', `${path}: ${size} bytes, more than ${LIMITS.fleetFileBytesMax}`);
  return read(path).toString('utf8');
}

function jsonOf(path: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new TenzroError('fleet.file', `${path}: not JSON: ${messageOf(cause)}`, { cause });
  }
}

function yamlOf(path: string, text: string): unknown {
  const { faults: [fault], value } = parseDocumentText(text);
  if (fault) throw new TenzroError('fleet.file', `${path}:${fault.place.line}:${fault.place.column}: ${fault.message}`);
  return value;
}
