/** What the boots under QEMU are held against: the model of the boot state, the kernel of twenty instructions, the log of writes. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BOOT_STATE_BYTES, BOOT_TRIES } from '#image/layout.ts';
import { choose, FRESH, sectorOf, stateOf, tries, variablesIn, type BootState } from '#test/image/bootModel.ts';
import { readDiskLog, replay } from '#test/image/diskLog.ts';
import { tinyKernel } from '#test/image/tinyKernel.ts';
import { randomOf } from '#test/support/random.ts';
import { tempDir } from '#test/support/temp.ts';

describe('image: the model of the boot state', () => {
  it('tries one slot three times, then the other, then begins anew', () => {
    assert.deepEqual(tries(FRESH).take(8).map(({ slot }) => slot).toArray(), ['A', 'A', 'A', 'B', 'B', 'B', undefined, 'A']);
    assert.deepEqual(choose({ order: ['B', 'A'], left: { A: 3, B: 0 } }), { slot: 'A', next: { order: ['B', 'A'], left: { A: 2, B: 0 } } });
  });

  it('goes through the sector and back, with what others keep there', () => {
    const state: BootState = { order: ['B', 'A'], left: { A: 1, B: BOOT_TRIES } };
    const sector = sectorOf(state, { machine_id: 'ab'.repeat(16) });
    assert.deepEqual(stateOf(sector), state);
    assert.equal(variablesIn(sector)?.get('machine_id'), 'ab'.repeat(16));
  });

  it('believes no sector in which one bit is wrong', () => {
    const random = randomOf(7);
    for (let round = 0; round < 64; round += 1) {
      const sector = sectorOf({ order: ['B', 'A'], left: { A: 0, B: 1 } });
      const at = random(BOOT_STATE_BYTES);
      sector.writeUInt8(sector.readUInt8(at) ^ (1 << random(8)), at);
      assert.deepEqual(stateOf(sector), FRESH, `byte ${at}`);
    }
  });
});

describe('image: the smallest kernel', () => {
  it('has the header that booti looks for, and jumps over it', () => {
    const kernel = tinyKernel('off');
    assert.equal(kernel.toString('latin1', 56, 60), 'ARM\x64');
    assert.equal(kernel.readBigUInt64LE(16), BigInt(kernel.length));
    assert.equal((kernel.readUInt32LE(0) & 0x3ffffff) * 4, 64, 'an unconditional branch to behind the header');
  });
});

/** A log as QEMU 10 writes it with sectors of 512 bytes. */
function logOf(entries: readonly { readonly sector: number; readonly sectors: number; readonly flags: number; readonly fill: number }[]): Buffer {
  const block = (values: readonly number[]): Buffer => {
    const bytes = Buffer.alloc(512);
    for (const [index, value] of values.entries()) bytes.writeBigUInt64LE(BigInt(value), index * 8);
    return bytes;
  };
  const head = block([0, 1, entries.length, 512]);
  head.writeBigUInt64LE(0x6a736677736872n, 0);
  return Buffer.concat([head, ...entries.flatMap(({ sector, sectors, flags, fill }) => [block([sector, sectors, flags, 0]), Buffer.alloc(sectors * 512, fill)])]);
}

describe('image: what a power cut leaves', () => {
  const entries = [
    { sector: 0, sectors: 2, flags: 0, fill: 0x11 }, { sector: 0, sectors: 0, flags: 1, fill: 0 }, { sector: 1, sectors: 1, flags: 0, fill: 0x22 },
    { sector: 2, sectors: 1, flags: 2, fill: 0x33 }, { sector: 3, sectors: 1, flags: 0, fill: 0x44 },
  ];

  it('keeps what was flushed or forced, and of the rest what chance keeps', () => {
    using dir = tempDir('disk-log');
    const [log, card] = [join(dir.path, 'log'), join(dir.path, 'card')];
    writeFileSync(log, logOf(entries));
    const read = readDiskLog(log);
    assert.deepEqual(read.map(({ kind }) => kind), ['write', 'flush', 'write', 'write', 'write']);
    const after = (count: number, keeps: boolean): readonly (number | undefined)[] => {
      writeFileSync(card, Buffer.alloc(4 * 512));
      replay(log, read, { card, count, keeps: () => keeps });
      const bytes = readFileSync(card);
      return [0, 1, 2, 3].map((sector) => bytes[sector * 512]);
    };
    assert.deepEqual(after(5, true), [0x11, 0x22, 0x33, 0x44]);
    assert.deepEqual(after(5, false), [0x11, 0x11, 0x33, 0]);
    assert.deepEqual(after(1, false), [0, 0, 0, 0], 'nothing was flushed yet');
  });

  it('leaves out an entry that is torn', () => {
    using dir = tempDir('disk-log');
    const log = join(dir.path, 'log');
    writeFileSync(log, logOf(entries).subarray(0, -100));
    assert.equal(readDiskLog(log).length, 4);
    writeFileSync(log, Buffer.alloc(512, 1));
    assert.throws(() => readDiskLog(log), /no log of writes/);
  });
});
