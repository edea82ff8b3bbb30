/** Where the `keyEpoch` entries stand that confidential entries need: a proof of these takes them along. Pure. */
import { toHex } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { KIND, type KindNumber } from '#runtime/core/types.ts';
import { contextMicros, keyEpochOf, sealedOf } from './confidential.ts';
import { decodeEntry, peek } from './entry.ts';

const SEALABLE: ReadonlySet<KindNumber> = new Set([KIND.reading, KIND.event, KIND.alarm, KIND.summary]);

export interface EntrySource {
  entry(index: number): Uint8Array;
  /** Index of the oldest entry still stored. */
  oldest(): number;
}

/** One index per content key, in no order. What was pruned or is damaged is left out: the proof then says less, and still verifies. */
export function keyEpochsOf(source: EntrySource, indices: readonly number[]): readonly number[] {
  const found = new Map<string, number | undefined>();
  for (const index of indices) {
    const wanted = unlessDamaged(() => wantedBy(source.entry(index)));
    if (wanted && !found.has(wanted.context)) found.set(wanted.context, unlessDamaged(() => findKeyEpoch(source, index, wanted)));
  }
  return [...found.values()].filter((index) => index !== undefined);
}

/** Undefined for an entry in clear. */
function wantedBy(bytes: Uint8Array): Wanted | undefined {
  if (!SEALABLE.has(peek(bytes).kind)) return undefined;
  const { bootEpoch, body } = decodeEntry(bytes);
  const sealed = sealedOf(body);
  return sealed && { bootEpoch, micros: contextMicros(sealed.context), context: toHex(sealed.context) };
}

function unlessDamaged<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (error instanceof TenzroError && error.code === 'entry.malformed') return undefined;
    throw error;
  }
}

interface Wanted {
  readonly bootEpoch: number;
  readonly micros: number;
  readonly context: string;
}

/** The context names the time of its entry, and the log is in order of time but for the last few entries at any moment: halve, then look around. */
function findKeyEpoch(source: EntrySource, before: number, wanted: Wanted): number | undefined {
  let [low, high] = [source.oldest(), before];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const { bootEpoch, monoMicros } = decodeEntry(source.entry(middle));
    if (bootEpoch > wanted.bootEpoch || (bootEpoch === wanted.bootEpoch && monoMicros >= wanted.micros)) high = middle;
    else low = middle + 1;
  }
  const end = Math.min(before, low + LIMITS.keyEpochSearchEntries);
  for (let index = Math.max(source.oldest(), low - LIMITS.keyEpochSearchEntries); index < end; index++) {
    const bytes = source.entry(index);
    if (peek(bytes).kind === KIND.keyEpoch && toHex(keyEpochOf(decodeEntry(bytes).body).context) === wanted.context) return index;
  }
  return undefined;
}
