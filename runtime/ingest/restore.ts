/**
 * What the decoder learns at start. From the log's tail: redeliveries to expect, who is known, units, and the last values of onChange topics. From what the
 * broker retains: registrations and units that are older than that tail.
 */
import { KIND, READING_BODY, REGISTRATION_BODY, type Cbor, type KindNumber } from '#runtime/core/types.ts';
import { sealedOf } from '#runtime/ledger/confidential.ts';
import type { TagKeys } from './confidential.ts';
import type { Entities } from './entities.ts';
import { digestOf, type Redeliveries } from './redeliveries.ts';
import type { Plans } from './plans.ts';
import { Rejection } from './rejection.ts';
import { decodeRegistration, decodeUnits } from './statements.ts';

interface Memory {
  readonly entities: Entities;
  readonly plans: Plans;
  readonly redeliveries: Redeliveries;
  readonly tagKeys: TagKeys;
}

const OURS: ReadonlySet<KindNumber> = new Set([KIND.reading, KIND.event, KIND.alarm, KIND.registration, KIND.summary]);

/** Entries of other kinds, and bodies that lack what is needed, teach nothing. Call oldest first. */
export function recall(memory: Memory, kind: KindNumber, source: string, body: Cbor): void {
  if (!OURS.has(kind) || !(body instanceof Map)) return;
  const { entities, plans, redeliveries } = memory;
  if (recallSealed(memory, source, body)) return;
  const fields = body as ReadonlyMap<number, Cbor>;
  const topic = fields.get(READING_BODY.topic);
  if (typeof topic !== 'string') return;
  const payload = fields.get(READING_BODY.payload);
  const packetId = fields.get(READING_BODY.packetId);
  if (payload instanceof Uint8Array && typeof packetId === 'number') redeliveries.restore(topic, payload, packetId);
  if (kind === KIND.registration) recallRegistration({ entities, plans }, source, topic, fields);
  else entities.restore(source);
  if (kind === KIND.reading) recallValues(plans, topic, fields.get(READING_BODY.values));
}

/** Of a sealed entry: who sent it, and how to know its message again. The last value of an onChange topic is gone: its next reading counts as a change. */
function recallSealed({ entities, redeliveries, tagKeys }: Memory, source: string, body: Cbor): boolean {
  const sealed = sealedOf(body);
  if (!sealed) return false;
  entities.restore(source);
  const { topic, packetId, tag } = sealed;
  if (packetId !== undefined && tag !== undefined) redeliveries.restoreSealed(topic, packetId, (payload) => tagKeys.matches(sealed, tag, payload));
  return true;
}

function recallRegistration({ entities, plans }: Pick<Memory, 'entities' | 'plans'>, source: string, topic: string, body: ReadonlyMap<number, Cbor>): void {
  const payload = body.get(REGISTRATION_BODY.payload);
  const plan = plans.of(topic);
  if (plan instanceof Rejection || !(payload instanceof Uint8Array)) return entities.restore(source);
  const digest = digestOf(topic, payload);
  if (plan.kind === 'units') {
    const units = body.get(REGISTRATION_BODY.units);
    const pairs = Array.isArray(units) ? (units as readonly (readonly [string, string])[]) : undefined;
    entities.restore(source);
    entities.setUnits(plan.measurement, plans.tableOf(plan.measurement), pairs && new Map(pairs), digest);
  } else if (payload.length === 0) entities.remove(source);
  else entities.register(source, digest);
}

function recallValues(plans: Plans, topic: string, values: Cbor | undefined): void {
  const plan = plans.of(topic);
  if (plan instanceof Rejection || plan.kind !== 'reading' || plan.rule?.mode !== 'onChange' || !Array.isArray(values)) return;
  plan.last = new Map((values as readonly (readonly [string, number, string])[]).map(([channel, value]) => [channel, value]));
}

/** The tail is the newer word: what it said stays. */
export function learnRetained({ entities, plans }: Pick<Memory, 'entities' | 'plans'>, topic: string, payload: Uint8Array): void {
  const plan = plans.of(topic);
  if (plan instanceof Rejection) return;
  if (plan.kind === 'registration' && !entities.isRegistered(plan.source)) {
    if (!(decodeRegistration(payload) instanceof Rejection)) entities.register(plan.source, digestOf(topic, payload));
  } else if (plan.kind === 'units' && !entities.hasUnits(plan.measurement)) {
    const units = decodeUnits(payload);
    if (units instanceof Rejection) return;
    entities.restore(plan.source);
    entities.setUnits(plan.measurement, plans.tableOf(plan.measurement), units, digestOf(topic, payload));
  }
}
