/** Cards in files: the real partitions, boot partition and slots as the build makes them, with next to nothing in them. */
import { closeSync, mkdirSync, openSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { makeCard } from '#image/disk/card.ts';
import { makeBootPartition, makeSlot } from '#image/disk/fileSystems.ts';
import { hostWorkshop, type Workshop } from '#image/disk/workshop.ts';
import { BOOT_STATE_BYTES, regionOf } from '#image/layout.ts';
import { tempDir } from '#test/support/temp.ts';
import type { SlotName } from './bootModel.ts';
import type { Tools } from './tools.ts';

/** A time like any other. */
const EPOCH_SECONDS = 1_795_000_000;
const LIMIT_MS = 120_000;

export const regionOfSlot = (slot: SlotName): ReturnType<typeof regionOf> => regionOf(slot === 'A' ? 'system-a' : 'system-b');

export function readAt(card: string, offset: number, length: number): Buffer {
  const file = openSync(card, 'r');
  try {
    const bytes = Buffer.alloc(length);
    readSync(file, bytes, 0, length, offset);
    return bytes;
  } finally {
    closeSync(file);
  }
}

export function writeAt(card: string, offset: number, bytes: Uint8Array): void {
  const file = openSync(card, 'r+');
  try {
    writeSync(file, bytes, 0, bytes.length, offset);
  } finally {
    closeSync(file);
  }
}

export const readBootSector = (card: string): Buffer => readAt(card, regionOf('bootstate').offsetBytes, BOOT_STATE_BYTES);
export const writeBootSector = (card: string, sector: Uint8Array): void => { writeAt(card, regionOf('bootstate').offsetBytes, sector); };

export type SlotFiles = Readonly<Record<string, Uint8Array>>;

export interface Miniature {
  /** Of boot.cmd. */
  readonly bootScript: string;
  /** At the top of each slot. */
  readonly slots: Readonly<Record<SlotName, SlotFiles>>;
}

/** A card without Linux, at `path`. Throws where a program fails. */
export async function miniatureCard(tools: Tools, path: string, { bootScript, slots }: Miniature): Promise<void> {
  using dir = tempDir('card');
  const workshop = hostWorkshop({ folder: dir.path, epochSeconds: EPOCH_SECONDS, signal: AbortSignal.timeout(LIMIT_MS) });
  mkdirSync(join(dir.path, 'boot'));
  await tools.run('mkimage', ['-A', 'arm64', '-T', 'script', '-C', 'none', '-n', 'boot', '-d', bootScript, join(dir.path, 'boot', 'boot.scr')]);
  await makeBootPartition(workshop, 'boot', 'boot.fat');
  await slotOf(workshop, slots.A, 'a');
  await slotOf(workshop, slots.B, 'b');
  await makeCard(workshop, { boot: 'boot.fat', slot: 'a.ext4', card: 'card.img' });
  await workshop.run('dd', ['if=b.ext4', 'of=card.img', 'bs=64K', `seek=${regionOfSlot('B').offsetBytes}`, 'oflag=seek_bytes', 'conv=notrunc,sparse', 'status=none']);
  await workshop.run('cp', ['--sparse=always', 'card.img', path]);
}

async function slotOf(workshop: Workshop, files: SlotFiles, name: string): Promise<void> {
  mkdirSync(join(workshop.folder, name));
  for (const [file, content] of Object.entries(files)) writeFileSync(join(workshop.folder, name, file), content);
  await makeSlot(workshop, name, `${name}.ext4`);
}
