/** The sensor's own time: RFC 3339 text with a zone, or seconds since 1970 (thin-edge JSON, "time"). */
import { Rejection, quoted } from './rejection.ts';

const RFC3339 = /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?(?:([Zz])|([+-])(\d\d):?(\d\d))$/;
/** Microseconds stay exact integers below 2^53: until the year 2255. */
const MICROS_MAX = Number.MAX_SAFE_INTEGER;

/** Wall microseconds; undefined where the sensor states none; `ingest.time`. */
export function sensorMicros(value: unknown): number | undefined | Rejection {
  if (value === undefined) return undefined;
  const micros = typeof value === 'number' ? Math.round(value * 1e6) : typeof value === 'string' ? microsOfText(value) : Number.NaN;
  if (micros >= 0 && micros <= MICROS_MAX) return micros;
  return new Rejection('ingest.time', `time is ${typeof value === 'string' ? quoted(value) : typeof value === 'number' ? String(value) : typeof value}`);
}

/** NaN for what is no such time, the 30th of February included. */
function microsOfText(text: string): number {
  const match = RFC3339.exec(text);
  if (!match) return Number.NaN;
  const field = (group: number): number => Number(match[group] ?? 0);
  const [year, month, day, hour, minute, second] = [field(1), field(2), field(3), field(4), field(5), field(6)];
  if (hour > 23 || minute > 59 || second > 59 || field(10) > 23 || field(11) > 59) return Number.NaN;
  const millis = Date.UTC(year, month - 1, day, hour, minute, second);
  const date = new Date(millis);
  if (date.getUTCFullYear() !== year || date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day) return Number.NaN;
  const offsetMinutes = (field(10) * 60 + field(11)) * (match[9] === '-' ? -1 : 1);
  const fractionMicros = Number((match[7] ?? '').padEnd(6, '0').slice(0, 6));
  return (millis - offsetMinutes * 60_000) * 1000 + fractionMicros;
}
