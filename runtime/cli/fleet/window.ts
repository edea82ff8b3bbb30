/** `--window 02:00-04:00`: the next time of day, in a time zone, as seconds since 1970. Pure. */
import { TenzroError } from '#runtime/core/errors.ts';

export interface Window {
  /** Absent: it is open now. */
  readonly from?: number;
  readonly to: number;
}

const SECOND_MS = 1_000;
const DAY_MS = 86_400_000;

/** The window that is open at `nowMs`, or the next one. `zone`: IANA name. An end that is not after the beginning is one of the next day. Throws `cli.usage`. */
export function windowAt(text: string, zone: string, nowMs: number): Window {
  const [, fromHour, fromMinute, toHour, toMinute] = /^([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)$/.exec(text) ?? [];
  if (fromHour === undefined) throw new TenzroError('cli.usage', `--window ${text}: write 02:00-04:00`);
  const [from, to] = [Number(fromHour) * 60 + Number(fromMinute), Number(toHour) * 60 + Number(toMinute)];
  const offsetOf = offsetsIn(zone);
  for (const day of [-1, 0, 1, 2]) {
    const midnightMs = Math.floor((nowMs + offsetOf(nowMs)) / DAY_MS + day) * DAY_MS;
    const [fromMs, toMs] = [midnightMs + from * 60_000, midnightMs + to * 60_000 + (to > from ? 0 : DAY_MS)].map((localMs) => utcOf(localMs, offsetOf));
    if (fromMs === undefined || toMs === undefined || toMs <= nowMs || toMs <= fromMs) continue;
    return { ...(fromMs > nowMs ? { from: Math.ceil(fromMs / SECOND_MS) } : {}), to: Math.floor(toMs / SECOND_MS) };
  }
  throw new TenzroError('cli.usage', `--window ${text}: there is no such time soon in ${zone}`);
}

/** Twice: the offset at the first guess may be that of the other side of a change of the clocks. */
function utcOf(localMs: number, offsetOf: (ms: number) => number): number {
  const guess = localMs - offsetOf(localMs);
  return localMs - offsetOf(guess);
}

/** How far local time is ahead of UTC. */
function offsetsIn(zone: string): (ms: number) => number {
  try {
    const format = new Intl.DateTimeFormat('en-US', { timeZone: zone, hourCycle: 'h23', year: 'numeric', month: 'numeric', day: 'numeric', hour: 'numeric', minute: 'numeric', second: 'numeric' });
    return (ms) => {
      const parts = Object.fromEntries(format.formatToParts(ms).map(({ type, value }) => [type, Number(value)]));
      const local = Date.UTC(parts['year'] ?? 0, (parts['month'] ?? 1) - 1, parts['day'] ?? 1, parts['hour'] ?? 0, parts['minute'] ?? 0, parts['second'] ?? 0);
      return local - Math.floor(ms / SECOND_MS) * SECOND_MS;
    };
  } catch (cause) {
    throw new TenzroError('cli.usage', `--zone ${zone}: no time zone that this Node knows; write UTC or Europe/Berlin`, { cause });
  }
}
