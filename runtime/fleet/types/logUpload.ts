/** `log_upload`: the newest lines of the gateway's own log, inside the result, so that it needs nothing but the broker that brought the command. */
import { gzipSync } from 'node:zlib';
import type { Clock } from '#runtime/core/clock.ts';
import type { CommandHandler } from '#runtime/core/command.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { ABLE, onlyKnown, textIn, wholeIn, wrong, type Parameters, type Result } from './parameters.ts';

/** pino's numbers. */
const LEVELS: Readonly<Record<string, number>> = { debug: 20, info: 30, warn: 40, error: 50 };
const LINES_DEFAULT = 200;
const SEARCH_CHARACTERS_MAX = 256;
/** The result's other members. */
const FRAME_BYTES = 512;
const UNIT_SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 };
/** A password in a URL that somebody else's message carries into ours. */
const URL_PASSWORD = /(:\/\/[^\s/:@"]*):[^\s/@"]+@/g;

interface Wanted {
  readonly linesMax: number;
  readonly sinceMs: number;
  readonly level: number;
  readonly search: string;
}

/** `lines`: JSON lines of this run, oldest first, redacted. */
export const logUpload = (lines: () => readonly string[], clock: Clock): CommandHandler => ({
  support: ABLE,
  async run({ parameters, isDryRun }) {
    const wanted = wantedOf(parameters, clock.wallMicros() / 1_000);
    const found = lines().filter((line) => fits(line, wanted));
    return isDryRun ? { dry_run: true, lines_found: found.length } : packed(found, wanted.linesMax);
  },
});

function wantedOf(parameters: Parameters, nowMs: number): Wanted {
  onlyKnown(parameters, ['lines', 'since', 'level', 'search']);
  const { lines, since, level = 'debug', search } = parameters;
  if (typeof level !== 'string' || !Object.hasOwn(LEVELS, level)) throw wrong(`level is none of ${Object.keys(LEVELS).join(', ')}`);
  return {
    linesMax: lines === undefined ? LINES_DEFAULT : wholeIn(parameters, 'lines', 1, LIMITS.logUploadLinesMax), level: LEVELS[level] ?? 0,
    sinceMs: since === undefined ? -Infinity : sinceOf(since, nowMs), search: search === undefined ? '' : textIn(parameters, 'search', SEARCH_CHARACTERS_MAX).toLowerCase(),
  };
}

/** A time that Date reads, or an age as 90s, 10m, 2h, 3d. */
function sinceOf(since: unknown, nowMs: number): number {
  const text = typeof since === 'string' ? since : '';
  const [, count, unit = ''] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  const millis = count === undefined ? Date.parse(text) : nowMs - Number(count) * (UNIT_SECONDS[unit] ?? 1) * 1_000;
  if (Number.isNaN(millis)) throw wrong('since is neither a time (2026-11-23T08:00Z) nor an age (90s, 10m, 2h, 3d)');
  return millis;
}

function fits(line: string, { sinceMs, level, search }: Wanted): boolean {
  const { level: lineLevel, time } = JSON.parse(line) as { level: number; time: number };
  return lineLevel >= level && time >= sinceMs && (search === '' || line.toLowerCase().includes(search));
}

/** As many of the newest as a result holds: as text where all fit so, else packed. */
function packed(found: readonly string[], linesMax: number): Result {
  const wanted = found.slice(-linesMax).map((line) => line.replaceAll(URL_PASSWORD, '$1:(secret)@'));
  const room = LIMITS.commandResultBytesMax - FRAME_BYTES;
  const facts = (sent: number): Result => ({ lines_found: found.length, lines_sent: sent, cut: sent < found.length });
  const plain = wanted.join('\n');
  if (Buffer.byteLength(JSON.stringify(plain)) <= room) return { ...facts(wanted.length), encoding: 'text', log: plain };
  let [fitting, most, best] = [0, wanted.length, ''];
  while (fitting < most) {
    const count = Math.ceil((fitting + most) / 2);
    const text = gzipSync(wanted.slice(-count).join('\n'), { level: 9 }).toString('base64');
    if (text.length <= room) [fitting, best] = [count, text];
    else most = count - 1;
  }
  return { ...facts(fitting), encoding: 'gzip+base64', log: best };
}
