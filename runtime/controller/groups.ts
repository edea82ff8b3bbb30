/** Groups of gateways, by list or by query over what they report; and that report as a file, for dry runs. */
import { TenzroError } from '#runtime/core/errors.ts';
import { boundedJson, type Json } from '#runtime/core/json.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { matches, type GatewayView, type Query } from './query.ts';
import { parseQuery } from './queryParser.ts';
import { asFields, asList, asName, asNamed, asText, wrong } from './shape.ts';

export type Group =
  | { readonly name: string; readonly kind: 'list'; readonly gateways: readonly string[] }
  | { readonly name: string; readonly kind: 'query'; readonly where: string; readonly query: Query };

export interface Members {
  /** Sorted; each once. */
  readonly gateways: readonly string[];
  /** Listed by name, and nobody has heard of them. */
  readonly unknown: readonly string[];
}

/** `{version: 1, groups: {name: {gateways: […]} | {where: query}}}`. Throws `fleet.file`. */
export function parseGroups(value: unknown): ReadonlyMap<string, Group> {
  const file = asFields(value, 'groups file', ['version', 'groups']);
  if (file['version'] !== 1) throw wrong('groups file: version must be 1');
  return new Map(asNamed(file['groups'], 'groups', LIMITS.groupsMax).map(([name, group]) => [name, parseGroup(name, group)]));
}

function parseGroup(name: string, value: unknown): Group {
  const where = `groups.${name}`;
  const group = asFields(value, where, ['gateways', 'where']);
  if ((group['gateways'] === undefined) === (group['where'] === undefined)) throw wrong(`${where} needs either gateways or where`);
  if (group['where'] === undefined) return { name, kind: 'list', gateways: asList(group['gateways'], `${where}.gateways`, LIMITS.fleetGatewaysMax).map((gateway, at) => asName(gateway, `${where}.gateways[${at}]`)) };
  const text = asText(group['where'], `${where}.where`);
  return { name, kind: 'query', where: text, query: queryAt(text, `${where}.where`) };
}

/** Throws `fleet.file` with the key and the column. */
export function queryAt(text: string, name: string): Query {
  try {
    return parseQuery(text);
  } catch (cause) {
    if (cause instanceof TenzroError) throw new TenzroError('fleet.file', `${name}: ${cause.message}`, { cause });
    throw cause;
  }
}

/** `{version: 1, gateways: {id: {twin: …, health: …}}}`: what the gateways report. Throws `fleet.file`. */
export function parseViews(value: unknown): readonly GatewayView[] {
  const file = asFields(value, 'twins file', ['version', 'gateways']);
  if (file['version'] !== 1) throw wrong('twins file: version must be 1');
  return asNamed(file['gateways'], 'gateways', LIMITS.fleetGatewaysMax).map(([id, reported]) => {
    const fields = boundedJson(reported ?? {}, { depthMax: LIMITS.twinDepthMax + 2, valuesMax: LIMITS.twinValuesMax }, (why) => wrong(`gateways.${id}: ${why}`));
    return { ...(asFields(fields, `gateways.${id}`, ['twin', 'health']) as Readonly<Record<string, Json>>), id };
  });
}

export function membersOf(group: Group, views: readonly GatewayView[]): Members {
  if (group.kind === 'query') return { gateways: views.filter((view) => matches(group.query, view)).map(({ id }) => id).toSorted(), unknown: [] };
  const known = new Set(views.map(({ id }) => id));
  const listed = [...new Set(group.gateways)].toSorted();
  return { gateways: listed.filter((id) => known.has(id)), unknown: listed.filter((id) => !known.has(id)) };
}
