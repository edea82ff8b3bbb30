/** Entries that blocks name: what a policy is judged by, beside the blocks themselves. Pure. */
import type { CommandType } from '#runtime/core/command.ts';
import { KIND, RESULT_BODY, type Cbor, type KindNumber } from '#runtime/core/types.ts';
import type { Support } from '#runtime/ledger/block.ts';
import { decodeEntry, peek } from '#runtime/ledger/entry.ts';
import type { Stretch, SupportEntry } from './chains.ts';

/** Kinds that blocks name, and the last word of a chain; of results those of releases, the last word to an owner. */
const SUPPORTING: ReadonlySet<KindNumber> = new Set([KIND.measurement, KIND.enrolment, KIND.lease, KIND.epoch]);

export const supportIn = (stretches: readonly Stretch[]): readonly SupportEntry[] =>
  stretches.flatMap(({ first, leaves }) => leaves.flatMap((leaf, at) => ('entry' in leaf && isSupport(leaf.entry) ? [{ index: first + at, bytes: leaf.entry }] : [])));

function isSupport(entry: Uint8Array): boolean {
  try {
    const { kind } = peek(entry);
    return SUPPORTING.has(kind) || (kind === KIND.result && isOfRelease(entry));
  } catch {
    return false; // whether entries decode, who verifies a proof asks
  }
}

function isOfRelease(entry: Uint8Array): boolean {
  const { body } = decodeEntry(entry);
  return body instanceof Map && (body as ReadonlyMap<number, Cbor>).get(RESULT_BODY.type) === ('release' satisfies CommandType);
}

const placesOf = ({ enrolment, lease, bootLog, imaLog = [], software }: Support = {}): readonly number[] => [enrolment, lease, bootLog, ...imaLog, software].filter((place) => place !== undefined);

/** Places that the block before named, and this one no longer. */
export function droppedSupport(before: Support | undefined, now: Support | undefined): readonly number[] {
  const named = new Set(placesOf(now));
  return placesOf(before).filter((place) => !named.has(place));
}
