/** The two file systems of an image, made from folders without mounting anything; the same folders give the same bytes. */
import { lstat, lutimes, readdir, truncate, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { TenzroError } from '#runtime/core/errors.ts';
import { BOOT_USED_BYTES, MIB, SECTOR_BYTES, regionOf } from '../layout.ts';
import type { Workshop } from './workshop.ts';

/** Fixed, so that two builds agree; nothing looks a slot up by them. */
const SLOT_UUID = '6f2a1c58-0b47-4f6e-9a31-7a1d5c0e00a0';
const SLOT_HASH_SEED = '6f2a1c58-0b47-4f6e-9a31-7a1d5c0e00a1';
const FAT_SERIAL = '7E420001';
const FAT_LABEL = 'TENZROBOOT';
/** Small enough for the 65,525 clusters that make a FAT32, which the partition's type in the MBR (0c) promises to the Pi 3's ROM. */
const SECTORS_PER_CLUSTER = 8;
/** A table's entry for a cluster, and two tables. */
const FAT_BYTES_PER_CLUSTER = 2 * 4;
/** ext4's own needs, roughly: inode tables, bitmaps. */
const EXT4_OVERHEAD = 0.04;

/**
 * A slot: no journal, since nothing is ever written to it but a whole image; features that U-Boot reads.
 * `tree` and `file`: in the workshop's folder. Throws `image.content` where the tree is too large.
 */
export async function makeSlot(workshop: Workshop, tree: string, file: string): Promise<{ readonly usedBytes: number }> {
  const { sizeBytes } = regionOf('system-a');
  const usedBytes = await sizeOf(join(workshop.folder, tree));
  if (usedBytes > sizeBytes * (1 - EXT4_OVERHEAD)) throw new TenzroError('image.content', `the system takes ${Math.ceil(usedBytes / MIB)} MiB and a slot holds ${sizeBytes / MIB} MiB less ${EXT4_OVERHEAD * 100} %`);
  await workshop.run('mke2fs', [
    '-q', '-F', '-t', 'ext4', '-L', 'system', '-m', '0', '-b', '4096', '-O', '^has_journal,^metadata_csum_seed,^orphan_file',
    '-U', SLOT_UUID, '-E', `hash_seed=${SLOT_HASH_SEED},root_owner=0:0`, '-d', tree, file, `${sizeBytes / 1024}k`,
  ]);
  return { usedBytes };
}

/** The boot partition, of all files below `folder`, in byte order of their names. */
export async function makeBootPartition(workshop: Workshop, folder: string, file: string): Promise<void> {
  const { sizeBytes, offsetBytes } = regionOf('boot');
  await writeFile(join(workshop.folder, file), '');
  await truncate(join(workshop.folder, file), sizeBytes);
  await workshop.run('mkfs.fat', ['--invariant', '-F', '32', '-s', String(SECTORS_PER_CLUSTER), '-i', FAT_SERIAL, '-n', FAT_LABEL, '-h', String(offsetBytes / SECTOR_BYTES), file]);
  const root = join(workshop.folder, folder);
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  for (const entry of entries) await lutimes(join(entry.parentPath, entry.name), workshop.epochSeconds, workshop.epochSeconds);
  const tablesBytes = (sizeBytes / (SECTORS_PER_CLUSTER * SECTOR_BYTES)) * FAT_BYTES_PER_CLUSTER;
  if (await sizeOf(root) + tablesBytes > BOOT_USED_BYTES / 2) throw new TenzroError('image.content', 'the boot partition holds more than the image lays down whole: raise BOOT_USED_BYTES');
  const pathsOf = (isFolder: boolean): string[] => entries.filter((entry) => entry.isDirectory() === isFolder).map((entry) => relative(root, join(entry.parentPath, entry.name))).toSorted();
  for (const path of pathsOf(true)) await workshop.run('mmd', ['-i', file, `::${path}`]);
  for (const below of ['.', ...pathsOf(true)]) {
    const files = pathsOf(false).filter((path) => (path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : '.') === below);
    if (files.length > 0) await workshop.run('mcopy', ['-m', '-Q', '-i', file, ...files.map((path) => join(folder, path)), `::${below === '.' ? '' : below}`]);
  }
}

/** In blocks of 4 KiB, as ext4 keeps them; a file of several names counts once. */
async function sizeOf(tree: string): Promise<number> {
  const seen = new Set<bigint>();
  let bytes = 0;
  for (const entry of await readdir(tree, { recursive: true, withFileTypes: true })) {
    const { size, ino } = await lstat(join(entry.parentPath, entry.name), { bigint: true });
    if (seen.has(ino)) continue;
    seen.add(ino);
    bytes += Math.ceil(Number(size) / 4096) * 4096;
  }
  return bytes;
}
