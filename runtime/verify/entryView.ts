/** An entry as people and JSON read it: names for keys, text for printable bytes, hexadecimal for the rest. */
import { isoOfMicros } from '#runtime/core/clock.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import {
  ALARM_BODY, BOOT_BODY, CLAIM_BODY, CLOCK_STEP_BODY, COMMAND_BODY, CONFIG_BODY, ENROLMENT_BODY, EPOCH_BODY, EVENT_BODY, GAP_BODY, INFERENCE_BODY, KEY_EPOCH_BODY, KIND, kindName, LEASE_BODY, MEASUREMENT_BODY, MODEL_BODY, READING_BODY, READING_FLAG,
  REGISTRATION_BODY, RESULT_BODY, SEALED_BODY, SHUTDOWN_BODY, SUMMARY_BODY, UPDATE_BODY,
  type Cbor, type Entry,
} from '#runtime/core/types.ts';
import { isSealed } from '#runtime/ledger/confidential.ts';

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

export interface EntryView {
  readonly index: number;
  readonly kind: string;
  readonly source: string;
  /** ISO 8601. */
  readonly time: string;
  readonly bootEpoch: number;
  readonly body: Json;
}

export function viewEntry(index: number, entry: Entry): EntryView {
  const { kind, source, wallMicros, bootEpoch, body } = entry;
  return { index, kind: kindName(kind) ?? `kind ${kind}`, source, time: isoOfMicros(wallMicros), bootEpoch, body: viewBody(entry.kind, body) };
}

const namesOf = (keys: Readonly<Record<string, number>>): ReadonlyMap<number, string> => new Map(Object.entries(keys).map(([name, key]) => [key, name]));
const BODY_NAMES: ReadonlyMap<number, ReadonlyMap<number, string>> = new Map([
  [KIND.reading, namesOf(READING_BODY)], [KIND.event, namesOf(EVENT_BODY)], [KIND.alarm, namesOf(ALARM_BODY)], [KIND.registration, namesOf(REGISTRATION_BODY)],
  [KIND.summary, namesOf(SUMMARY_BODY)], [KIND.inference, namesOf(INFERENCE_BODY)], [KIND.gap, namesOf(GAP_BODY)], [KIND.boot, namesOf(BOOT_BODY)],
  [KIND.clockStep, namesOf(CLOCK_STEP_BODY)], [KIND.epoch, namesOf(EPOCH_BODY)], [KIND.shutdown, namesOf(SHUTDOWN_BODY)], [KIND.config, namesOf(CONFIG_BODY)], [KIND.keyEpoch, namesOf(KEY_EPOCH_BODY)], [KIND.model, namesOf(MODEL_BODY)],
  [KIND.enrolment, namesOf(ENROLMENT_BODY)], [KIND.measurement, namesOf(MEASUREMENT_BODY)], [KIND.lease, namesOf(LEASE_BODY)], [KIND.claim, namesOf(CLAIM_BODY)], [KIND.update, namesOf(UPDATE_BODY)],
  [KIND.command, namesOf(COMMAND_BODY)], [KIND.result, namesOf(RESULT_BODY)],
]);

const SEALED_NAMES = namesOf(SEALED_BODY);

function viewBody(kind: number, body: Cbor): Json {
  const names = isSealed(body) ? SEALED_NAMES : BODY_NAMES.get(kind);
  if (!(body instanceof Map) || !names) return viewValue(body);
  const named = [...(body as ReadonlyMap<number, Cbor>)].map(([key, value]): [string, Json] => {
    const name = names.get(key) ?? String(key);
    return [name, viewField(name, value)];
  });
  return Object.fromEntries(named);
}

function viewField(name: string, value: Cbor): Json {
  if (name === 'flags' && typeof value === 'number') return Object.entries(READING_FLAG).filter(([, bit]) => (value & bit) !== 0).map(([flag]) => flag);
  if ((name === 'log' || name === 'statement') && value instanceof Uint8Array) return `${value.length} bytes, SHA-256 ${toHex(sha256(value))}`;
  if (name === 'values' && Array.isArray(value)) return (value as readonly Cbor[]).map(viewChannel);
  return viewValue(value);
}

function viewChannel(value: Cbor): Json {
  const [channel, number, unit] = Array.isArray(value) ? (value as readonly Cbor[]) : [];
  if (typeof channel !== 'string' || typeof number !== 'number' || typeof unit !== 'string') return viewValue(value);
  return { channel, value: number, unit };
}

function viewValue(value: Cbor): Json {
  if (value instanceof Uint8Array) return viewBytes(value);
  if (value instanceof Map) return Object.fromEntries([...(value as ReadonlyMap<number, Cbor>)].map(([key, field]) => [String(key), viewValue(field)]));
  if (Array.isArray(value)) return (value as readonly Cbor[]).map(viewValue);
  if (typeof value === 'bigint') return value.toString();
  return value as string | number | boolean | null;
}

/** Payloads are mostly JSON text; what is not printable UTF-8 is told apart by its prefix. */
function viewBytes(bytes: Uint8Array): string {
  const text = Buffer.from(bytes).toString('utf8');
  const faithful = bytes.length > 0 && Buffer.from(text, 'utf8').equals(bytes) && !/(?![\n\r\t])[\p{Cc}\p{Cf}]/u.test(text);
  return faithful ? text : `hex:${toHex(bytes)}`;
}
