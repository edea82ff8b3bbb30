import assert from 'node:assert/strict';
import { toHex } from '#runtime/core/bytes.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { KIND, READING_BODY } from '#runtime/core/types.ts';
import { leafHash } from '#runtime/crypto/merkle.ts';
import { encodeEntry } from '#runtime/ledger/entry.ts';
import type { ProofBlock } from '#runtime/ledger/proofBuilder.ts';
import { Pace } from '#runtime/uplink/pace.ts';
import { nextStretch, withholding, type Stretch, type UplinkSource } from '#runtime/uplink/stretch.ts';
import { MemoryChain, SoftSealer, softChain } from '#test/support/memoryChain.ts';
import { NEVER } from '#test/support/sealHarness.ts';

/** As the ledger reads it, with everything below `oldest` pruned. */
const sourceOf = (chain: MemoryChain, oldest = 0): UplinkSource => ({
  *read(from, max) { for (let index = Math.max(from, oldest); index < Math.min(chain.entries.length, Math.max(from, oldest) + max); index++) yield { index, bytes: chain.entry(index) }; },
  leafHash: (index) => leafHash(chain.entry(index)),
  blockCount: () => chain.blockCount(),
  block: (sequence): ProofBlock => chain.block(sequence),
});
const everything = (): boolean => false;
const shape = (stretch: Stretch | undefined): readonly unknown[] => [stretch?.first, stretch?.leaves.length, stretch?.blocks.length];

function entryOf(topic: string | undefined, payload = 'x'): Buffer {
  const body = topic === undefined ? new Map([[1, 'a model']]) : new Map<number, string | Uint8Array>([[READING_BODY.topic, topic], [READING_BODY.payload, Buffer.from(payload)]]);
  return encodeEntry({ kind: topic === undefined ? KIND.inference : KIND.reading, source: 'device/motor//', wallMicros: 1, bootEpoch: 1, monoMicros: 1, body });
}

describe('uplink: what goes next', () => {
  it('is what no shipment has brought, each block behind its entries, and nothing without a block', () => {
    const { chain } = softChain(3, 4);
    chain.append(entryOf('te/device/motor///m/late'));
    const source = sourceOf(chain);
    assert.deepEqual(shape(nextStretch(source, { next: 0, nextBlock: 0 }, everything)), [0, 12, 3]);
    assert.deepEqual(shape(nextStretch(source, { next: 6, nextBlock: 1 }, everything)), [6, 6, 2]);
    assert.equal(nextStretch(source, { next: 12, nextBlock: 3 }, everything), undefined);
  });

  it('ends within its budget, in the middle of what a block covers too, and then goes on', () => {
    const chain = new MemoryChain();
    const sealer = new SoftSealer(chain);
    const payload = 'x'.repeat(60_000);
    for (let i = 0; i < 12; i++) chain.append(entryOf('te/device/motor///m/large', payload));
    sealer.seal();
    const source = sourceOf(chain);
    const first = nextStretch(source, { next: 0, nextBlock: 0 }, everything);
    assert.ok(first && first.leaves.length < 12 && first.blocks.length === 0);
    let at = { next: first.leaves.length, nextBlock: 0 };
    for (let shipments = 1; at.nextBlock === 0; shipments++) {
      const stretch = nextStretch(source, at, everything);
      assert.ok(stretch && shipments < 6);
      const bytes = stretch.leaves.reduce((sum, leaf) => sum + ('entry' in leaf ? leaf.entry.length : 0), 0);
      assert.ok(bytes < LIMITS.shipmentTargetBytes + LIMITS.entryBytesMax);
      at = { next: at.next + stretch.leaves.length, nextBlock: at.nextBlock + stretch.blocks.length };
    }
    assert.deepEqual(at, { next: 12, nextBlock: 1 });
  });

  it('sends hashes of what stays on the site: the first rule that matches counts, entries without a topic go', () => {
    const chain = new MemoryChain();
    const sealer = new SoftSealer(chain);
    const topics = ['te/device/motor///m/vibration', 'te/device/camera///m/people', 'te/device/camera///m/light', undefined];
    for (const topic of topics) chain.append(entryOf(topic));
    sealer.seal();
    const withholds = withholding([{ topic: 'te/device/camera///m/light', mode: 'all' }, { topic: 'te/device/camera/#', mode: 'never' }]);
    const stretch = nextStretch(sourceOf(chain), { next: 0, nextBlock: 0 }, withholds);
    assert.deepEqual(stretch?.leaves.map((leaf) => ('entry' in leaf ? 'entry' : toHex(leaf.hash))), ['entry', toHex(leafHash(chain.entry(1))), 'entry', 'entry']);
  });

  it('keeps what any of the policies keeps, whatever the others let go', () => {
    const [camera, motor] = [entryOf('te/device/camera///m/light'), entryOf('te/device/motor///m/vibration')];
    const [never, all] = [[{ topic: 'te/device/camera/#', mode: 'never' }] as const, [{ topic: '#', mode: 'all' }] as const];
    for (const [policies, camerasStays] of [[[never, all], true], [[all, never], true], [[never, []], true], [[all, []], false]] as const) {
      const withholds = withholding(...policies);
      assert.deepEqual([withholds(camera), withholds(motor)], [camerasStays, false], JSON.stringify(policies));
    }
  });

  it('sends hashes of what was pruned, and counts them', () => {
    const { chain } = softChain(2, 4);
    const stretch = nextStretch(sourceOf(chain, 5), { next: 2, nextBlock: 0 }, everything);
    assert.deepEqual([stretch?.leaves.map((leaf) => 'entry' in leaf), stretch?.pruned], [[false, false, false, true, true, true], 3]);
    const gone = nextStretch(sourceOf(chain, 8), { next: 6, nextBlock: 1 }, everything);
    assert.deepEqual([gone?.leaves.length, gone?.pruned, gone?.blocks.length], [2, 2, 1]);
  });
});

describe('uplink: pace', () => {
  it('lets each shipment wait until the one before is paid for', async () => {
    const pace = new Pace(10_000, systemClock);
    const from = systemClock.monoMicros();
    for (let shipment = 0; shipment < 3; shipment++) await pace.take(1_000, NEVER);
    const elapsedMs = (systemClock.monoMicros() - from) / 1_000;
    assert.ok(elapsedMs >= 195, `${elapsedMs} ms for two shipments of 100 ms`);
    const unlimited = new Pace(0, systemClock);
    await unlimited.take(1e9, NEVER);
    await unlimited.take(1e9, NEVER);
  });
});
