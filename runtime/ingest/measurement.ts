/**
 * thin-edge JSON measurements: one object of numbers, groups one level deep (`{"coordinate": {"x": 1}}` is channel `coordinate.x`),
 * `time` where the sensor has a clock, `simulated: true` where it is none. The hot path: one pass, no intermediate copies.
 */
import { LIMITS } from '#runtime/core/limits.ts';
import { isObject, parseObject } from './json.ts';
import { Rejection, quoted } from './rejection.ts';
import { sensorMicros } from './sensorTime.ts';

/** [channel, value, unit], as READING_BODY.values keeps it. */
export type Value = readonly [channel: string, value: number, unit: string];
/** Channel name to unit; '' is assumed for what it lacks. */
export type Units = ReadonlyMap<string, string>;

export interface Decoded {
  readonly values: readonly Value[];
  readonly sensorMicros: number | undefined;
  readonly simulated: boolean;
}

export function decodeMeasurement(payload: Uint8Array, units: Units): Decoded | Rejection {
  const object = parseObject(payload);
  if (object instanceof Rejection) return object;
  const micros = sensorMicros(object['time']);
  if (micros instanceof Rejection) return micros;
  const values: Value[] = [];
  let simulated = false;
  for (const key in object) {
    const value = object[key];
    if (typeof value === 'number') {
      if (key === 'time') continue;
      const fault = push(values, key, key, value, units);
      if (fault) return fault;
    } else if (key === 'simulated' && typeof value === 'boolean') simulated = value;
    else if ((key === 'time' || key === 'type') && typeof value === 'string') continue;
    else {
      const fault = isObject(value) ? pushGroup(values, key, value, units) : notANumber(key, value);
      if (fault) return fault;
    }
  }
  if (values.length === 0) return new Rejection('ingest.empty', 'the measurement holds no number');
  return { values, sensorMicros: micros, simulated };
}

function pushGroup(values: Value[], group: string, members: Readonly<Record<string, unknown>>, units: Units): Rejection | undefined {
  const fault = nameFault(group);
  if (fault) return fault;
  for (const key in members) {
    const value = members[key];
    if (isObject(value)) return new Rejection('ingest.shape', `${quoted(`${group}.${key}`)} is a group inside a group`);
    if (typeof value !== 'number') return notANumber(`${group}.${key}`, value);
    const memberFault = push(values, key, `${group}.${key}`, value, units);
    if (memberFault) return memberFault;
  }
  return undefined;
}

function push(values: Value[], key: string, channel: string, value: number, units: Units): Rejection | undefined {
  const fault = nameFault(key) ?? rangeFault(channel, value);
  if (fault) return fault;
  if (values.length === LIMITS.channelsPerReadingMax) return new Rejection('ingest.too_many_channels', `more than ${LIMITS.channelsPerReadingMax} channels`);
  values.push([channel, value, units.get(channel) ?? '']);
  return undefined;
}

/** 1e999 is valid JSON and parses to Infinity. */
export function rangeFault(channel: string, value: number): Rejection | undefined {
  if (value <= LIMITS.valueMagnitudeMax && value >= -LIMITS.valueMagnitudeMax) return undefined;
  return new Rejection('ingest.range', `${quoted(channel)} is beyond ±${LIMITS.valueMagnitudeMax}`);
}

const notANumber = (channel: string, value: unknown): Rejection =>
  new Rejection('ingest.not_a_number', `${quoted(channel)} is ${value === null ? 'null' : Array.isArray(value) ? 'an array' : `a ${typeof value}`}`);

/** A dot would collide with groups, a leading `__` with what JavaScript readers reserve, half a surrogate pair has no UTF-8. */
const NAME = /^(?!__)[^\u0000-\u001f\u007f./]+$/;
/** Names repeat for ever: judged once each. */
const goodNames = new Set<string>();
const GOOD_NAMES_MAX = 4_096;

export function nameFault(name: string): Rejection | undefined {
  if (goodNames.has(name)) return undefined;
  if (!NAME.test(name) || !name.isWellFormed() || Buffer.byteLength(name) > LIMITS.channelNameBytesMax) return new Rejection('ingest.name', `channel name ${quoted(name)}`);
  if (goodNames.size < GOOD_NAMES_MAX) goodNames.add(name);
  return undefined;
}
