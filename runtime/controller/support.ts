/** Entries that blocks name: what a policy is judged by, beside the blocks themselves. Pure. */
import { KIND, type KindNumber } from '#runtime/core/types.ts';
import type { Support } from '#runtime/ledger/block.ts';
import { peek } from '#runtime/ledger/entry.ts';
import type { Stretch, SupportEntry } from './chains.ts';

/** Kinds that blocks name, and the last word of a chain. */
const SUPPORTING: ReadonlySet<KindNumber> = new Set([KIND.measurement, KIND.enrolment, KIND.lease, KIND.epoch]);

export const supportIn = (stretches: readonly Stretch[]): readonly SupportEntry[] =>
  stretches.flatMap(({ first, leaves }) => leaves.flatMap((leaf, at) => ('entry' in leaf && isSupport(leaf.entry) ? [{ index: first + at, bytes: leaf.entry }] : [])));

function isSupport(entry: Uint8Array): boolean {
  try {
    return SUPPORTING.has(peek(entry).kind);
  } catch {
    return false; // whether entries decode, who verifies a proof asks
  }
}

const placesOf = ({ enrolment, lease, bootLog, imaLog = [], software }: Support = {}): readonly number[] => [enrolment, lease, bootLog, ...imaLog, software].filter((place) => place !== undefined);

/** Places that the block before named, and this one no longer. */
export function droppedSupport(before: Support | undefined, now: Support | undefined): readonly number[] {
  const named = new Set(placesOf(now));
  return placesOf(before).filter((place) => !named.has(place));
}
