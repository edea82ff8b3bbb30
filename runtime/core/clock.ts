/** Wall clock for people, monotonic clock for order and timeouts. Both in integer microseconds (safe below 2^53). */
export interface Clock {
  /** Microseconds since 1970-01-01T00:00:00Z; may step. */
  wallMicros(): number;
  /** Microseconds since an arbitrary start in this boot of the process; never steps back. */
  monoMicros(): number;
}

export const systemClock: Clock = {
  wallMicros: () => Math.round((performance.timeOrigin + performance.now()) * 1000) + wallOffsetMicros(),
  monoMicros: () => Math.round(performance.now() * 1000),
};

/** `performance.timeOrigin` is fixed at start; the wall clock may have been stepped since. */
function wallOffsetMicros(): number {
  const driftMillis = Date.now() - (performance.timeOrigin + performance.now());
  return Math.abs(driftMillis) < 2 ? 0 : Math.round(driftMillis * 1000);
}

/** ISO 8601 with microseconds for screens and logs; years outside 0–9999 are printed as plain microseconds. */
export function isoOfMicros(micros: number): string {
  const date = new Date(Math.floor(micros / 1000));
  if (Number.isNaN(date.getTime())) return `${micros}µs`;
  return date.toISOString();
}
