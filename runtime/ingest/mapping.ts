/** Foreign devices' topics to readings, by the rules of `ingest.mappings`. Rules are compiled once; a topic is matched once. */
import { TenzroError } from '#runtime/core/errors.ts';
import type { MappingRule } from '#runtime/core/settings.ts';
import { matchesFilter, parseTopic } from '#runtime/core/topic.ts';
import { parseJson, textOf } from './json.ts';
import { nameFault, rangeFault, type Decoded, type Value } from './measurement.ts';
import { Rejection, quoted } from './rejection.ts';

/** A rule bound to one topic. */
export interface MappedTopic {
  readonly rule: string;
  readonly source: string;
  readonly values: readonly { readonly steps: readonly Step[] | undefined; readonly channel: string; readonly unit: string }[];
}
type Step = string | number;

export class Mappings {
  readonly #rules: readonly { readonly rule: MappingRule; readonly steps: readonly (readonly Step[] | undefined)[] }[];

  /** Throws `ingest.mapping_rule` for a path that is none. */
  constructor(rules: readonly MappingRule[]) {
    this.#rules = rules.map((rule) => ({ rule, steps: rule.values.map(({ path }) => (path === undefined ? undefined : stepsOf(path, rule.name))) }));
  }

  /** The first rule that matches, bound to the topic; undefined when none does. */
  match(topic: string): MappedTopic | Rejection | undefined {
    const found = this.#rules.find(({ rule }) => matchesFilter(rule.topic, topic));
    if (!found) return undefined;
    const { rule, steps } = found;
    const levels = topic.split('/');
    const captures = rule.topic.split('/').flatMap((level, i) => (level === '+' ? [levels[i] ?? ''] : []));
    const fill = (template: string): string => template.replaceAll(/\{(\d+)\}/g, (_, number: string) => captures[Number(number) - 1] ?? '');
    const source = fill(rule.source);
    if (!isEntity(source)) return new Rejection('ingest.mapping', `rule ${quoted(rule.name)} makes ${quoted(source)}, which is no entity`);
    const values = rule.values.map(({ channel, unit }, i) => ({ steps: steps[i], channel: fill(channel), unit }));
    const fault = values.flatMap(({ channel }) => channel.split('.')).map(nameFault).find((one) => one !== undefined);
    return fault ?? { rule: rule.name, source, values };
  }
}

/**
 * Values that the payload lacks (or has as null: "unknown" in Zigbee2MQTT) are left out: many devices send only what changed. Finding none is
 * `ingest.mapping`. Numbers in strings count as numbers, true and false as 1 and 0.
 */
export function decodeMapped(payload: Uint8Array, mapped: MappedTopic): Decoded | Rejection {
  const values: Value[] = [];
  let root: unknown;
  for (const { steps, channel, unit } of mapped.values) {
    if (steps !== undefined && root === undefined) {
      const parsed = parseJson(payload);
      if (parsed instanceof Rejection) return parsed;
      root = parsed.value;
    }
    const found = steps === undefined ? textOf(payload) : walk(root, steps);
    if (found instanceof Rejection) return found;
    if (found === undefined || found === null) continue;
    const value = numberOf(found);
    if (value === undefined) return new Rejection('ingest.not_a_number', `${quoted(channel)} is ${typeof found === 'string' ? quoted(found) : typeof found}`);
    const fault = rangeFault(channel, value);
    if (fault) return fault;
    values.push([channel, value, unit]);
  }
  if (values.length === 0) return new Rejection('ingest.mapping', `rule ${quoted(mapped.rule)} found none of its values`);
  return { values, sensorMicros: undefined, simulated: walk(root, ['simulated']) === true };
}

const NUMBER = /^[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?$/;

function numberOf(found: unknown): number | undefined {
  if (typeof found === 'number') return found;
  if (typeof found === 'boolean') return found ? 1 : 0;
  if (typeof found !== 'string') return undefined;
  const text = found.trim();
  return NUMBER.test(text) ? Number(text) : undefined;
}

/** Own properties only: `__proto__` and `constructor` lead nowhere. */
function walk(root: unknown, steps: readonly Step[]): unknown {
  let at = root;
  for (const step of steps) {
    if (typeof at !== 'object' || at === null || Array.isArray(at) !== (typeof step === 'number') || !Object.hasOwn(at, step)) return undefined;
    at = (at as Readonly<Record<Step, unknown>>)[step];
  }
  return at;
}

const PART = /^([^.[\]]*)((?:\[\d+\])*)$/;

/** `a.b[0]` and `[1].c`: names joined by dots, each with any number of indices. */
function stepsOf(path: string, rule: string): Step[] {
  return path.split('.').flatMap((part, i) => {
    const [, name = '', indices = ''] = PART.exec(part) ?? [];
    if (name === '' && (indices === '' || i > 0)) throw new TenzroError('ingest.mapping_rule', `rule '${rule}': '${path}' is not a path`);
    const numbers = Array.from(indices.matchAll(/\d+/g), ([digits]) => Number(digits));
    return name === '' ? numbers : [name, ...numbers];
  });
}

function isEntity(source: string): boolean {
  try {
    return parseTopic(`te/${source}`).kind === 'registration';
  } catch {
    return false; // the caller says which rule
  }
}
