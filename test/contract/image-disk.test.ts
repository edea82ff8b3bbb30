import assert from 'node:assert/strict';
import { chmodSync, closeSync, mkdirSync, openSync, readFileSync, readSync, renameSync, statSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FIRST_BOOT_STATE } from '#image/disk/bootState.ts';
import { ownFiles } from '#image/disk/bootFiles.ts';
import { makeCard } from '#image/disk/card.ts';
import { makeBootPartition, makeSlot } from '#image/disk/fileSystems.ts';
import { hostWorkshop, type Workshop } from '#image/disk/workshop.ts';
import { CARD_BYTES, DISK_UUID, MIB, PARTITIONS, SECTOR_BYTES, regionOf } from '#image/layout.ts';
import { mapCard } from '#image/release/pack.ts';
import { ran } from '#test/support/diskImage.ts';
import { requirePeer } from '#test/support/peers.ts';
import { skipBecause } from '#test/support/skips.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const EPOCH_SECONDS = 1_795_000_000;
/** Beyond all that a small system writes. */
const USED_BYTES = 700 * MIB;

interface Table { readonly partitiontable: { readonly label: string; readonly id: string; readonly partitions: readonly { readonly start: number; readonly size: number; readonly type: string; readonly uuid?: string; readonly name?: string }[] } }
const tableOf = (card: string, nested: readonly string[] = []): Table['partitiontable'] => (JSON.parse(ran('sfdisk', ['--json', ...nested, card])) as Table).partitiontable;

/** As much of a system as the boot loader asks for. */
function tinyTree(folder: string): void {
  mkdirSync(join(folder, 'tree/boot'), { recursive: true });
  mkdirSync(join(folder, 'tree/var/lib/tenzro-edge'), { recursive: true });
  chmodSync(join(folder, 'tree/var/lib/tenzro-edge'), 0o700);
  writeFileSync(join(folder, 'tree/boot/vmlinuz-6'), Buffer.alloc(3_000_000, 'kernel'));
  writeFileSync(join(folder, 'tree/boot/initrd.img-6'), Buffer.concat([Buffer.from('initrd'), Buffer.alloc(1_000_000), Buffer.from('end')]));
  symlinkSync('boot/vmlinuz-6', join(folder, 'tree/vmlinuz'));
  symlinkSync('boot/initrd.img-6', join(folder, 'tree/initrd.img'));
}

async function build(workshop: Workshop): Promise<void> {
  await makeSlot(workshop, 'tree', 'rootfs.ext4');
  await layOut(workshop);
}

/** All but the slot. */
async function layOut(workshop: Workshop): Promise<void> {
  mkdirSync(join(workshop.folder, 'boot/overlays'), { recursive: true });
  await ownFiles(workshop, 'boot', {});
  await makeBootPartition(workshop, 'boot', 'boot.vfat');
  await makeCard(workshop, { boot: 'boot.vfat', slot: 'rootfs.ext4', card: 'card.img' });
}

/** Slot A within a card, as e2fsprogs take it. */
const slotIn = (card: string): string => `${card}?offset=${regionOf('system-a').offsetBytes}`;

/** fsck.fat knows no offsets. */
function bootOf(card: string): string {
  const { offsetBytes, sizeBytes } = regionOf('boot');
  const file = `${card}.boot`;
  ran('dd', [`if=${card}`, `of=${file}`, 'bs=1M', `skip=${offsetBytes / MIB}`, `count=${sizeBytes / MIB}`, 'status=none']);
  return file;
}

