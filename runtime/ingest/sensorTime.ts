/** The sensor's own time: RFC 3339 text with a zone, or seconds since 1970 (thin-edge JSON, "time"). */
import { Rejection, quoted } from './rejection.ts';

const RFC3339 = /^(\d{4}-\d\d-\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?([Zz]|[+-]\d\d:?\d\d)$/;
/** Microseconds stay exact integers below 2^53: until the year 2255. */
const MICROS_MAX = Number.MAX_SAFE_INTEGER;

/** Wall microseconds; undefined where the sensor states none; `ingest.time`. */
export function sensorMicros(value: unknown): number | undefined | Rejection {
  if (value === undefined) return undefined;
  const micros = typeof value === 'number' ? Math.round(value * 1e6) : typeof value === 'string' ? microsOfText(value) : Number.NaN;
  if (micros >= 0 && micros <= MICROS_MAX) return micros;
  return new Rejection('ingest.time', `time is ${typeof value === 'string' ? quoted(value) : typeof value === 'number' ? String(value) : typeof value}`);
}

/** Sensors state one day after the other: `2026-11-23` and its wall milliseconds. */
let knownDay = { text: '', millis: Number.NaN };

/** NaN for what is no such time, the 30th of February included. */
function microsOfText(text: string): number {
  const match = RFC3339.exec(text);
  if (!match) return Number.NaN;
  const [, date = '', hour, minute, second, fraction = '', offset = 'Z'] = match;
  if (knownDay.text !== date) knownDay = { text: date, millis: millisOfDate(date) };
  if (Number(hour) > 23 || Number(minute) > 59 || Number(second) > 59) return Number.NaN;
  const seconds = (Number(hour) * 60 + Number(minute)) * 60 + Number(second) - offsetSeconds(offset);
  return knownDay.millis * 1000 + seconds * 1_000_000 + Number(fraction.padEnd(6, '0').slice(0, 6));
}

function millisOfDate(date: string): number {
  const [year, month, day] = [Number(date.slice(0, 4)), Number(date.slice(5, 7)), Number(date.slice(8, 10))];
  const millis = Date.UTC(year, month - 1, day);
  const back = new Date(millis);
  return back.getUTCFullYear() === year && back.getUTCMonth() === month - 1 && back.getUTCDate() === day ? millis : Number.NaN;
}

/** `Z`, `+01:30` or `-0130`; NaN beyond 23:59. */
function offsetSeconds(offset: string): number {
  if (offset === 'Z' || offset === 'z') return 0;
  const [hours, minutes] = [Number(offset.slice(1, 3)), Number(offset.slice(-2))];
  if (hours > 23 || minutes > 59) return Number.NaN;
  return (hours * 60 + minutes) * (offset.startsWith('-') ? -60 : 60);
}
