/** What lies on the boot partition: the Pi's firmware, U-Boot and device trees from the slot's own Debian packages, our script, and what people read and write. */
import { cp, mkdir, readFile, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { TenzroError } from '#runtime/core/errors.ts';
import type { Workshop } from './workshop.ts';

const OWN = join(import.meta.dirname, 'boot');
const SCRIPT = join(import.meta.dirname, 'boot.cmd');
/** Its source, and its name on the partition. */
const OVERLAY = { source: 'tenzro-tpm.dts', path: 'overlays/tenzro-tpm.dtbo' } as const;
/** Of Debian's packages. Pi 3 and Zero 2 begin with bootcode.bin and start.elf; of a Pi 4 the EEPROM does the first's work. */
const FIRMWARE: Readonly<Record<string, string>> = {
  ...Object.fromEntries(['bootcode.bin', 'start.elf', 'fixup.dat', 'start4.elf', 'fixup4.dat'].map((name) => [name, `usr/lib/raspi-firmware/${name}`])),
  'LICENCE.firmware.txt': 'usr/share/doc/raspi-firmware/copyright',
  'u-boot.bin': 'usr/lib/u-boot/rpi_arm64/u-boot.bin',
};
/** Boards of COMPATIBLE, as Linux names their device trees. */
const TREES = /^(?:bcm2837-rpi-(?:3-|zero-2-|cm3)|bcm2711-rpi-).*\.dtb$/;
/** What boot.cmd uses, and U-Boot may be built without. */
const U_BOOT_COMMANDS = ['booti', 'setexpr', 'import [-d]', 'export [-t | -b | -c]', 'part number', 'part start'];

export interface BootFiles {
  /** In the workshop's folder: the slot's tree, and where the files go. */
  readonly tree: string;
  readonly folder: string;
}

/** Path on the partition to where it comes from: a path of the slot, or one of this repository without a slash before it. */
export type Origins = Readonly<Record<string, string>>;

/** Throws `image.content` where the base lacks something. */
export async function collectBootFiles(workshop: Workshop, { tree, folder }: BootFiles): Promise<Origins> {
  const [root, target] = [join(workshop.folder, tree), join(workshop.folder, folder)];
  const kernels = await deviceTrees(root);
  const origins: Record<string, string> = {};
  await mkdir(join(target, 'overlays'), { recursive: true });
  for (const [name, from] of Object.entries({ ...FIRMWARE, ...kernels })) {
    await cp(join(root, from), join(target, name), { dereference: true }).catch((cause: unknown) => { throw new TenzroError('image.content', `the base has no /${from}`, { cause }); });
    origins[name] = `/${from}`;
  }
  await checkUBoot(join(target, 'u-boot.bin'));
  await ownFiles(workshop, folder, origins);
  await checkOverlay(workshop, folder, Object.keys(kernels));
  return origins;
}

/** What needs no Pi: enough for QEMU, and for tests. */
export async function ownFiles(workshop: Workshop, folder: string, origins: Record<string, string>): Promise<void> {
  const target = join(workshop.folder, folder);
  for (const name of (await readdir(OWN)).filter((entry) => entry !== OVERLAY.source)) {
    await cp(join(OWN, name), join(target, name));
    origins[name] = `image/disk/boot/${name}`;
  }
  await cp(SCRIPT, join(workshop.folder, 'boot.cmd'));
  await workshop.run('mkimage', ['-A', 'arm64', '-T', 'script', '-C', 'none', '-n', 'tenzro', '-d', 'boot.cmd', join(folder, 'boot.scr')]);
  origins['boot.scr'] = 'image/disk/boot.cmd';
  await cp(join(OWN, OVERLAY.source), join(workshop.folder, OVERLAY.source));
  await workshop.run('dtc', ['-q', '-I', 'dts', '-O', 'dtb', '-o', join(folder, OVERLAY.path), OVERLAY.source]);
  origins[OVERLAY.path] = `image/disk/boot/${OVERLAY.source}`;
}

async function deviceTrees(root: string): Promise<Record<string, string>> {
  const [kernel, ...others] = (await readdir(join(root, 'usr/lib'))).filter((name) => name.startsWith('linux-image-'));
  if (kernel === undefined || others.length > 0) throw new TenzroError('image.content', `the base has ${kernel === undefined ? 'no kernel' : 'more than one kernel'} with device trees`);
  const folder = `usr/lib/${kernel}/broadcom`;
  return Object.fromEntries((await readdir(join(root, folder))).filter((name) => TREES.test(name)).toSorted().map((name) => [name, `${folder}/${name}`]));
}

async function checkUBoot(path: string): Promise<void> {
  const bytes = await readFile(path);
  const missing = U_BOOT_COMMANDS.filter((text) => !bytes.includes(text));
  if (missing.length > 0) throw new TenzroError('image.content', `this U-Boot has no ${missing.join(', ')}, which boot.cmd uses`);
}

/** The firmware would leave an overlay out that does not fit, without a word. */
async function checkOverlay(workshop: Workshop, folder: string, trees: readonly string[]): Promise<void> {
  for (const name of trees) await workshop.run('fdtoverlay', ['-i', join(folder, name), '-o', 'overlaid.dtb', join(folder, OVERLAY.path)]);
  await rm(join(workshop.folder, 'overlaid.dtb'));
}
