/** Events, alarms, registrations and units metadata of thin-edge: the messages that say something other than numbers. */
import { LIMITS } from '#runtime/core/limits.ts';
import { ALARM_SEVERITIES } from '#runtime/core/types.ts';
import { isObject, parseObject, type JsonObject } from './json.ts';
import { nameFault } from './measurement.ts';
import { Rejection, quoted } from './rejection.ts';
import { sensorMicros } from './sensorTime.ts';

export interface EventStatement {
  readonly text: string | undefined;
  readonly sensorMicros: number | undefined;
  readonly simulated: boolean;
}
export interface AlarmStatement extends EventStatement { readonly severity: (typeof ALARM_SEVERITIES)[number] }
export interface RegistrationStatement { readonly type: string; readonly name: string | undefined; readonly simulated: boolean }

/** thin-edge's default where an alarm states none. */
const DEFAULT_SEVERITY = 'minor';
const ENTITY_TYPES: ReadonlySet<unknown> = new Set(['device', 'child-device', 'service']);
const UNIT_BYTES_MAX = 64;

export function decodeEvent(payload: Uint8Array): EventStatement | Rejection {
  const object = parseObject(payload);
  return object instanceof Rejection ? object : eventOf(object);
}

export function decodeAlarm(payload: Uint8Array): AlarmStatement | Rejection {
  const object = parseObject(payload);
  if (object instanceof Rejection) return object;
  const event = eventOf(object);
  if (event instanceof Rejection) return event;
  const stated = object['severity'] ?? DEFAULT_SEVERITY;
  const severity = ALARM_SEVERITIES.find((known) => known === stated);
  return severity ? { ...event, severity } : new Rejection('ingest.severity', `severity is ${typeof stated === 'string' ? quoted(stated) : `a ${typeof stated}`}`);
}

function eventOf(object: JsonObject): EventStatement | Rejection {
  const text = optionalText(object['text'], 'text');
  if (text instanceof Rejection) return text;
  const micros = sensorMicros(object['time']);
  if (micros instanceof Rejection) return micros;
  return { text, sensorMicros: micros, simulated: object['simulated'] === true };
}

export function decodeRegistration(payload: Uint8Array): RegistrationStatement | Rejection {
  const object = parseObject(payload);
  if (object instanceof Rejection) return object;
  const type = object['@type'];
  if (typeof type !== 'string' || !ENTITY_TYPES.has(type)) return new Rejection('ingest.registration', `@type is ${typeof type === 'string' ? quoted(type) : typeof type}`);
  const name = optionalText(object['name'], 'name');
  return name instanceof Rejection ? name : { type, name, simulated: object['simulated'] === true };
}

/** `{"units": {"temperature": "°C", "coordinate": {"x": "m"}}}`; a dotted name means the same as a group. */
export function decodeUnits(payload: Uint8Array): ReadonlyMap<string, string> | Rejection {
  const object = parseObject(payload);
  if (object instanceof Rejection) return object;
  const units = new Map<string, string>();
  const fault = isObject(object['units']) ? collectUnits(units, '', object['units']) : new Rejection('ingest.units', 'there is no object "units"');
  return fault ?? units;
}

function collectUnits(units: Map<string, string>, prefix: string, object: JsonObject): Rejection | undefined {
  for (const [key, unit] of Object.entries(object)) {
    const channel = prefix + key;
    const fault = isObject(unit) && prefix === '' ? nameFault(key) ?? collectUnits(units, `${key}.`, unit) : setUnit(units, channel, unit);
    if (fault) return fault;
  }
  return undefined;
}

function setUnit(units: Map<string, string>, channel: string, unit: unknown): Rejection | undefined {
  for (const part of channel.split('.')) {
    const fault = nameFault(part);
    if (fault) return fault;
  }
  if (typeof unit !== 'string' || !unit.isWellFormed() || Buffer.byteLength(unit) > UNIT_BYTES_MAX) return new Rejection('ingest.units', `the unit of ${quoted(channel)} is not text of at most ${UNIT_BYTES_MAX} bytes`);
  if (units.size === LIMITS.channelsPerReadingMax) return new Rejection('ingest.too_many_channels', `units of more than ${LIMITS.channelsPerReadingMax} channels`);
  units.set(channel, unit);
  return undefined;
}

function optionalText(value: unknown, what: string): string | undefined | Rejection {
  if (value === undefined) return undefined;
  if (typeof value === 'string' && value.isWellFormed() && Buffer.byteLength(value) <= LIMITS.textBytesMax) return value;
  return new Rejection('ingest.text', `${what} is ${typeof value === 'string' ? 'too long or half a character' : `a ${typeof value}`}`);
}
