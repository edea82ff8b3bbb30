/**
 * Bytes in, entries out: the `Decoder` of core/ports.ts. Runs in the writer thread, one message at a time, and never waits. Nothing that a
 * message holds can make it throw; what is wrong comes back as a rejection with a stable code (docs/reference/topics.md).
 */
import { invariant } from '#runtime/core/errors.ts';
import type { DecodeOutcome, Decoder, InboundRecord } from '#runtime/core/ports.ts';
import type { IngestSettings } from '#runtime/core/settings.ts';
import {
  ALARM_BODY, EVENT_BODY, KIND, READING_BODY, READING_FLAG, REGISTRATION_BODY, SUMMARY_BODY, type Cbor, type Draft, type KindNumber,
} from '#runtime/core/types.ts';
import type { Recipient } from '#runtime/ledger/confidential.ts';
import { Confidential, NO_TAG_KEYS, type TagKeys } from './confidential.ts';
import { Entities, type RegistrationHow } from './entities.ts';
import { decodeMapped } from './mapping.ts';
import { decodeMeasurement, type Decoded } from './measurement.ts';
import { Plans, type Plan, type ReadingPlan } from './plans.ts';
import { digestOf, Redeliveries } from './redeliveries.ts';
import { Rejection } from './rejection.ts';
import { learnRetained, recall } from './restore.ts';
import { decodeAlarm, decodeEvent, decodeRegistration, decodeUnits } from './statements.ts';
import { Summaries } from './summaries.ts';

const SKIP = {
  unrecorded: { kind: 'skip', reason: 'unrecorded' },
  unchanged: { kind: 'skip', reason: 'unchanged' },
  duplicate: { kind: 'skip', reason: 'duplicate' },
  summarised: { kind: 'skip', reason: 'summarised' },
} as const satisfies Record<string, DecodeOutcome>;

export interface Confidentiality {
  readonly recipients: readonly Recipient[];
  readonly tagKeys: TagKeys;
}

const NOBODY: Confidentiality = { recipients: [], tagKeys: NO_TAG_KEYS };

/** Throws `ingest.mapping_rule` for settings that cannot work. */
export const createDecoder = (settings: IngestSettings, confidentiality: Confidentiality = NOBODY): Decoder => new IngestDecoder(settings, confidentiality);

class IngestDecoder implements Decoder {
  readonly #entities: Entities;
  readonly #plans: Plans;
  readonly #redeliveries = new Redeliveries();
  readonly #summaries = new Summaries();
  readonly #tagKeys: TagKeys;
  readonly #confidential: Confidential;

  constructor(settings: IngestSettings, { recipients, tagKeys }: Confidentiality) {
    invariant(recipients.length > 0 || !settings.record.some((rule) => rule.confidential), 'what is confidential has somebody who can read it');
    this.#tagKeys = tagKeys;
    this.#confidential = new Confidential(recipients, tagKeys);
    this.#entities = new Entities(settings.registration);
    this.#plans = new Plans(settings, this.#entities);
  }

