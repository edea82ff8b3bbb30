/** The image of a whole card: partition tables, then what the partitions hold. */
import { open, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BOOT_USED_BYTES, CARD_BYTES, DISK_UUID, PARTITIONS, SECTOR_BYTES, regionOf } from '../layout.ts';
import { FIRST_BOOT_STATE } from './bootState.ts';
import type { Workshop } from './workshop.ts';

const SFDISK = ['--quiet', '--no-reread', '--no-tell-kernel', '--wipe', 'never'];
const MBR_SERIAL = '0x7e420000';
/** The ROM of a Raspberry Pi 3 or Zero 2 knows no GPT: it wants an MBR with a FAT partition of this type. */
const MBR_FAT32 = 'c';
/** "Here is a GPT" (UEFI specification, section 5.2.3); Linux and U-Boot take the GPT where one entry of this type begins at sector 1. */
const MBR_GPT = 'ee';

/** `boot` and `slot`: files in the workshop's folder. Slot B stays empty until the first update. */
export async function makeCard(workshop: Workshop, { boot, slot, card }: { readonly boot: string; readonly slot: string; readonly card: string }): Promise<void> {
  const path = join(workshop.folder, card);
  await writeFile(path, '');
  await truncate(path, CARD_BYTES);
  await workshop.run('sfdisk', [...SFDISK, card], gptScript());
  await workshop.run('sfdisk', [...SFDISK, '--label-nested', 'dos', card], mbrScript());
  const { offsetBytes } = regionOf('boot');
  await lay(workshop, { part: boot, card, offsetBytes, conversion: 'notrunc,sparse' });
  await lay(workshop, { part: boot, card, offsetBytes, conversion: 'notrunc', firstBytes: BOOT_USED_BYTES });
  await lay(workshop, { part: slot, card, offsetBytes: regionOf('system-a').offsetBytes, conversion: 'notrunc,sparse' });
  await using file = await open(path, 'r+');
  await file.write(FIRST_BOOT_STATE, 0, FIRST_BOOT_STATE.length, regionOf('bootstate').offsetBytes);
}

function gptScript(): string {
  const lines = PARTITIONS.map(({ name, type, uuid }) => {
    const { offsetBytes, sizeBytes } = regionOf(name);
    return `start=${offsetBytes / SECTOR_BYTES}, size=${sizeBytes / SECTOR_BYTES}, type=${type}, uuid=${uuid}, name=${name}`;
  });
  return ['label: gpt', `label-id: ${DISK_UUID}`, 'unit: sectors', ...lines, ''].join('\n');
}

function mbrScript(): string {
  const { offsetBytes, sizeBytes } = regionOf('boot');
  const start = offsetBytes / SECTOR_BYTES;
  return ['label: dos', `label-id: ${MBR_SERIAL}`, 'unit: sectors', `start=${start}, size=${sizeBytes / SECTOR_BYTES}, type=${MBR_FAT32}`, `start=1, size=${start - 1}, type=${MBR_GPT}`, ''].join('\n');
}

interface Laid {
  readonly part: string;
  readonly card: string;
  readonly offsetBytes: number;
  readonly conversion: 'notrunc' | 'notrunc,sparse';
  /** Only the beginning of the part. */
  readonly firstBytes?: number;
}

/**
 * Holes of the image are what a block map leaves out, so that a card keeps there what it held before. In a slot ext4 says itself which blocks it has never written;
 * FAT's tables mean something by their zeros, and files may hold some: no hole there.
 */
async function lay(workshop: Workshop, { part, card, offsetBytes, conversion, firstBytes }: Laid): Promise<void> {
  const first = firstBytes === undefined ? [] : ['iflag=count_bytes', `count=${firstBytes}`];
  await workshop.run('dd', [`if=${part}`, `of=${card}`, 'bs=64K', ...first, `seek=${offsetBytes}`, 'oflag=seek_bytes', `conv=${conversion}`, 'status=none']);
}
