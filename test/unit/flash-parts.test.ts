import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { bootPartition } from '#provisioning/flash/bootFiles.ts';
import { candidates, checkedDisk, disksIn } from '#provisioning/flash/disks.ts';
import { parseBmap } from '#provisioning/flash/bmap.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { barOf } from '#runtime/cli/flash.ts';

const GIB = 1024 ** 3;
const refusal = (code: string, about: RegExp) => (error: unknown): boolean => error instanceof TenzroError && error.code === code && about.test(error.message);

/** With its own checksum set right, as bmaptool does. */
function map(body: string): Buffer {
  const blank = `<?xml version="1.0" ?>\n<bmap version="2.0">\n<!-- <Range> 7 </Range> -->\n<ChecksumType> sha256 </ChecksumType>\n<BmapFileChecksum> ${'0'.repeat(64)} </BmapFileChecksum>\n${body}\n</bmap>\n`;
  return Buffer.from(blank.replace('0'.repeat(64), createHash('sha256').update(blank).digest('hex')));
}
const sizes = (mapped: number, imageBytes = 40_960): string => `<ImageSize> ${imageBytes} </ImageSize><BlockSize> 4096 </BlockSize><MappedBlocksCount> ${mapped} </MappedBlocksCount>`;

describe('flash: block map', () => {
  it('reads ranges, single blocks and a last block that is cut', () => {
    const { imageBytes, extents } = parseBmap(map(`${sizes(4, 37_376)}<Range chksum="${'ab'.repeat(32)}"> 0-1 </Range><Range> 3 </Range><Range> 9 </Range>`));
    assert.equal(imageBytes, 37_376);
    assert.deepEqual(extents.map(({ offset, sizeBytes }) => [offset, sizeBytes]), [[0, 8_192], [12_288, 4_096], [36_864, 512]]);
    assert.equal(extents[0]?.sha256?.length, 32);
    assert.equal(extents[1]?.sha256, undefined);
  });

  const bad: readonly (readonly [string, Buffer, RegExp])[] = [
    ['another version', Buffer.from('<bmap version="3.0">'), /version 3/],
    ['what is no map', Buffer.from('<html>'), /no block map/],
    ['a range beyond the image', map(`${sizes(1)}<Range> 10 </Range>`), /range 10-10/],
    ['ranges out of order', map(`${sizes(2)}<Range> 5 </Range><Range> 5 </Range>`), /range 5-5/],
    ['a range that ends before it begins', map(`${sizes(1)}<Range> 5-4 </Range>`), /range 5-4/],
    ['a number that no computer counts to', map(`${sizes(1)}<Range> 99999999999999999999 </Range>`), /no number/],
    ['a range that cannot be read', map(`${sizes(2)}<Range> 1 </Range><Range what> one </Range>`), /no number|not as many/],
    ['fewer ranges than it says', map(`${sizes(2)}<Range> 1 </Range>`), /not as many/],
    ['a block of no size', map(sizes(0).replace('4096', '0')), /sizes/],
    ['a checksum of another form', map(`${sizes(1)}<Range chksum="12"> 1 </Range>`), /wrong form/],
    ['a comment that never ends, many times', Buffer.concat([Buffer.from('<bmap version="2.0">'), Buffer.alloc(4_000_000, '<!-- <Range')]), /no ChecksumType/],
  ];
  for (const [what, bytes, about] of bad) it(`refuses ${what}`, () => { assert.throws(() => parseBmap(bytes), refusal('flash.bmap', about)); });

  it('refuses a map of which one byte was changed', () => {
    const changed = Buffer.from(map(`${sizes(1)}<Range> 1 </Range>`).toString('latin1').replace('> 1 </Range>', '> 2 </Range>'), 'latin1');
    assert.throws(() => parseBmap(changed), refusal('flash.bmap', /its own checksum/));
  });
});

interface Node { readonly [name: string]: unknown }
const disk = (path: string, more: Node = {}): Node => ({ path, type: 'disk', size: 32 * GIB, 'log-sec': 512, rm: true, hotplug: true, ro: false, model: 'Card', mountpoints: [null], ...more });
const part = (path: string, mountpoint: string | null, more: Node = {}): Node => ({ path, type: 'part', size: GIB, rm: true, ro: false, mountpoints: [mountpoint], ...more });
const judged = (node: Node, path: string, wish: { readonly imageBytes?: number; readonly forceFixed?: boolean } = {}): string =>
  checkedDisk(disksIn(JSON.stringify({ blockdevices: [node] })), path, { imageBytes: wish.imageBytes ?? GIB, forceFixed: wish.forceFixed ?? false }).path;