  decode(record: InboundRecord): DecodeOutcome {
    const plan = this.#plans.of(record.topic);
    if (plan instanceof Rejection) return plan;
    if (plan.kind === 'unrecorded') return SKIP.unrecorded;
    if (record.duplicate && record.packetId !== 0 && this.#redeliveries.known(record)) return SKIP.duplicate;
    const outcome = this.#decodeBy(plan, record);
    if (record.packetId !== 0 && outcome.kind !== 'reject') this.#redeliveries.accepted(record);
    return outcome.kind === 'record' && isConfidential(plan) ? this.#confidential.sealMessage(outcome, record) : outcome;
  }

  due(wallMicros: number, monoMicros: number): readonly Draft[] {
    return this.#drafts(monoMicros, wallMicros, monoMicros);
  }

  drain(wallMicros: number, monoMicros: number): readonly Draft[] {
    return this.#drafts(Infinity, wallMicros, monoMicros);
  }

  remember(entryKind: KindNumber, source: string, body: Cbor): void {
    recall({ entities: this.#entities, plans: this.#plans, redeliveries: this.#redeliveries, tagKeys: this.#tagKeys }, entryKind, source, body);
  }

  learn(topic: string, payload: Uint8Array): void {
    learnRetained({ entities: this.#entities, plans: this.#plans }, topic, payload);
  }

  #drafts(closeUntilMicros: number, wallMicros: number, monoMicros: number): readonly Draft[] {
    const firstSeen = this.#entities.takeFirstSeen();
    const summaries = this.#summaries.takeClosed(closeUntilMicros);
    if (firstSeen.length + summaries.length === 0) return [];
    const stamped = (kind: KindNumber) => (one: { source: string; body: Cbor }): Draft => ({ kind, source: one.source, wallMicros, monoMicros, body: one.body });
    return [...firstSeen.map(stamped(KIND.registration)), ...summaries.map(stamped(KIND.summary)).flatMap((draft) => this.#sealSummary(draft))];
  }

  #sealSummary(draft: Draft): readonly Draft[] {
    const topic = draft.body instanceof Map ? (draft.body as ReadonlyMap<number, Cbor>).get(SUMMARY_BODY.topic) : undefined;
    const plan = typeof topic === 'string' ? this.#plans.of(topic) : undefined;
    return plan !== undefined && !(plan instanceof Rejection) && isConfidential(plan) ? this.#confidential.sealDraft(draft) : [draft];
  }

  #decodeBy(plan: Exclude<Plan, { kind: 'unrecorded' }>, record: InboundRecord): DecodeOutcome {
    switch (plan.kind) {
      case 'reading': return this.#reading(plan, record);
      case 'event': return this.#event(plan.source, record);
      case 'alarm': return this.#alarm(plan.source, record);
      case 'registration': return this.#registration(plan.source, record);
      default: return this.#units(plan.source, plan.measurement, record);
    }
  }

  #reading(plan: ReadingPlan, record: InboundRecord): DecodeOutcome {
    const { source, mapped, rule } = plan;
    const decoded = mapped ? decodeMapped(record.payload, mapped) : decodeMeasurement(record.payload, plan.table.units);
    if (decoded instanceof Rejection) return decoded;
    const fault = this.#entities.admit(source, record.topic, { configured: mapped !== undefined });
    if (fault) return fault;
    if (rule?.mode === 'onChange' && !hasChanged(plan, decoded, rule.deadband)) return SKIP.unchanged;
    const flags = flagsOf(record, decoded.simulated);
    const body = new Map<number, Cbor>();
    body.set(READING_BODY.topic, record.topic);
    body.set(READING_BODY.payload, record.payload);
    body.set(READING_BODY.values, decoded.values);
    body.set(READING_BODY.flags, flags);
    if (decoded.sensorMicros !== undefined) body.set(READING_BODY.sensorMicros, decoded.sensorMicros);
    if (mapped) body.set(READING_BODY.mapping, mapped.rule);
    if (record.packetId !== 0) body.set(READING_BODY.packetId, record.packetId);
    if (rule?.mode !== 'summary') return { kind: 'record', entryKind: KIND.reading, source, body };
    const { topic, wallMicros, monoMicros } = record;
    this.#summaries.add({ topic, source, values: decoded.values, body, flags, wallMicros, monoMicros }, rule.windowMs);
    return SKIP.summarised;
  }

  #event(source: string, record: InboundRecord): DecodeOutcome {
    const event = decodeEvent(record.payload);
    if (event instanceof Rejection) return event;
    const fault = this.#entities.admit(source, record.topic, { configured: false });
    if (fault) return fault;
    const body = statementBody(record, event.simulated);
    if (event.text !== undefined) body.set(EVENT_BODY.text, event.text);
    if (event.sensorMicros !== undefined) body.set(EVENT_BODY.sensorMicros, event.sensorMicros);
    return { kind: 'record', entryKind: KIND.event, source, body };
  }

  /** An empty payload clears the alarm: thin-edge's way, and MQTT's for a retained message. */
  #alarm(source: string, record: InboundRecord): DecodeOutcome {
    const alarm = record.payload.length === 0 ? undefined : decodeAlarm(record.payload);
    if (alarm instanceof Rejection) return alarm;
    const fault = this.#entities.admit(source, record.topic, { configured: false });
    if (fault) return fault;
    const body = statementBody(record, alarm?.simulated ?? false);
    if (alarm === undefined) body.set(ALARM_BODY.flags, flagsOf(record, false) | READING_FLAG.alarmClear);
    else {
      if (alarm.text !== undefined) body.set(ALARM_BODY.text, alarm.text);
      if (alarm.sensorMicros !== undefined) body.set(ALARM_BODY.sensorMicros, alarm.sensorMicros);
      body.set(ALARM_BODY.severity, alarm.severity);
    }
    return { kind: 'record', entryKind: KIND.alarm, source, body };
  }

  #registration(source: string, record: InboundRecord): DecodeOutcome {
    if (record.payload.length === 0) return registered(source, record, this.#entities.remove(source), 'removed', false);
    const statement = decodeRegistration(record.payload);
    if (statement instanceof Rejection) return statement;
    const result = this.#entities.register(source, digestOf(record.topic, record.payload));
    return registered(source, record, result, 'message', statement.simulated, (body) => {
      body.set(REGISTRATION_BODY.type, statement.type);
      if (statement.name !== undefined) body.set(REGISTRATION_BODY.name, statement.name);
    });
  }

  #units(source: string, measurement: string, record: InboundRecord): DecodeOutcome {
    const units = record.payload.length === 0 ? undefined : decodeUnits(record.payload);
    if (units instanceof Rejection) return units;
    const fault = this.#entities.admit(source, record.topic, { configured: false });
    if (fault) return fault;
    const result = this.#entities.setUnits(measurement, this.#plans.tableOf(measurement), units, digestOf(record.topic, record.payload));
    return registered(source, record, result, units ? 'metadata' : 'removed', false, (body) => {
      if (units) body.set(REGISTRATION_BODY.units, [...units]);
    });
  }
}

