/** Who is known here, and in which units they measure. Becoming known is itself an entry. */
import { LIMITS } from '#runtime/core/limits.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { REGISTRATION_BODY, type Cbor, type REGISTRATION_HOW } from '#runtime/core/types.ts';
import type { Units } from './measurement.ts';
import { Rejection, quoted } from './rejection.ts';

export type RegistrationHow = (typeof REGISTRATION_HOW)[number];

/** Units of one measurement topic; shared with whoever decodes that topic, so that metadata counts from the next reading on. */
export interface UnitTable { units: Units }

const NO_UNITS: Units = new Map();
/** The payload of what the gateway registered by itself. */
const UNSTATED = -1;

export class Entities {
  readonly #explicit: boolean;
  /** Entity to the digest of its last registration. */
  readonly #known = new Map<string, number>([[MAIN_ENTITY, UNSTATED]]);
  /** Measurement topic to its units and the digest of the metadata that said so. */
  readonly #tables = new Map<string, { table: UnitTable; digest: number }>();
  #firstSeen: { source: string; body: ReadonlyMap<number, Cbor> }[] = [];

  constructor(registration: 'auto' | 'explicit') { this.#explicit = registration === 'explicit'; }

  /** Lets an entity's message in: registers the unknown one, or refuses it. `configured`: a mapping rule vouches for it. */
  admit(source: string, topic: string, { configured }: { configured: boolean }): Rejection | undefined {
    if (this.#known.has(source)) return undefined;
    if (this.#explicit && !configured) return new Rejection('ingest.unregistered', `${quoted(source)} is not registered`);
    const fault = this.#roomFault();
    if (fault) return fault;
    this.#known.set(source, UNSTATED);
    this.#firstSeen.push({ source, body: new Map<number, Cbor>([[REGISTRATION_BODY.topic, topic], [REGISTRATION_BODY.how, 'firstSeen']]) });
    return undefined;
  }

  /** Registrations that the gateway made by itself since the last call. */
  takeFirstSeen(): readonly { readonly source: string; readonly body: Cbor }[] {
    if (this.#firstSeen.length === 0) return this.#firstSeen;
    const taken = this.#firstSeen;
    this.#firstSeen = [];
    return taken;
  }

  /** `unchanged` when the same was said before: retained registrations come again at every connect. */
  register(source: string, digest: number): 'changed' | 'unchanged' | Rejection {
    const before = this.#known.get(source);
    if (before === digest) return 'unchanged';
    const fault = before === undefined ? this.#roomFault() : undefined;
    if (fault) return fault;
    this.#known.set(source, digest);
    this.#firstSeen = this.#firstSeen.filter((one) => one.source !== source);
    return 'changed';
  }

  remove(source: string): 'changed' | 'unchanged' {
    return source !== MAIN_ENTITY && this.#known.delete(source) ? 'changed' : 'unchanged';
  }

  unitsOf(topic: string): UnitTable { return this.#tables.get(topic)?.table ?? { units: NO_UNITS }; }

  /** `table` is what readers of that topic hold already. No units: the metadata was withdrawn. */
  setUnits(topic: string, table: UnitTable, units: Units | undefined, digest: number): 'changed' | 'unchanged' | Rejection {
    const before = this.#tables.get(topic);
    if (units === undefined) {
      table.units = NO_UNITS;
      return this.#tables.delete(topic) ? 'changed' : 'unchanged';
    }
    if (before?.digest === digest) return 'unchanged';
    if (!before && this.#tables.size >= LIMITS.entitiesMax) return new Rejection('ingest.too_many_entities', `units of ${LIMITS.entitiesMax} measurements are known already`);
    table.units = units;
    this.#tables.set(topic, { table, digest });
    return 'changed';
  }

  /** False for what only sent something, and for strangers. */
  isRegistered(source: string): boolean { return (this.#known.get(source) ?? UNSTATED) !== UNSTATED; }

  hasUnits(topic: string): boolean { return this.#tables.has(topic); }

  /** The log says that this entity was known. */
  restore(source: string): void {
    if (!this.#known.has(source) && !this.#roomFault()) this.#known.set(source, UNSTATED);
  }

  #roomFault(): Rejection | undefined {
    return this.#known.size < LIMITS.entitiesMax ? undefined : new Rejection('ingest.too_many_entities', `${LIMITS.entitiesMax} entities are known already`);
  }
}
