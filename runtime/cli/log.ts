/** `tenzro log`: reads the chain beside a running gateway, or one that is stopped. */
import { setTimeout as sleep } from 'node:timers/promises';
import { nearest } from '#runtime/config/nearest.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { EntryFilter } from '#runtime/core/ports.ts';
import { KIND, type KindName, type StoredEntry } from '#runtime/core/types.ts';
import { decodeEntry, matchesEntry } from '#runtime/ledger/entry.ts';
import { openReader, type ChainReader } from '#runtime/ledger/reader.ts';
import { viewEntry } from '#runtime/verify/entryView.ts';
import { configOf, type CommonFlags, type Io } from './io.ts';
import { renderEntryLine } from './render.ts';

export interface LogFlags extends CommonFlags {
  readonly follow?: boolean;
  readonly kind?: string;
  readonly source?: string;
  readonly since?: string;
  readonly limit?: string;
}

const LIMIT_DEFAULT = 20;
const CHUNK_ENTRIES = 512;
const FOLLOW_INTERVAL_MS = 200;

export async function log(io: Io, flags: LogFlags): Promise<void> {
  const filter = filterOf(flags);
  const sinceMicros = flags.since === undefined ? undefined : parseSince(flags.since, systemClock.wallMicros());
  const limit = flags.limit === undefined ? (sinceMicros === undefined ? LIMIT_DEFAULT : Number.POSITIVE_INFINITY) : parseLimit(flags.limit);
  const { settings } = configOf(flags);
  io.catchSignals();
  await using reader = await openReader(settings.dataDir);
  const print = (stored: StoredEntry): void => {
    const entry = decodeEntry(stored.bytes);
    if (flags.json) io.json(viewEntry(stored.index, entry));
    else io.line(renderEntryLine(stored.index, entry));
  };
  let next = reader.size();
  for (const index of newest(reader, next, { filter, sinceMicros, limit })) {
    if (io.signal.aborted) return;
    print({ index, bytes: reader.entry(index) });
    await io.drained();
  }
  while (flags.follow && (await pause(io.signal))) {
    const size = reader.size();
    for (; next < size && !io.signal.aborted; next++) {
      const [stored] = reader.read(next, 1);
      if (stored !== undefined && matchesEntry(stored.bytes, filter)) print(stored);
    }
    await io.drained();
  }
}

interface Wanted {
  readonly filter: EntryFilter;
  readonly sinceMicros: number | undefined;
  readonly limit: number;
}

/** Indices of the newest entries that fit, ascending. Walks back in chunks; a whole chunk that is too old ends the walk (a clock step may hide older ones). */
function newest(reader: ChainReader, end: number, { filter, sinceMicros, limit }: Wanted): readonly number[] {
  const found: number[] = [];
  const oldest = reader.oldest();
  for (let to = end; to > oldest && found.length < limit;) {
    const from = Math.max(oldest, to - CHUNK_ENTRIES);
    const chunk = [...reader.read(from, to - from)];
    const recent = sinceMicros === undefined ? chunk : chunk.filter(({ bytes }) => decodeEntry(bytes).wallMicros >= sinceMicros);
    found.push(...recent.filter(({ bytes }) => matchesEntry(bytes, filter)).map(({ index }) => index).toReversed());
    if (recent.length === 0) break;
    to = from;
  }
  return found.slice(0, limit).toReversed();
}

async function pause(signal: AbortSignal): Promise<boolean> {
  await sleep(FOLLOW_INTERVAL_MS, undefined, { signal }).catch((error: unknown) => { if (!signal.aborted) throw error; });
  return !signal.aborted;
}

function filterOf({ kind, source }: LogFlags): EntryFilter {
  const kinds = kind?.split(',').map((name) => {
    const number = Object.hasOwn(KIND, name) ? KIND[name as KindName] : undefined;
    if (number !== undefined) return number;
    const near = nearest(name, Object.keys(KIND));
    throw new TenzroError('cli.usage', `--kind: there is no kind '${name}'${near === undefined ? '' : `, did you mean '${near}'?`} Kinds: ${Object.keys(KIND).join(', ')}`);
  });
  return { ...(kinds === undefined ? {} : { kinds }), ...(source === undefined ? {} : { source }) };
}

const UNIT_SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** A time that Date reads, or an age as 90s, 10m, 2h, 3d. In wall µs. */
export function parseSince(text: string, nowMicros: number): number {
  const [, count, unit] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  if (count !== undefined && unit !== undefined) return nowMicros - Number(count) * (UNIT_SECONDS[unit] ?? 1) * 1_000_000;
  const millis = Date.parse(text);
  if (Number.isNaN(millis)) throw new TenzroError('cli.usage', `--since: '${text}' is neither a time (2026-11-23T08:00Z) nor an age (90s, 10m, 2h, 3d)`);
  return millis * 1000;
}

function parseLimit(text: string): number {
  if (!/^\d{1,12}$/.test(text)) throw new TenzroError('cli.usage', `--limit: '${text}' is not a whole number`);
  return Number(text);
}