const isConfidential = (plan: Plan): boolean => 'confidential' in plan && plan.confidential;

function flagsOf(record: InboundRecord, simulated: boolean): number {
  return (record.duplicate ? READING_FLAG.duplicate : 0) | (record.retain ? READING_FLAG.retained : 0) | (simulated ? READING_FLAG.simulated : 0);
}

/** The keys that all bodies share. */
function statementBody(record: InboundRecord, simulated: boolean): Map<number, Cbor> {
  const body = new Map<number, Cbor>([[EVENT_BODY.topic, record.topic], [EVENT_BODY.payload, record.payload], [EVENT_BODY.flags, flagsOf(record, simulated)]]);
  if (record.packetId !== 0) body.set(EVENT_BODY.packetId, record.packetId);
  return body;
}

function registered(
  source: string, record: InboundRecord, result: 'changed' | 'unchanged' | Rejection, how: RegistrationHow, simulated: boolean, fill?: (body: Map<number, Cbor>) => void,
): DecodeOutcome {
  if (result instanceof Rejection) return result;
  if (result === 'unchanged') return SKIP.unchanged;
  const body = statementBody(record, simulated);
  body.set(REGISTRATION_BODY.how, how);
  fill?.(body);
  return { kind: 'record', entryKind: KIND.registration, source, body };
}

/** Changed: other channels than last time, or one that moved by at least the deadband (by anything, where it is 0). Keeps what will be recorded. */
function hasChanged(plan: ReadingPlan, { values }: Decoded, deadband: number): boolean {
  const { last } = plan;
  const same = last?.size === values.length && values.every(([channel, value]) => {
    const before = last.get(channel);
    return before !== undefined && (value === before || Math.abs(value - before) < deadband);
  });
  if (!same) plan.last = new Map(values.map(([channel, value]) => [channel, value]));
  return !same;
}
