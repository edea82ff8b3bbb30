/**
 * A TPM hat on a Raspberry Pi: the board cannot find one by itself, so an overlay has to describe it. Says where the way from config.txt to /dev/tpmrm0 ends.
 * Overlays `tpm-slb9670` and `tpm-slb9673`, both without parameters: raspberrypi/linux arch/arm/boot/dts/overlays/README. They do not fit the trees of the upstream kernel,
 * which our image has with an overlay of its own (image/disk/boot).
 */
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { IMAGE_FILE } from '#drivers/slots/rauc.ts';
import { lines, text, texts } from './doctorFiles.ts';
import { absent, ok, problem, type Finding, type Machine } from './probes.ts';

const AREA = 'tpm.hat';
/** As the image mounts it, and Raspberry Pi OS since Debian 12. */
const BOOT = 'boot/firmware';
const TREE = 'proc/device-tree';

interface Bus {
  readonly title: string;
  readonly module: string;
  readonly overlay: string;
  /** In config.txt. */
  readonly lines: string;
  readonly chips: string;
  /** Debian: CONFIG_TCG_TIS_SPI=m and no CONFIG_TCG_TIS_I2C in linux-image-arm64 6.12. */
  readonly kernels: string;
}

/** Drivers by bus: Linux drivers/char/tpm/tpm_tis_spi_main.c, tpm_tis_i2c.c. */
const SPI: Bus = { title: 'SPI', module: 'tpm_tis_spi', overlay: 'tpm-slb9670', lines: 'dtparam=spi=on and dtoverlay=tpm-slb9670', chips: 'SLB9670, SLB9672', kernels: "Debian's linux-image-arm64 and Raspberry Pi's own have it" };
const I2C: Bus = { title: 'I²C', module: 'tpm_tis_i2c', overlay: 'tpm-slb9673', lines: 'dtoverlay=tpm-slb9673', chips: 'SLB9673', kernels: "Raspberry Pi's own has it, Debian's linux-image-arm64 does not" };
const OURS: Bus = { ...SPI, overlay: 'tenzro-tpm', lines: 'dtoverlay=tenzro-tpm' };
/** Linux Documentation/devicetree/bindings/tpm/tcg,tpm_tis-spi.yaml and tcg,tpm-tis-i2c.yaml. */
const CHIPS = new Map([['infineon,slb9670', SPI], ['st,st33htpm-spi', SPI], ['tcg,tpm_tis-spi', SPI], ['infineon,slb9673', I2C], ['nuvoton,npct75x', I2C], ['tcg,tpm-tis-i2c', I2C]]);

export const isOurImage = (root: string): boolean => existsSync(join(root, IMAGE_FILE));

/** A Pi's tree has some 500 nodes, a chip on a bus is the fourth level. */
const NODES_MAX = 4_000;
const DEPTH_MAX = 6;

interface Chip {
  readonly name: string;
  readonly bus: Bus;
  readonly isOn: boolean;
  readonly isBusOn: boolean;
}

/** What the firmware or a boot loader says that this board is; undefined on machines without a device tree. */
export function boardModel(root: string): string | undefined {
  const model = text(join(root, TREE, 'model'));
  return model === '' ? undefined : model;
}

export const isRaspberryPi = (root: string): boolean => texts(join(root, TREE, 'compatible')).some((name) => name.startsWith('raspberrypi,'));

/** Nothing on other boards: theirs is soldered, or on a bus that announces it. */
export function probeHat({ root }: Machine): readonly Finding[] {
  if (!isRaspberryPi(root)) return [];
  const chip = findChip(root);
  if (existsSync(join(root, 'dev/tpmrm0'))) return [chip === undefined ? ok(AREA, '/dev/tpmrm0 by other means than the device tree') : judgeDevice(root, chip)];
  return [chip === undefined ? judgeNothing(root) : judgeChip(root, chip)];
}

function judgeNothing(root: string): Finding {
  const config = lines(join(root, BOOT, 'config.txt'));
  const buses = isOurImage(root) ? [OURS] : [SPI, I2C];
  const bus = buses.find(({ overlay }) => config.some((line) => line === `dtoverlay=${overlay}` || line.startsWith(`dtoverlay=${overlay},`)));
  if (bus === undefined) {
    const how = buses.map(({ title, lines: wanted, chips }) => `${wanted} for one on ${title} (${chips})`).join(', ');
    return absent(AREA, `${boardModel(root) ?? 'Raspberry Pi'}: the device tree has no TPM`, `If one is plugged in: add to /${BOOT}/config.txt ${how}; then switch off and on.`);
  }
  const file = join(root, BOOT, 'overlays', `${bus.overlay}.dtbo`);
  const detail = `config.txt asks for ${bus.overlay}, and the device tree has no TPM`;
  if (!existsSync(file)) return problem(AREA, detail, `/${BOOT}/overlays/${bus.overlay}.dtbo is missing: ${bus === OURS ? 'flash the card again' : 'take it from the Raspberry Pi firmware of the same version'}.`);
  return problem(AREA, detail, 'The line was added after this boot (switch off and on), stands under a [section] for another board, or the overlay does not fit the .dtb beside it.');
}

