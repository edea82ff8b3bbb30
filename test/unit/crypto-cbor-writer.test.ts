import assert from 'node:assert/strict';
import { TenzroError } from '#runtime/core/errors.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { CborWriter } from '#runtime/crypto/cborWriter.ts';
import { randomOf } from '#test/support/random.ts';

function written(value: Cbor): Buffer {
  const writer = new CborWriter(4);
  writer.value(value);
  return writer.buffer.subarray(0, writer.length);
}

/** What cborg, which shares no code with the writer, makes of the bytes. */
const roundTrips = (value: Cbor): void => {
  const [bytes, integral] = [written(value), typeof value === 'bigint' && Number.isSafeInteger(Number(value))];
  assert.deepEqual(decodeCbor(bytes), integral ? Number(value) : value, bytes.toString('hex'));
};

/** Value of a binary16, from its definition (IEEE 754-2019 §3.4). */
function halfValue(bits: number): number {
  const [sign, exponent, fraction] = [bits & 0x8000 ? -1 : 1, (bits >>> 10) & 0x1f, bits & 0x3ff];
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}

/** RFC 8949 appendix A, the rows that our type allows. */
const APPENDIX_A: readonly (readonly [Cbor, string])[] = [
  [0, '00'], [23, '17'], [24, '1818'], [100, '1864'], [1000, '1903e8'], [1_000_000, '1a000f4240'], [1_000_000_000_000, '1b000000e8d4a51000'],
  [18_446_744_073_709_551_615n, '1bffffffffffffffff'], [-1, '20'], [-1000, '3903e7'], [-18_446_744_073_709_551_616n, '3bffffffffffffffff'],
  [1.1, 'fb3ff199999999999a'], [1.5, 'f93e00'], [100_000, '1a000186a0'], [3.402_823_466_385_288_6e38, 'fa7f7fffff'], [1e300, 'fb7e37e43c8800759c'],
  [5.960_464_477_539_063e-8, 'f90001'], [0.000_061_035_156_25, 'f90400'], [-4.1, 'fbc010666666666666'], [false, 'f4'], [true, 'f5'], [null, 'f6'],
  ['', '60'], ['IETF', '6449455446'], ['\u00fc', '62c3bc'], ['\u{10151}', '64f0908591'], [Buffer.from('01020304', 'hex'), '4401020304'], [[1, [2, 3]], '8201820203'],
];

describe('crypto: CBOR writer', () => {
  it('writes the examples of RFC 8949 appendix A', () => {
    for (const [value, hex] of APPENDIX_A) assert.equal(written(value).toString('hex'), hex);
  });

  it('takes the shortest exact form of every number that binary16 holds', () => {
    for (let bits = 0; bits < 0x1_0000; bits++) {
      if (((bits >>> 10) & 0x1f) === 0x1f) continue;
      const value = halfValue(bits);
      const hex = written(value).toString('hex');
      if (Number.isInteger(value)) assert.equal(hex, encodeCbor(BigInt(value)).toString('hex'));
      else assert.equal(hex, `f9${bits.toString(16).padStart(4, '0')}`);
    }
  });

  it('takes binary32 where that is exact and binary16 is not, else binary64', () => {
    for (let power = -1074; power < 1024; power++) {
      for (const factor of [1, 1.5, 1 + 2 ** -11, 1 + 2 ** -23, 1 + 2 ** -24, 1 + 2 ** -52]) {
        const value = 2 ** power * factor;
        if (!Number.isFinite(value) || Number.isSafeInteger(value)) continue;
        const bytes = written(value);
        assert.ok(bytes.length <= (Math.fround(value) === value ? 5 : 9) && (bytes.length > 5) === (Math.fround(value) !== value), String(value));
        roundTrips(value);
        roundTrips(-value);
      }
    }
    for (const value of [65_520, 2 ** 53 - 1, 1 - 2 ** 53, -(2 ** 53), 2 ** 64, -0.5]) roundTrips(value);
    assert.equal(written(-0).toString('hex'), '00');
  });

  it('writes random values so that an independent decoder reads them back', () => {
    const random = randomOf(20_261);
    const text = (): string => Array.from({ length: random(40) }, () => ['a', 'é', '漢', '😀', '/'][random(5)] ?? '').join('');
    const scalar = (): Cbor => {
      const pick = random(8);
      if (pick === 0) return random(2 ** 31) * (random(2) ? 1 : -1);
      if (pick === 1) return (random(2 ** 31) - 2 ** 30) / 2 ** random(40);
      if (pick === 2) return Number((random(2 ** 31) / 1000).toFixed(2));
      if (pick === 3) return text();
      if (pick === 4) return new Uint8Array(random(400)).fill(random(256));
      if (pick === 5) return random(2) === 0;
      if (pick === 6) return 2 ** 54 + random(2 ** 31) * 2 ** 20;
      return null;
    };
    const value = (depth: number): Cbor => {
      const pick = depth === 0 ? 9 : random(4);
      if (pick === 0) return Array.from({ length: random(20) }, () => value(depth - 1));
      if (pick === 1) return new Map(Array.from({ length: random(20) }, () => [random(70_000) - 300, value(depth - 1)]));
      return scalar();
    };
    for (let i = 0; i < 300; i++) roundTrips(value(3));
    for (const big of [1n << 60n, 5n, -1n - (1n << 63n)]) roundTrips(big);
  });

  it('moves the text when its bytes need a longer head than its letters', () => {
    for (const length of [8, 22, 23, 24, 80, 85, 86, 255, 256, 21_845, 21_846]) { roundTrips('漢'.repeat(length)); roundTrips('a'.repeat(length)); }
  });

  it('refuses what is not a number', () => {
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) assert.throws(() => written(value), TenzroError);
  });

  it('refuses keys that are no small integers, and nesting beyond any use, with a typed error', () => {
    const malformed = (error: unknown): boolean => error instanceof TenzroError && error.code === 'cbor.malformed';
    const twoBigKeys = Buffer.from('a21bfffffffffffffffe001bffffffffffffffff00', 'hex');
    for (const bytes of [twoBigKeys, Buffer.from('a1617800', 'hex'), Buffer.concat([Buffer.alloc(100_000, 0x81), Buffer.of(0)])]) assert.throws(() => decodeCbor(bytes), malformed);
  });
});
