import assert from 'node:assert/strict';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { leafHash } from '#runtime/crypto/merkle.ts';
import { Segment, SegmentBuilder } from '#runtime/ledger/segment.ts';

function put(builder: SegmentBuilder, entry: Uint8Array): Buffer {
  builder.begin().raw(entry);
  return builder.end();
}
const entryOf = (index: number): Buffer => Buffer.alloc(1 + (index * 7) % 300, index);

describe('ledger: segment', () => {
  it('gives back every entry by its index, and the leaf that is hashed', () => {
    const builder = new SegmentBuilder();
    for (let i = 0; i < 500; i++) put(builder, entryOf(i));
    const segment = new Segment(9_000, builder.take());
    assert.equal(segment.count, 500);
    assert.equal(segment.end, 9_500);
    for (let i = 0; i < 500; i++) {
      assert.deepEqual(segment.entry(9_000 + i), entryOf(i));
      assert.deepEqual(sha256(segment.leaf(9_000 + i)), leafHash(entryOf(i)));
    }
  });

  it('forgets what is undone', () => {
    const builder = new SegmentBuilder();
    put(builder, Buffer.from('one'));
    builder.begin().raw(Buffer.from('never'));
    builder.undo();
    put(builder, Buffer.from('two'));
    const segment = new Segment(0, builder.take());
    assert.equal(segment.count, 2);
    assert.equal(segment.entry(1).toString(), 'two');
  });

  it('leaves a taken value alone until it is released, and is empty then', () => {
    const builder = new SegmentBuilder();
    put(builder, Buffer.from('first'));
    const value = builder.take();
    const before = Buffer.from(value);
    put(builder, Buffer.from('second'));
    assert.deepEqual(value, before);
    const second = builder.take();
    builder.release();
    put(builder, Buffer.from('third'));
    assert.equal(new Segment(0, builder.take()).entry(0).toString(), 'third');
    assert.equal(new Segment(0, before).entry(0).toString(), 'first');
    assert.equal(second.length, before.length + 1);
  });

  it('is full at its number of entries and at its bytes', () => {
    const many = new SegmentBuilder();
    for (let i = 0; i < LIMITS.batchEntriesMax; i++) { assert.ok(!many.isFull); put(many, Buffer.from('x')); }
    assert.ok(many.isFull);
    assert.equal(new Segment(0, many.take()).count, LIMITS.batchEntriesMax);
    const large = new SegmentBuilder();
    put(large, Buffer.alloc(LIMITS.entryBytesMax));
    put(large, Buffer.alloc(LIMITS.entryBytesMax));
    assert.ok(large.isFull);
    assert.equal(new Segment(0, large.take()).entry(1).length, LIMITS.entryBytesMax);
  });

  it('refuses a header that does not fit, and never reads past the end', () => {
    const builder = new SegmentBuilder();
    for (let i = 0; i < 5; i++) put(builder, entryOf(i));
    const value = builder.take();
    for (let end = 0; end < 8 + 5 * 4 + 2; end++) assert.throws(() => new Segment(0, value.subarray(0, end)), TenzroError);
    for (let at = 0; at < value.length; at++) {
      const flipped = Buffer.from(value);
      flipped[at] = (flipped[at] ?? 0) ^ 0xff;
      try {
        const segment = new Segment(0, flipped);
        for (let i = 0; i < segment.count; i++) segment.entry(i);
      } catch (error) {
        assert.ok(error instanceof TenzroError && error.code === 'entry.malformed', String(error));
      }
    }
  });
});
