/** What a card holds, and the names that boot loader, system and updates know it by. */

/** What bundles must be made for: RAUC refuses others. Raspberry Pi 3, 4 and Zero 2 in 64 bits. */
export const COMPATIBLE = 'tenzro-edge-pi64';

export interface Partition {
  /** GPT name; `/dev/disk/by-partlabel/NAME` in the running system. */
  readonly name: string;
  readonly sizeMiB: number;
  /** GPT type: UEFI specification for U (EFI system), Discoverable Partitions Specification for the others. */
  readonly type: string;
  /** Fixed, so that two builds agree. Nothing identifies a card by them. */
  readonly uuid: string;
}

const EFI_SYSTEM = 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b';
const LINUX_DATA = '0fc63daf-8483-4772-8e79-3d69d8477de4';

/** In the image, in order. `data` follows behind them: the first boot makes it as large as the card. On `boot` there is room for a bundle, too: updates without a network. */
export const PARTITIONS = [
  { name: 'boot', sizeMiB: 384, type: EFI_SYSTEM, uuid: '6f2a1c58-0b47-4f6e-9a31-7a1d5c0e0001' },
  { name: 'bootstate', sizeMiB: 1, type: LINUX_DATA, uuid: '6f2a1c58-0b47-4f6e-9a31-7a1d5c0e0002' },
  { name: 'system-a', sizeMiB: 1024, type: LINUX_DATA, uuid: '6f2a1c58-0b47-4f6e-9a31-7a1d5c0e0003' },
  { name: 'system-b', sizeMiB: 1024, type: LINUX_DATA, uuid: '6f2a1c58-0b47-4f6e-9a31-7a1d5c0e0004' },
] as const satisfies readonly Partition[];

export const DISK_UUID = '6f2a1c58-0b47-4f6e-9a31-7a1d5c0e0000';

/** One sector, written in one piece: a power cut leaves the old state or the new one. */
export const BOOT_STATE_BYTES = 512;
/** How often a slot is tried before the other one is. */
export const BOOT_TRIES = 3;

export const SECTOR_BYTES = 512;
export const MIB = 1024 * 1024;
/** Before the first partition, where partitioners align it to; GPT needs 17 KiB of it. */
const HEAD_MIB = 1;
/** Behind the last one, for GPT's second copy. */
const TAIL_MIB = 1;

export interface Region {
  readonly name: (typeof PARTITIONS)[number]['name'];
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

/** Where each partition lies in the image: one behind the other. */
export const REGIONS: readonly Region[] = PARTITIONS.map(({ name, sizeMiB }, index) => ({
  name, sizeBytes: sizeMiB * MIB,
  offsetBytes: (HEAD_MIB + PARTITIONS.slice(0, index).reduce((sum, before) => sum + before.sizeMiB, 0)) * MIB,
}));

/** Of the boot partition, from its beginning: more than tables and files of the image take. What lies behind is free, and may hold anything. */
export const BOOT_USED_BYTES = 32 * MIB;

export const CARD_BYTES = (HEAD_MIB + PARTITIONS.reduce((sum, { sizeMiB }) => sum + sizeMiB, 0) + TAIL_MIB) * MIB;

/** Throws where the layout has no partition of that name: a mistake of ours. */
export function regionOf(name: Region['name']): Region {
  const region = REGIONS.find((candidate) => candidate.name === name);
  if (region === undefined) throw new Error(`the layout has no partition ${name}`);
  return region;
}
