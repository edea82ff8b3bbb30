import assert from 'node:assert/strict';
import { TenzroError } from '#runtime/core/errors.ts';
import { KIND, type Entry } from '#runtime/core/types.ts';
import { encodeCbor } from '#runtime/crypto/cbor.ts';
import { decodeEntry, encodeEntry, matchesEntry, peek } from '#runtime/ledger/entry.ts';
import { randomOf } from '#test/support/random.ts';

const ENTRY: Entry = { kind: KIND.reading, source: 'device/motor//', wallMicros: 1_795_392_000_123_456, bootEpoch: 3, monoMicros: 77, body: new Map([[1, 'x']]) };
const isMalformed = (error: unknown): boolean => error instanceof TenzroError && error.code === 'entry.malformed';

describe('ledger: entry', () => {
  it('is the map that the reference says, byte for byte', () => {
    const expected = encodeCbor(new Map<number, Entry['body']>([[1, 1], [2, KIND.reading], [3, ENTRY.source], [4, ENTRY.wallMicros], [5, 3], [6, 77], [7, ENTRY.body]]));
    assert.deepEqual(encodeEntry(ENTRY), expected);
  });

  it('comes back as it went in, whatever the clock says', () => {
    for (const wallMicros of [0, 1, -1_000_000, 1_795_392_000_123_456, 3_373_230_000_000_000]) {
      const entry = { ...ENTRY, wallMicros };
      assert.deepEqual(decodeEntry(encodeEntry(entry)), entry);
    }
  });

  it('shows kind and source without the rest', () => {
    for (const source of ['', 'device/main//', 'é'.repeat(100), 'a'.repeat(23), 'a'.repeat(24), 'a'.repeat(255), 'a'.repeat(300)]) {
      const bytes = encodeEntry({ ...ENTRY, source, kind: KIND.alarm });
      assert.deepEqual(peek(bytes), { kind: KIND.alarm, source });
      assert.ok(matchesEntry(bytes, { kinds: [KIND.alarm], source }));
      assert.ok(!matchesEntry(bytes, { kinds: [KIND.event] }));
      assert.ok(!matchesEntry(bytes, { source: `${source}x` }));
    }
  });

  it('refuses every byte cut off, and takes no flipped byte for the same entry', () => {
    const bytes = encodeEntry(ENTRY);
    for (let end = 0; end < bytes.length; end++) assert.throws(() => decodeEntry(bytes.subarray(0, end)), isMalformed, `cut at ${end}`);
    for (let at = 0; at < bytes.length * 8; at++) {
      const flipped = Buffer.from(bytes);
      flipped[at >> 3] = (flipped[at >> 3] ?? 0) ^ (1 << (at & 7));
      try {
        assert.notDeepEqual(decodeEntry(flipped), ENTRY);
      } catch (error) {
        if (!isMalformed(error)) throw error;
      }
    }
  });

  it('survives noise', () => {
    const random = randomOf(7);
    for (let i = 0; i < 2_000; i++) {
      const noise = Buffer.from(Array.from({ length: random(60) }, () => random(256)));
      if (i % 2 === 0) Buffer.from('a7010102', 'hex').copy(noise);
      for (const read of [decodeEntry, peek]) {
        try { read(noise); } catch (error) { if (!isMalformed(error)) throw error; }
      }
    }
  });

  it('refuses what is not an entry of this version', () => {
    for (const body of [[], 1, new Map([[1, 1]]), new Map<number, number | string>([[1, 2], [2, 3], [3, 'x'], [4, 0], [5, 0], [6, 0], [7, 0]]),
      new Map<number, number | string>([[1, 1], [2, 23], [3, 'x'], [4, 0], [5, 0], [6, 0], [7, 0]]), new Map<number, number | string>([[1, 1], [2, 3], [3, 'x'], [4, 0.5], [5, 0], [6, 0], [7, 0]])]) {
      assert.throws(() => decodeEntry(encodeCbor(body)), isMalformed);
    }
  });
});
