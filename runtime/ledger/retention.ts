/**
 * Which old entries may go: whole segments, oldest first, over the quota or beyond the age, only where a block covers them and full tiles keep their
 * hashes, so that every proof about what remains still verifies. The newest segment always stays. Where the chain goes to controllers, age prunes only
 * what all of them receipted; the quota prunes the rest too, for a full disk would end all recording, and the chain says how many went.
 */
import { u64be } from '#runtime/core/bytes.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { decodeBlock } from './block.ts';
import { decodeEntry } from './entry.ts';
import { cursorKey, decodeBlockRecord, readU64, segmentKey } from './layout.ts';
import { uplinkCursor } from './receipt.ts';
import { Segment } from './segment.ts';
import type { Store } from './store.ts';

export interface RetentionLimits {
  /** Quota of the chain's pages in bytes. */
  readonly maxBytes: number;
  /** 0: no limit by age. */
  readonly maxAgeDays: number;
  /** Of the controllers whose receipts count, SHA-256 in hex. None and absent: the chain goes nowhere. */
  readonly receiptKeys?: readonly string[];
  /** False: there may be one more of them, so age prunes nothing. */
  readonly isComplete?: boolean;
}

export interface PruneStep {
  /** Keys in database `segments`. */
  readonly segments: readonly Uint8Array[];
  /** Index of the oldest entry that stays. */
  readonly oldest: number;
  /** Entries that go without the receipt of every controller: known to be missing there. */
  readonly unreceipted?: Unreceipted;
}

export interface Unreceipted {
  readonly count: number;
  /** The first entry that some controller has not receipted, also where it went before. */
  readonly since: number;
  /** Arrival of the first and of the last of them. */
  readonly fromMicros: number;
  readonly toMicros: number;
}

const MICROS_PER_DAY = 86_400_000_000;

/** One bounded step; undefined when nothing has to go, or nothing may. */
export function planPrune(store: Store, limits: RetentionLimits, size: number, wallMicros: number): PruneStep | undefined {
  let excessBytes = store.usedBytes() - limits.maxBytes;
  const oldestMicros = limits.maxAgeDays > 0 && limits.isComplete !== false ? wallMicros - limits.maxAgeDays * MICROS_PER_DAY : Number.NEGATIVE_INFINITY;
  const end = prunableEnd(store, size);
  const receipted = receiptedEnd(store, limits);
  const keys = store.keys('segments', segmentKey(0), LIMITS.pruneSegmentsMax + 1);
  const segments: Uint8Array[] = [];
  let oldest = 0;
  let unreceipted: Unreceipted | undefined;
  for (const [place, next] of keys.slice(1).entries()) {
    const key = keys[place];
    const value = key && store.get('segments', key);
    if (!key || !value || readU64(next) > end) break;
    if (excessBytes <= 0 && (newestOf(key, value) >= oldestMicros || readU64(next) > receipted)) break;
    segments.push(key);
    oldest = readU64(next);
    unreceipted = joined(unreceipted, unreceiptedIn(new Segment(readU64(key), value), receipted));
    excessBytes -= value.length;
  }
  return segments.length === 0 ? undefined : { segments, oldest, ...(unreceipted ? { unreceipted } : {}) };
}

function unreceiptedIn(segment: Segment, receipted: number): Unreceipted | undefined {
  const from = Math.max(segment.first, receipted);
  if (from >= segment.end) return undefined;
  const [first, last] = [from, segment.end - 1].map((index) => decodeEntry(segment.entry(index)).wallMicros);
  return { count: segment.end - from, since: receipted, fromMicros: first ?? 0, toMicros: last ?? 0 };
}

const joined = (before: Unreceipted | undefined, next: Unreceipted | undefined): Unreceipted | undefined =>
  (before && next ? { ...before, count: before.count + next.count, toMicros: next.toMicros } : before ?? next);

function prunableEnd(store: Store, size: number): number {
  const last = store.last('blocks');
  const attested = last ? decodeBlock(decodeBlockRecord(last.value).payload).treeSize : 0;
  return Math.min(attested, size - (size % LIMITS.tileHashes));
}

/** By all of them. */
function receiptedEnd(store: Store, { receiptKeys = [] }: RetentionLimits): number {
  return Math.min(...receiptKeys.map((receiptKey) => readU64(store.get('cursors', cursorKey(uplinkCursor(receiptKey))) ?? u64be(0))));
}

function newestOf(key: Uint8Array, value: Uint8Array): number {
  const segment = new Segment(readU64(key), value);
  return decodeEntry(segment.entry(segment.end - 1)).wallMicros;
}