function judgeChip(root: string, { name, bus, isOn, isBusOn }: Chip): Finding {
  const { module, title } = bus;
  const bad = (what: string, means: string): Finding => problem(AREA, `${name} on ${title}: ${what}`, means);
  if (!isOn) return bad('disabled in the device tree', `Another line of /${BOOT}/config.txt takes its pins or its chip select: look for a second dtoverlay on ${title}.`);
  if (!isBusOn) return bad(`the ${title} bus is off`, `Add dtparam=${bus === SPI ? 'spi=on' : 'i2c_arm=on'} to /${BOOT}/config.txt, then switch off and on.`);
  if (!hasModule(root, module)) return bad(`this kernel has no ${module}`, `Install a kernel with it: ${bus.kernels}.`);
  if (!existsSync(join(root, 'sys/module', module))) return bad(`${module} is not loaded`, `sudo modprobe ${module}; if that helps: echo ${module} | sudo tee /etc/modules-load.d/tpm.conf`);
  // Our image describes the usual hat on every board.
  if (isOurImage(root)) return absent(AREA, `none answers on ${title}`, 'No hat, or it is not seated (pin 1 to pin 1), or it is on another chip select than CE1: sudo journalctl -k -g tpm says what the driver saw.');
  return bad(`${module} is loaded and found no chip`, 'Switch off, seat the hat (pin 1 to pin 1) and try again; a chip on the other chip select or a reset pin held low looks the same. sudo journalctl -k -g tpm says what the driver saw.');
}

/** tpm-udev gives it to the group tss; without the rule it is root's alone. */
function judgeDevice(root: string, { name, bus }: Chip): Finding {
  const group = groupId(root, 'tss');
  const { gid, mode } = statSync(join(root, 'dev/tpmrm0'));
  const means = 'Install tpm-udev and start again: its rule gives /dev/tpmrm0 to the group tss, in which the gateway is.';
  if (group === undefined) return problem(AREA, `${name} on ${bus.title}, and there is no group tss`, means);
  if (gid !== group || (mode & 0o060) !== 0o060) return problem(AREA, `${name} on ${bus.title}: /dev/tpmrm0 is not readable and writable for the group tss`, means);
  return ok(AREA, `${name} on ${bus.title}, by its overlay`);
}

function findChip(root: string): Chip | undefined {
  let left = NODES_MAX;
  const look = (folder: string, depth: number, isBusOn: boolean): Chip | undefined => {
    for (const { name } of readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory())) {
      if ((left -= 1) < 0) return undefined;
      const node = join(folder, name);
      const known = texts(join(node, 'compatible')).find((one) => CHIPS.has(one));
      const bus = known === undefined ? undefined : CHIPS.get(known);
      if (known !== undefined && bus !== undefined) return { name: known, bus, isOn: isOn(node), isBusOn };
      const found = depth < DEPTH_MAX ? look(node, depth + 1, isBusOn && isOn(node)) : undefined;
      if (found !== undefined) return found;
    }
    return undefined;
  };
  return look(join(root, TREE), 1, true);
}

/** Devicetree specification 2.3.4: without the property it is on. */
const isOn = (node: string): boolean => ['', 'okay', 'ok'].includes(text(join(node, 'status')));

/** modules.dep and modules.builtin name files: depmod(8), kbuild. */
function hasModule(root: string, module: string): boolean {
  const folder = join(root, 'lib/modules', text(join(root, 'proc/sys/kernel/osrelease')));
  const file = new RegExp(String.raw`/${module.replaceAll('_', '[-_]')}\.ko`);
  return ['modules.dep', 'modules.builtin'].some((name) => existsSync(join(folder, name)) && file.test(readFileSync(join(folder, name), 'utf8')));
}

function groupId(root: string, name: string): number | undefined {
  const id = text(join(root, 'etc/group')).split('\n').map((line) => line.split(':')).find(([one]) => one === name)?.[2];
  return id === undefined ? undefined : Number(id);
}