describe('flash: which disk', () => {
  it('takes a card that nothing uses', () => {
    assert.equal(judged(disk('/dev/sdx', { children: [part('/dev/sdx1', null)] }), '/dev/sdx'), '/dev/sdx');
  });

  const refused: readonly (readonly [string, Node, string, RegExp])[] = [
    ['a partition, naming its disk', disk('/dev/sdx', { children: [part('/dev/sdx1', null)] }), '/dev/sdx1', /whole disk, \/dev\/sdx$/],
    ['a disk with a mounted partition, saying what to unmount', disk('/dev/sdx', { children: [part('/dev/sdx1', '/media/stick')] }), '/dev/sdx', /umount \/media\/stick/],
    ['the disk of this system', disk('/dev/sdx', { children: [part('/dev/sdx1', '/boot/firmware'), part('/dev/sdx2', '/')] }), '/dev/sdx', /runs from it/],
    ['a disk that is swapped to', disk('/dev/sdx', { children: [part('/dev/sdx1', '[SWAP]')] }), '/dev/sdx', /runs from it/],
    ['a disk whose system lies under encryption and volumes', disk('/dev/sdx', { children: [part('/dev/sdx1', null, { children: [{ path: '/dev/mapper/c', type: 'crypt', mountpoints: [], children: [{ path: '/dev/mapper/root', type: 'lvm', mountpoints: ['/'] }] }] })] }), '/dev/sdx', /runs from it/],
    ['a disk with an open volume that is not mounted', disk('/dev/sdx', { children: [part('/dev/sdx1', null, { children: [{ path: '/dev/mapper/c', type: 'crypt', mountpoints: [null] }] })] }), '/dev/sdx', /\/dev\/mapper\/c \(crypt\)/],
    ['a volume', { path: '/dev/mapper/v', type: 'lvm', size: GIB, mountpoints: [null] }, '/dev/mapper/v', /type lvm/],
    ['a write-protected card', disk('/dev/sdx', { ro: true }), '/dev/sdx', /read-only/],
    ['a reader without a card', disk('/dev/sdx', { size: 0 }), '/dev/sdx', /no medium/],
    ['a card that is too small', disk('/dev/sdx', { size: GIB - 512 }), '/dev/sdx', /1073741312 bytes, the image has 1073741824/],
    ['what lsblk does not know', disk('/dev/sdx'), '/dev/sdy', /does not know/],
  ];
  for (const [what, node, path, about] of refused) {
    it(`refuses ${what}, whatever is forced`, () => { for (const forceFixed of [false, true]) assert.throws(() => judged(node, path, { forceFixed }), refusal('flash.target', about)); });
  }

  it('refuses a disk that is built in until it is forced', () => {
    const fixed = disk('/dev/nvme0n1', { rm: false, hotplug: false });
    assert.throws(() => judged(fixed, '/dev/nvme0n1'), refusal('flash.fixed', /built into/));
    assert.equal(judged(fixed, '/dev/nvme0n1', { forceFixed: true }), '/dev/nvme0n1');
  });

  it('offers what it would take, and nothing else', () => {
    const nodes = [disk('/dev/sda', { rm: false, hotplug: false }), disk('/dev/sdb'), disk('/dev/sdc', { size: 0 }), disk('/dev/sdd', { children: [part('/dev/sdd1', '/media/stick')] })];
    assert.deepEqual(candidates(disksIn(JSON.stringify({ blockdevices: nodes }))).map(({ path }) => path), ['/dev/sdb']);
  });

  it('refuses what is no answer of lsblk', () => { assert.throws(() => disksIn('{'), refusal('flash.program', /cannot be read/)); });
});

describe('flash: boot partition', () => {
  const table = (types: readonly number[]): Buffer => {
    const head = Buffer.alloc(1024 * 1024);
    for (const [at, type] of types.entries()) {
      head[446 + at * 16 + 4] = type;
      head.writeUInt32LE(8192 * (at + 1), 446 + at * 16 + 8);
    }
    head.writeUInt16BE(0x55aa, 510);
    return head;
  };

  it('is the first FAT of an MBR', () => {
    assert.deepEqual(bootPartition(table([0x0c, 0x83])), { offset: 8192 * 512, isOurs: false });
    assert.deepEqual(bootPartition(table([0x83, 0x0e])), { offset: 2 * 8192 * 512, isOurs: false });
  });

  const broken: readonly (readonly [string, Buffer, RegExp])[] = [
    ['nothing', Buffer.alloc(0), /no partition table/],
    ['a disk without a table', Buffer.alloc(1024 * 1024), /no partition table/],
    ['a disk without a FAT', table([0x83]), /no FAT partition/],
    ['a GPT without its header', table([0xee]), /GPT is damaged/],
    ['a GPT with more entries than there can be', gpt(4_000_000_000, 128, 2n), /form/],
    ['a GPT with entries of no size', gpt(128, 0, 2n), /form/],
    ['a GPT whose entries are elsewhere', gpt(128, 128, 1n << 60n), /form/],
    ['a GPT without a boot partition', gpt(128, 128, 2n), /no FAT partition/],
  ];
  for (const [what, head, about] of broken) it(`is not in ${what}`, () => { assert.throws(() => bootPartition(head), refusal('flash.boot_files', about)); });

  function gpt(count: number, entryBytes: number, sector: bigint): Buffer {
    const head = table([0xee]);
    head.write('EFI PART', 512);
    head.writeBigUInt64LE(sector, 512 + 72);
    head.writeUInt32LE(count, 512 + 80);
    head.writeUInt32LE(entryBytes, 512 + 84);
    return head;
  }
});

describe('flash: progress', () => {
  it('shows bytes, rate and what is left', () => {
    assert.equal(barOf('writing  ', 64 * 1024 ** 2, 256 * 1024 ** 2, 8_000), 'writing   [██████··················] 25 %  64.0 MiB of 256.0 MiB, 8.0 MiB/s, 0:24 left');
    assert.equal(barOf('writing  ', 0, 4096, 0), 'writing   [························] 0 %  0 bytes of 4.0 KiB');
  });
});
