/**
 * Which old entries may go: whole segments, oldest first, over the quota or beyond the age, only where a block covers them and full tiles keep their
 * hashes, so that every proof about what remains still verifies. The newest segment always stays. Where the chain goes to a controller, age prunes only
 * what it receipted; the quota prunes the rest too, for a full disk would end all recording.
 */
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
  /** Of the controller whose receipts count, SHA-256 in hex; '' or absent where the chain goes nowhere. */
  readonly receiptKey?: string;
}

export interface PruneStep {
  /** Keys in database `segments`. */
  readonly segments: readonly Uint8Array[];
  /** Index of the oldest entry that stays. */
  readonly oldest: number;
}

const MICROS_PER_DAY = 86_400_000_000;

/** One bounded step; undefined when nothing has to go, or nothing may. */
export function planPrune(store: Store, limits: RetentionLimits, size: number, wallMicros: number): PruneStep | undefined {
  let excessBytes = store.usedBytes() - limits.maxBytes;
  const oldestMicros = limits.maxAgeDays > 0 ? wallMicros - limits.maxAgeDays * MICROS_PER_DAY : Number.NEGATIVE_INFINITY;
  const end = prunableEnd(store, size);
  const receipted = receiptedEnd(store, limits);
  const keys = store.keys('segments', segmentKey(0), LIMITS.pruneSegmentsMax + 1);
  const segments: Uint8Array[] = [];
  let oldest = 0;
  for (const [place, next] of keys.slice(1).entries()) {
    const key = keys[place];
    const value = key && store.get('segments', key);
    if (!key || !value || readU64(next) > end) break;
    if (excessBytes <= 0 && (newestOf(key, value) >= oldestMicros || readU64(next) > receipted)) break;
    segments.push(key);
    oldest = readU64(next);
    excessBytes -= value.length;
  }
  return segments.length === 0 ? undefined : { segments, oldest };
}

function prunableEnd(store: Store, size: number): number {
  const last = store.last('blocks');
  const attested = last ? decodeBlock(decodeBlockRecord(last.value).payload).treeSize : 0;
  return Math.min(attested, size - (size % LIMITS.tileHashes));
}

function receiptedEnd(store: Store, { receiptKey = '' }: RetentionLimits): number {
  if (receiptKey === '') return Number.POSITIVE_INFINITY;
  const cursor = store.get('cursors', cursorKey(uplinkCursor(receiptKey)));
  return cursor ? readU64(cursor) : 0;
}

function newestOf(key: Uint8Array, value: Uint8Array): number {
  const segment = new Segment(readU64(key), value);
  return decodeEntry(segment.entry(segment.end - 1)).wallMicros;
}
