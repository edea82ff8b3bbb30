/**
 * The part of the configuration that a fleet may set: the value of the twin `config`. What says who this gateway is, whom it obeys, who reads its secrets and
 * what it is wired to is decided at the machine; hashes of passwords are not told to anybody.
 */
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { canonicalJson, isJsonObject, type Json, type JsonObject } from '#runtime/core/json.ts';
import { parseDocumentText, withSections } from './document.ts';
import { ConfigError, problemLine, readConfigText } from './load.ts';

/** Sections that the fleet may set, and the keys in them that it may not. */
const FLEET_SECTIONS: ReadonlyMap<string, readonly string[]> = new Map([
  ['mqtt', ['users']], ['ingest', []], ['system', []], ['infer', ['runtimeDir']], ['ledger', []], ['attest', ['tpm']], ['verifier', []], ['uplinks', []], ['log', []],
]);

/** What a file of this text says in those sections; {} for what is no configuration. */
export function fleetPartOf(text: string): JsonObject {
  const document = sectionsOf(text);
  return Object.fromEntries([...FLEET_SECTIONS].flatMap(([name, local]) => {
    const section = document[name];
    if (section === undefined) return [];
    return [[name, isJsonObject(section) ? without(section, local) : section] as const];
  }));
}

/** Whether two values of the twin say the same: empty sections say nothing. */
export const isSamePart = (a: Json, b: Json): boolean => canonicalJson(tidied(a)) === canonicalJson(tidied(b));

/** Why the gateway would not take the value, in the words of `tenzro config check`; undefined: it would. */
export function faultOfPart(value: Json, text: string, file: string, appRoot: string): string | undefined {
  try {
    readConfigText(withPart(text, value), file, appRoot);
    return undefined;
  } catch (cause) {
    if (cause instanceof ConfigError) return cause.problems.map((problem) => problemLine({ ...problem, where: 'config', place: undefined })).join('; ');
    return messageOf(cause);
  }
}

/** The text with the value in place of its part; what else stands in it stays, comments too. Throws `twin.malformed` for keys that are not the fleet's. */
export function withPart(text: string, value: Json): string {
  if (!isJsonObject(value)) throw malformed('a configuration is a section');
  for (const key of Object.keys(value)) if (!FLEET_SECTIONS.has(key)) throw malformed(`${key}: not the fleet's to set: it may set ${[...FLEET_SECTIONS.keys()].join(', ')}`);
  const held = sectionsOf(text);
  const changed = [...FLEET_SECTIONS].flatMap(([name, local]): (readonly [string, Json | undefined])[] => {
    const [before, after] = [held[name], merged(name, held[name], value[name], local)];
    return canonicalJson(before ?? null) === canonicalJson(after ?? null) ? [] : [[name, after]];
  });
  return changed.length === 0 ? text : withSections(text, new Map(changed));
}

function merged(name: string, before: Json | undefined, after: Json | undefined, local: readonly string[]): Json | undefined {
  if (after !== undefined && hasNull(after)) throw malformed(`${name}: null is no value: leave the key out`);
  if (after !== undefined && !isJsonObject(after)) {
    if (local.length > 0) throw malformed(`${name}: expected a section`);
    return after;
  }
  for (const key of Object.keys(after ?? {})) if (local.includes(key)) throw malformed(`${name}.${key}: not the fleet's to set`);
  const kept = isJsonObject(before) ? Object.fromEntries(Object.entries(before).filter(([key]) => local.includes(key))) : {};
  const section = { ...after, ...kept };
  return Object.keys(section).length === 0 ? undefined : section;
}

function sectionsOf(text: string): JsonObject {
  const { value } = parseDocumentText(text);
  return isJsonObject(value) ? value : {};
}

const without = (section: JsonObject, keys: readonly string[]): JsonObject => Object.fromEntries(Object.entries(section).filter(([key]) => !keys.includes(key)));
const isEmpty = (value: Json): boolean => isJsonObject(value) && Object.keys(value).length === 0;
const hasNull = (value: Json): boolean => value === null || (typeof value === 'object' && Object.values(value).some((inner) => hasNull(inner)));

function tidied(value: Json): Json {
  if (!isJsonObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, tidied(inner)] as const).filter(([, inner]) => !isEmpty(inner)));
}

const malformed = (why: string): TenzroError => new TenzroError('twin.malformed', why);
