/** Bends valid bytes the way hostile senders do: flips, lies about lengths, cuts, doubles, splices. Repeatable from a seed. */
import { randomOf } from './random.ts';

type Random = (below: number) => number;

/** Edges of one byte: CBOR heads and ASN.1 lengths change meaning there. */
const BYTES = [0x00, 0x01, 0x17, 0x18, 0x1b, 0x1f, 0x30, 0x5b, 0x7f, 0x80, 0x84, 0x9f, 0xbb, 0xbf, 0xff] as const;
/** Edges of a length. */
const LENGTHS = [0, 1, 0x7fff, 0x8000, 0xffff, 0x1_0000, 0x7fff_ffff, 0xffff_ffff] as const;
const STEPS_MAX = 6;
const INSERTED_MAX = 64;

const STEPS: readonly ((bytes: Buffer, random: Random, others: readonly Buffer[]) => Buffer)[] = [
  (bytes, random) => at(bytes, random, (copy, i) => { copy[i] = (copy[i] ?? 0) ^ (1 << random(8)); }),
  (bytes, random) => at(bytes, random, (copy, i) => { copy[i] = BYTES[random(BYTES.length)] ?? 0; }),
  (bytes, random) => at(bytes, random, (copy, i) => { copy[i] = random(256); }),
  (bytes, random) => length(bytes, random, 2, (copy, value, i) => { copy.writeUInt16BE(value & 0xffff, i); }),
  (bytes, random) => length(bytes, random, 4, (copy, value, i) => { copy.writeUInt32BE(value >>> 0, i); }),
  (bytes, random) => length(bytes, random, 4, (copy, value, i) => { copy.writeUInt32LE(value >>> 0, i); }),
  (bytes, random) => bytes.subarray(0, random(bytes.length + 1)),
  (bytes, random) => splice(bytes, random(bytes.length + 1), 0, Buffer.from(Array.from({ length: random(INSERTED_MAX) }, () => random(256)))),
  (bytes, random) => { const from = random(bytes.length + 1); return splice(bytes, from, random(bytes.length - from + 1), Buffer.alloc(0)); },
  (bytes, random) => { const from = random(bytes.length + 1); return splice(bytes, from, 0, bytes.subarray(from, from + random(INSERTED_MAX))); },
  (bytes, random, others) => { const other = others[random(others.length)] ?? bytes; return splice(bytes, random(bytes.length + 1), bytes.length, other.subarray(random(other.length + 1))); },
];

/** One input: one of `samples` after one to six steps. */
export function mutate(samples: readonly Buffer[], seed: number): Buffer {
  const random = randomOf(seed);
  let bytes = samples[random(samples.length)] ?? Buffer.alloc(0);
  for (let step = 1 + random(STEPS_MAX); step > 0; step--) bytes = STEPS[random(STEPS.length)]?.(bytes, random, samples) ?? bytes;
  return bytes;
}

function at(bytes: Buffer, random: Random, change: (copy: Buffer, index: number) => void): Buffer {
  const copy = Buffer.from(bytes);
  if (copy.length > 0) change(copy, random(copy.length));
  return copy;
}

/** Overwrites `width` bytes with an edge, or with something near the true length. */
function length(bytes: Buffer, random: Random, width: number, write: (copy: Buffer, value: number, index: number) => void): Buffer {
  if (bytes.length < width) return bytes;
  const copy = Buffer.from(bytes);
  const value = random(3) === 0 ? Math.max(0, bytes.length + random(5) - 2) : LENGTHS[random(LENGTHS.length)] ?? 0;
  write(copy, value, random(bytes.length - width + 1));
  return copy;
}

const splice = (bytes: Buffer, from: number, removed: number, inserted: Buffer): Buffer => Buffer.concat([bytes.subarray(0, from), inserted, bytes.subarray(from + removed)]);