describe('image: a card made of small parts, read by the programs of others', () => {
  let folder: TempDir;
  let workshop: Workshop;
  before(async function () {
    this.timeout(60_000);
    for (const peer of ['sfdisk', 'mke2fs', 'mformat', 'fsck.fat', 'bmaptool', 'xz', 'mkimage', 'dtc'] as const) requirePeer(this, peer);
    folder = tempDir('image');
    workshop = hostWorkshop({ folder: folder.path, epochSeconds: EPOCH_SECONDS, signal: new AbortController().signal });
    tinyTree(folder.path);
    await build(workshop);
  });
  after(() => { folder[Symbol.dispose](); });

  it('has the partitions of the layout, in the GPT that sfdisk reads', () => {
    const { label, id, partitions } = tableOf(join(folder.path, 'card.img'));
    assert.deepEqual([label, id], ['gpt', DISK_UUID.toUpperCase()]);
    assert.deepEqual(partitions.map(({ name, start, size, type, uuid }) => ({ name, start, size, type, uuid })), PARTITIONS.map(({ name, type, uuid }) => ({
      name, start: regionOf(name).offsetBytes / SECTOR_BYTES, size: regionOf(name).sizeBytes / SECTOR_BYTES, type: type.toUpperCase(), uuid: uuid.toUpperCase(),
    })));
  });

  it('shows the boot partition in the MBR, which is all that the ROM of a Raspberry Pi 3 reads', () => {
    const { label, partitions } = tableOf(join(folder.path, 'card.img'), ['--label-nested', 'dos']);
    assert.equal(label, 'dos');
    assert.deepEqual(partitions.map(({ start, size, type }) => [start, size, type]), [[2_048, 786_432, 'c'], [1, 2_047, 'ee']]);
  });

  it('has file systems in which fsck finds nothing to mend', () => {
    assert.match(ran('fsck.fat', ['-n', '-v', bootOf(join(folder.path, 'card.img'))]), /FATs, 32 bit entries[^]*\d+ files, /);
    assert.match(ran('e2fsck', ['-f', '-n', slotIn(join(folder.path, 'card.img'))]), /Pass 5[^]*system: \d+\/\d+ files/);
  });

  it('holds kernel and initial RAM disk where the boot script looks, of root, with the modes of the tree', () => {
    const slot = slotIn(join(folder.path, 'card.img'));
    assert.match(ran('debugfs', ['-R', 'stat /vmlinuz', slot]), /Fast link dest: "boot\/vmlinuz-6"/);
    assert.match(ran('debugfs', ['-R', 'stat /boot/vmlinuz-6', slot]), /User: +0 +Group: +0[^]*Size: 3000000/);
    assert.match(ran('debugfs', ['-R', 'stat /var/lib/tenzro-edge', slot]), /Mode: +0700/);
  });

  it('starts with slot A and no try for the empty slot B', () => {
    const sector = Buffer.alloc(FIRST_BOOT_STATE.length);
    const card = openSync(join(folder.path, 'card.img'), 'r');
    readSync(card, sector, 0, sector.length, regionOf('bootstate').offsetBytes);
    closeSync(card);
    writeFileSync(join(folder.path, 'state.txt'), 'BOOT_ORDER=A B\nBOOT_A_LEFT=3\nBOOT_B_LEFT=0\n');
    ran('mkenvimage', ['-s', '512', '-p', '0', '-o', join(folder.path, 'state.bin'), join(folder.path, 'state.txt')]);
    assert.deepEqual(sector, readFileSync(join(folder.path, 'state.bin')));
  });

  it('carries the boot script as U-Boot wants it', () => {
    writeFileSync(join(folder.path, 'read.scr'), ran('mtype', ['-i', bootOf(join(folder.path, 'card.img')), '::boot.scr']));
    assert.match(ran('mkimage', ['-l', join(folder.path, 'boot/boot.scr')]), /AArch64 Linux Script \(uncompressed\)/);
    assert.ok(readFileSync(join(folder.path, 'read.scr')).includes(readFileSync(join(import.meta.dirname, '../../image/disk/boot.cmd'))));
  });

  it('is whole on a used card of which only the mapped blocks were written', async function () {
    this.timeout(60_000);
    await mapCard(workshop, 'card.img');
    const used = join(folder.path, 'used.img');
    writeFileSync(used, Buffer.alloc(USED_BYTES, 0xa5));
    truncateSync(used, CARD_BYTES);
    ran('bmaptool', ['copy', '--bmap', join(folder.path, 'card.img.bmap'), join(folder.path, 'card.img'), used]);
    assert.match(ran('fsck.fat', ['-n', bootOf(used)]), /\d+ files/);
    assert.match(ran('e2fsck', ['-f', '-n', slotIn(used)]), /Pass 5/);
    assert.match(ran('debugfs', ['-R', 'cat /boot/initrd.img-6', slotIn(used)]), /^initrd\0{1000000}end$/);
  });

  it('comes out the same a second time', async function () {
    this.timeout(60_000);
    await mapCard(workshop, 'card.img');
    for (const name of ['card.img', 'card.img.bmap', 'boot']) renameSync(join(folder.path, name), join(folder.path, `first-${name}`));
    await layOut(workshop);
    await mapCard(workshop, 'card.img');
    assert.equal(readFileSync(join(folder.path, 'card.img.bmap'), 'utf8'), readFileSync(join(folder.path, 'first-card.img.bmap'), 'utf8'));
  });

  it('has the same slot a second time, whoever looked at the files in between', async function () {
    const [, major = '0', minor = '0', patch = '0'] = /mke2fs (\d+)\.(\d+)\.(\d+)/.exec(ran('sh', ['-c', 'mke2fs -V 2>&1'])) ?? [];
    if (Number(major) * 10_000 + Number(minor) * 100 + Number(patch) < 14_701) skipBecause(this, 'e2fsprogs before 1.47.1 writes the times of access and change into the file system; the tools chroot has a newer one');
    renameSync(join(folder.path, 'rootfs.ext4'), join(folder.path, 'first.ext4'));
    utimesSync(join(folder.path, 'tree/boot/vmlinuz-6'), 1, statSync(join(folder.path, 'tree/boot/vmlinuz-6')).mtime);
    await makeSlot(workshop, 'tree', 'rootfs.ext4');
    ran('cmp', [join(folder.path, 'rootfs.ext4'), join(folder.path, 'first.ext4')]);
  });
});
