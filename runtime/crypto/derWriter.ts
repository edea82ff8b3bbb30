/** Writes DER (X.690 §10): definite lengths in their shortest form. der.ts reads what others wrote. */
import { invariant } from '#runtime/core/errors.ts';
import { DER_TAG } from './der.ts';

/** From 2050 on dates of certificates are GeneralizedTime (RFC 5280 §4.1.2.5). */
const GENERALIZED_FROM_YEAR = 2050;

/** Below 64 KiB. */
export function derValue(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  const head = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : length < 0x1_0000 ? [0x82, length >> 8, length & 0xff] : undefined;
  invariant(head, 'what we write in DER stays below 64 KiB');
  return Buffer.concat([Buffer.of(tag, ...head), content]);
}

export const derSequence = (...parts: readonly Uint8Array[]): Buffer => derValue(DER_TAG.sequence, ...parts);

/** X.690 §8.19: base 128, high bit on all but the last; the first two arcs share a number. */
export function derOid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const bytes = [first * 40 + second, ...rest].flatMap((arc) => {
    const septets = [arc & 0x7f];
    for (let left = arc >>> 7; left > 0; left >>>= 7) septets.unshift((left & 0x7f) | 0x80);
    return septets;
  });
  return derValue(DER_TAG.oid, Buffer.from(bytes));
}

/** A date of a certificate: UTCTime up to 2049. Whole seconds; the rest is cut off. */
export function derTime(ms: number): Buffer {
  const digits = new Date(ms).toISOString().replaceAll(/[-:T]|\.\d+/g, ''); // YYYYMMDDHHMMSSZ
  return Number(digits.slice(0, 4)) < GENERALIZED_FROM_YEAR ? derValue(DER_TAG.utcTime, Buffer.from(digits.slice(2))) : derValue(DER_TAG.generalizedTime, Buffer.from(digits));
}
