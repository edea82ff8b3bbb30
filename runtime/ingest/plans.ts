/** What to do with a topic, worked out at its first message and kept: the hot path does not parse topics. */
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { IngestSettings, RecordRule } from '#runtime/core/settings.ts';
import { ERRORS_TOPIC, isTe, matchesFilter, parseTopic, type TeTopic } from '#runtime/core/topic.ts';
import type { Entities, UnitTable } from './entities.ts';
import { Mappings, type MappedTopic } from './mapping.ts';
import { dropOldest } from './redeliveries.ts';
import { Rejection } from './rejection.ts';

/** A topic whose messages become readings. */
export interface ReadingPlan {
  readonly kind: 'reading';
  readonly source: string;
  readonly table: UnitTable;
  /** Absent for thin-edge's own format. */
  readonly mapped: MappedTopic | undefined;
  readonly confidential: boolean;
  /** Absent: every message is recorded. */
  readonly rule: RecordRule | undefined;
  /** onChange: the last recorded values by channel. */
  last: ReadonlyMap<string, number> | undefined;
}

export type Plan =
  | ReadingPlan
  | { readonly kind: 'event' | 'alarm'; readonly source: string; readonly confidential: boolean }
  | { readonly kind: 'registration'; readonly source: string }
  /** Units of `measurement`, a topic of its own. */
  | { readonly kind: 'units'; readonly source: string; readonly measurement: string }
  | { readonly kind: 'unrecorded' };

const UNRECORDED: Plan = { kind: 'unrecorded' };
const META_SUFFIX = 'meta';

export class Plans {
  readonly #rules: readonly RecordRule[];
  readonly #mappings: Mappings;
  readonly #entities: Entities;
  readonly #plans = new Map<string, Plan>();

  /** Throws `ingest.mapping_rule`. */
  constructor(settings: IngestSettings, entities: Entities) {
    this.#rules = settings.record;
    this.#mappings = new Mappings(settings.mappings);
    this.#entities = entities;
  }

  of(topic: string): Plan | Rejection {
    const known = this.#plans.get(topic);
    if (known !== undefined) return known;
    const plan = this.#make(topic);
    if (plan instanceof Rejection) return plan;
    if (this.#plans.size >= LIMITS.topicPlansMax) dropOldest(this.#plans);
    this.#plans.set(topic, plan);
    return plan;
  }

  /** The table that readings of `measurement` use now. */
  tableOf(measurement: string): UnitTable {
    const plan = this.#plans.get(measurement);
    return plan?.kind === 'reading' ? plan.table : this.#entities.unitsOf(measurement);
  }

  #make(topic: string): Plan | Rejection {
    if (topic === ERRORS_TOPIC) return UNRECORDED;
    if (isTe(topic)) return this.#thinEdge(topic);
    const mapped = this.#mappings.match(topic);
    if (mapped === undefined) return UNRECORDED;
    return mapped instanceof Rejection ? mapped : this.#reading(topic, mapped.source, mapped);
  }

  #thinEdge(topic: string): Plan | Rejection {
    let parsed: TeTopic;
    try {
      parsed = parseTopic(topic);
    } catch (error) {
      if (error instanceof TenzroError) return new Rejection(error.code, error.message);
      throw error;
    }
    const { entity: source } = parsed;
    if (parsed.kind === 'registration') return { kind: 'registration', source };
    if (parsed.channel === 'm' && parsed.suffix === META_SUFFIX) return { kind: 'units', source, measurement: topic.slice(0, -META_SUFFIX.length - 1) };
    if (parsed.suffix !== '') return UNRECORDED;
    if (parsed.channel === 'm') return this.#reading(topic, source, undefined);
    if (parsed.channel !== 'e' && parsed.channel !== 'a') return UNRECORDED;
    return { kind: parsed.channel === 'e' ? 'event' : 'alarm', source, confidential: this.#ruleOf(topic)?.confidential ?? false };
  }

  #ruleOf(topic: string): RecordRule | undefined { return this.#rules.find((one) => matchesFilter(one.topic, topic)); }

  #reading(topic: string, source: string, mapped: MappedTopic | undefined): Plan {
    const rule = this.#ruleOf(topic);
    if (rule?.mode === 'never') return UNRECORDED;
    return { kind: 'reading', source, table: this.#entities.unitsOf(topic), mapped, rule, confidential: rule?.confidential ?? false, last: undefined };
  }
}
