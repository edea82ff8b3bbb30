/** The body of a reading's entry, as the follower needs it. */
import { READING_BODY, READING_FLAG, type Cbor, type Entry } from '#runtime/core/types.ts';
import type { Reading } from './windows.ts';

export interface DecodedReading extends Reading {
  readonly topic: string;
}

/** Undefined where the body is not a reading's: counted by the caller, judged by nobody. */
export function readingOf(index: number, { source, bootEpoch, monoMicros, body }: Entry): DecodedReading | undefined {
  if (!(body instanceof Map)) return undefined;
  const fields = body as ReadonlyMap<number, Cbor>;
  const [topic, values, flags = 0] = [fields.get(READING_BODY.topic), fields.get(READING_BODY.values), fields.get(READING_BODY.flags)];
  if (typeof topic !== 'string' || typeof flags !== 'number' || !Array.isArray(values) || !values.every(isChannelValue)) return undefined;
  return { index, source, bootEpoch, monoMicros, topic, values, duplicate: (flags & READING_FLAG.duplicate) !== 0 };
}

function isChannelValue(item: unknown): item is readonly [string, number, string] {
  return Array.isArray(item) && typeof item[0] === 'string' && typeof item[1] === 'number' && typeof item[2] === 'string';
}
