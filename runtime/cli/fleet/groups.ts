/** `tenzro fleet groups`: `groups.yaml` of the controller's folder, and whom its groups mean as the gateways report now. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { callController } from '#runtime/controller/apiClient.ts';
import { membersOf, parseGroups, type Group, type Members } from '#runtime/controller/groups.ts';
import type { GatewayView } from '#runtime/controller/query.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { printable } from '#runtime/core/printable.ts';
import { FLEET_NAME } from '#runtime/core/twin.ts';
import { EXIT, type Io } from '../io.ts';
import { inFile, shortList } from './plan.ts';

export interface GroupsFlags {
  readonly dir: string;
  readonly json?: boolean;
}

const fileIn = (dir: string): string => join(dir, 'groups.yaml');

/** None where there is no file. Throws `fleet.file`. */
const groupsIn = (dir: string): ReadonlyMap<string, Group> => (existsSync(fileIn(dir)) ? inFile(fileIn(dir), parseGroups) : new Map());

/** What the gateways, or one of them, report now. Throws `controller.offline`. */
async function viewsIn(dir: string, gateway?: string): Promise<readonly GatewayView[]> {
  const views: GatewayView[] = [];
  await callController(dir, 'fleet.views', gateway === undefined ? {} : { gateway }, { onEvent: (view) => { if (typeof view['id'] === 'string') views.push({ ...view, id: view['id'] }); } });
  return views;
}

/** Whom a name on the command line means: a gateway, also one that was never heard of, or with `@` a group of the folder. Throws `fleet.file`, `cli.usage`, `controller.offline`. */
export async function gatewaysOf(dir: string, target: string): Promise<Members> {
  if (target.startsWith('@')) return membersOf(groupCalled(dir, target.slice(1)), await viewsIn(dir));
  if (!FLEET_NAME.test(target)) throw new TenzroError('cli.usage', `'${target}' is neither a gateway nor @GROUP`);
  return { gateways: [target], unknown: (await viewsIn(dir, target)).length > 0 ? [] : [target] };
}

function groupCalled(dir: string, name: string): Group {
  const groups = groupsIn(dir);
  const group = groups.get(name);
  if (!group) throw new TenzroError('fleet.file', `${fileIn(dir)} has no group ${name}; it has ${[...groups.keys()].join(', ') || 'none'}`);
  return group;
}

export async function fleetGroupsLs(io: Io, { dir, json }: GroupsFlags): Promise<void> {
  const views = await viewsIn(dir);
  const groups = [...groupsIn(dir).values()].map((group) => ({ name: group.name, ...membersOf(group, views), ...(group.kind === 'query' ? { where: group.where } : {}) }));
  if (json) return io.json({ groups: groups.map(({ gateways, ...group }) => ({ ...group, gateways: gateways.length })) });
  if (groups.length === 0) io.line(`no groups: ${printable(fileIn(dir))} would have them`);
  for (const { name, gateways, where } of groups) io.line(`${name.padEnd(20)} ${String(gateways.length).padStart(6)} of ${views.length}  ${where === undefined ? 'a list' : printable(where)}`);
}

/** Exit 1 where it lists gateways that nobody has heard of. */
export async function fleetGroupsShow(io: Io, name: string, { dir, json }: GroupsFlags): Promise<void> {
  const members = await gatewaysOf(dir, `@${name}`);
  if (members.unknown.length > 0) io.exitCode = EXIT.problem;
  if (json) return io.json({ name, ...members });
  for (const gateway of members.gateways) io.line(gateway);
  if (members.unknown.length > 0) io.error(`never heard of: ${shortList(members.unknown)}`);
}

/** Needs no controller. Throws `fleet.file`. */
export function fleetGroupsCheck(io: Io, { dir, json }: GroupsFlags): void {
  const groups = inFile(fileIn(dir), parseGroups);
  if (json) io.json({ groups: groups.size });
  else io.line(`${printable(fileIn(dir))}: ${groups.size} groups, all of them well-formed`);
}
