/** When commands that disturb may begin. Pure: UTC by the newest time that the gateway can prove, which a gateway without a clock has to be told (`sync_time`). */
import { WEEKDAYS, type MaintenanceWindow } from '#runtime/core/settings.ts';

const MINUTE_MICROS = 60_000_000;
const DAY_MINUTES = 24 * 60;
/** A window of the day before may still be open, and one that is over today comes again in a week. */
const DAYS_LOOKED_AT = [-1, 0, 1, 2, 3, 4, 5, 6, 7] as const;

/** Microseconds until a window is open, 0 while one is; also 0 where there are no windows. `nowMicros`: since 1970. */
export function untilMaintenance(windows: readonly MaintenanceWindow[], nowMicros: number): number {
  if (windows.length === 0) return 0;
  const dayMicros = DAY_MINUTES * MINUTE_MICROS;
  const today = Math.floor(nowMicros / dayMicros);
  let wait = Number.POSITIVE_INFINITY;
  for (const window of windows) {
    for (const offset of DAYS_LOOKED_AT) {
      if (!beginsOn(window, today + offset)) continue;
      const beginMicros = (today + offset) * dayMicros + minutesOf(window.from) * MINUTE_MICROS;
      if (nowMicros < beginMicros + lengthMinutes(window) * MINUTE_MICROS) wait = Math.min(wait, Math.max(0, beginMicros - nowMicros));
    }
  }
  return wait;
}

/** 1970-01-01 was a Thursday. */
const EPOCH_WEEKDAY = 4;
function beginsOn({ days }: MaintenanceWindow, day: number): boolean {
  const weekday = WEEKDAYS[(((day + EPOCH_WEEKDAY) % 7) + 7) % 7];
  return days.length === 0 || (weekday !== undefined && days.includes(weekday));
}

function lengthMinutes({ from, to }: MaintenanceWindow): number {
  const minutes = minutesOf(to) - minutesOf(from);
  return minutes > 0 ? minutes : minutes + DAY_MINUTES;
}

function minutesOf(time: string): number {
  const [hours = 0, minutes = 0] = time.split(':').map(Number);
  return hours * 60 + minutes;
}
