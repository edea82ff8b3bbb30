import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { judgeSlots, probeBoard } from '#runtime/cli/doctorBoard.ts';
import { probeHat } from '#runtime/cli/doctorHat.ts';
import type { Finding } from '#runtime/cli/probes.ts';
import type { Slot } from '#runtime/core/ports.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const SPI_BUS = 'sys/firmware/devicetree/base/soc/spi@7e204000';
const CHIP = `${SPI_BUS}/tpm@1`;
const NOW_MS = Date.UTC(2026, 10, 23);

describe('cli: doctor on a board', () => {
  let dir: TempDir;
  beforeEach(() => { dir = tempDir('board'); });
  afterEach(() => { dir[Symbol.dispose](); });

  const put = (files: Readonly<Record<string, string>>): void => {
    for (const [path, text] of Object.entries(files)) {
      const file = join(dir.path, path);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, text);
    }
  };
  const machine = (): { root: string; path: string; dataDir: string } => ({ root: dir.path, path: '', dataDir: '/data/tenzro' });
  const hat = (): Finding => {
    const [finding, ...more] = probeHat(machine());
    assert.ok(finding);
    assert.deepEqual(more, []);
    return finding;
  };
  const board = (nowMs = NOW_MS): ReadonlyMap<string, Finding> => new Map(probeBoard(machine(), nowMs).map((finding) => [finding.area, finding]));

  /** As a Pi 4 has it: /proc/device-tree leads to sysfs, properties end in NUL. */
  const asPi = (files: Readonly<Record<string, string>> = {}): void => {
    put({ 'sys/firmware/devicetree/base/model': 'Raspberry Pi 4 Model B Rev 1.5\0', 'sys/firmware/devicetree/base/compatible': 'raspberrypi,4-model-b\0brcm,bcm2711\0', 'proc/version': '', ...files });
    symlinkSync('../sys/firmware/devicetree/base', join(dir.path, 'proc/device-tree'));
  };
  const CHIP_ON_BUS = { [`${CHIP}/compatible`]: 'infineon,slb9670\0tcg,tpm_tis-spi\0', [`${CHIP}/status`]: 'okay\0', [`${SPI_BUS}/status`]: 'okay\0' };

  it('says nothing of hats and power on other machines', () => {
    assert.deepEqual(probeHat(machine()), []);
    assert.deepEqual(probeBoard(machine(), NOW_MS), []);
  });

  it('names the lines that a TPM hat needs where the device tree has none', () => {
    asPi({ 'boot/firmware/config.txt': '# dtoverlay=tpm-slb9670\narm_64bit=1\n' });
    assert.equal(hat().state, 'absent');
    assert.match(hat().means, /\/boot\/firmware\/config\.txt dtparam=spi=on and dtoverlay=tpm-slb9670 for one on SPI .*, dtoverlay=tpm-slb9673 for one on I²C/);
  });

  it('tells a missing overlay file from a line that did not take', () => {
    asPi({ 'boot/firmware/config.txt': 'dtparam=spi=on\n dtoverlay=tpm-slb9673\r\n' });
    assert.deepEqual([hat().state, /overlays\/tpm-slb9673\.dtbo is missing/.test(hat().means)], ['problem', true]);
    put({ 'boot/firmware/overlays/tpm-slb9673.dtbo': '' });
    assert.match(hat().means, /\[section\]/);
  });

  it('follows the way from the overlay to the device, step by step', () => {
    asPi({ ...CHIP_ON_BUS, [`${CHIP}/status`]: 'disabled\0', 'proc/sys/kernel/osrelease': '6.12.1-test\n' });
    assert.match(hat().detail, /infineon,slb9670 on SPI: disabled/);
    put({ ...CHIP_ON_BUS, [`${SPI_BUS}/status`]: 'disabled\0' });
    assert.match(hat().means, /dtparam=spi=on/);
    put(CHIP_ON_BUS);
    assert.match(hat().detail, /this kernel has no tpm_tis_spi/);
    put({ 'lib/modules/6.12.1-test/modules.dep': 'kernel/drivers/char/tpm/tpm_tis_spi_cr50.ko.xz:\nkernel/drivers/char/tpm/tpm_tis_i2c.ko.xz:\n' });
    assert.match(hat().detail, /this kernel has no tpm_tis_spi/, 'another module of a similar name is none');
    put({ 'lib/modules/6.12.1-test/modules.dep': 'kernel/drivers/char/tpm/tpm_tis_spi.ko.xz: kernel/drivers/char/tpm/tpm_tis_core.ko.xz\n' });
    assert.match(hat().means, /modprobe tpm_tis_spi/);
    put({ 'sys/module/tpm_tis_spi/initstate': 'live\n' });
    assert.deepEqual([hat().state, /found no chip/.test(hat().detail)], ['problem', true]);
    put({ 'usr/lib/tenzro-edge/image.json': '{}' });
    assert.deepEqual([hat().state, hat().detail], ['absent', 'none answers on SPI'], 'our image describes a hat on every board');
  });

  it('names the overlay that fits the device trees of our image', () => {
    asPi({ 'usr/lib/tenzro-edge/image.json': '{}', 'boot/firmware/config.txt': 'dtoverlay=tpm-slb9670\n' });
    assert.match(hat().means, /config\.txt dtoverlay=tenzro-tpm for one on SPI \(SLB9670, SLB9672\);/);
    put({ 'boot/firmware/config.txt': 'upstream_kernel=1\ndtoverlay=tenzro-tpm\n' });
    assert.match(hat().means, /overlays\/tenzro-tpm\.dtbo is missing: flash the card again/);
  });

  it('holds the device against the group tss', () => {
    asPi({ ...CHIP_ON_BUS, 'dev/tpmrm0': '' });
    chmodSync(join(dir.path, 'dev/tpmrm0'), 0o660);
    assert.match(hat().detail, /no group tss/);
    put({ 'etc/group': `root:x:0:\ntss:x:${(process.getgid?.() ?? 0) + 1}:tenzro\n` });
    assert.match(hat().detail, /not readable and writable for the group tss/);
    put({ 'etc/group': `tss:x:${process.getgid?.() ?? 0}:tenzro\n` });
    assert.deepEqual([hat().state, hat().detail], ['ok', 'infineon,slb9670 on SPI, by its overlay']);
    chmodSync(join(dir.path, 'dev/tpmrm0'), 0o600);
    assert.equal(hat().state, 'problem');
  });

  it('finds a chip on I²C below a bus that an overlay made', () => {
    asPi({ 'sys/firmware/devicetree/base/i2c-gpio@1/tpm@2e/compatible': 'infineon,slb9673\0tcg,tpm-tis-i2c\0' });
    assert.match(hat().detail, /infineon,slb9673 on I²C: this kernel has no tpm_tis_i2c/);
    assert.match(hat().means, /Debian's linux-image-arm64 does not/);
  });

  it('knows the image, its slot, its data partition, its swap and its clock', () => {
    const image = { 'usr/lib/tenzro-edge/image.json': '{"compatible":"tenzro-edge-pi64","version":"0.1.0","epochSeconds":1790000000}' };
    asPi({ ...image, 'proc/cmdline': 'root=PARTLABEL=system-a ro rauc.slot=A panic=5', 'proc/swaps': 'Filename Type Size Used Priority\n/dev/zram0 partition 1 0 100\n', 'proc/mounts': '/dev/mmcblk0p2 / ext4 ro 0 0\n/dev/mmcblk0p5 /data ext4 rw,noatime 0 0\n' });
    const found = board();
    assert.equal(found.get('board')?.detail, 'Raspberry Pi 4 Model B Rev 1.5');
    assert.deepEqual([found.get('image')?.state, found.get('image')?.detail], ['ok', 'tenzro-edge-pi64 0.1.0 in slot A']);
    for (const area of ['image.data', 'clock.now', 'swap']) assert.equal(found.get(area)?.state, 'ok', area);
    assert.equal(board(0).get('clock.now')?.state, 'problem', 'in 1970 no image had been built');
    put({ 'proc/cmdline': 'ro', 'proc/mounts': '/dev/mmcblk0p5 /data ext4 ro 0 0\n', 'proc/swaps': 'Filename\n/data/swap file 1 0 -2\n' });
    for (const area of ['image', 'image.data', 'swap']) assert.equal(board().get(area)?.state, 'problem', area);
    put({ 'proc/mounts': 'tmpfs /data tmpfs rw,size=131072k 0 0\n' });
    assert.match(board().get('image.data')?.detail ?? '', /^memory is mounted/);
    put({ 'proc/mounts': '/dev/mmcblk0p2 / ext4 ro 0 0\n', 'usr/lib/tenzro-edge/image.json': '{"version":1' });
    assert.deepEqual([board().get('image')?.state, board().get('image.data')], ['problem', undefined], 'a damaged file is named, nothing is guessed from it');
  });

  it('says which slot runs, whether it is confirmed, and whether there is a way back', () => {
    const slot = (name: string, state: Slot['state'], triesLeft?: number): Slot => ({ name, state, version: { kind: 'value', value: '0.2.0' }, ...(triesLeft === undefined ? {} : { triesLeft }) });
    const judge = (booted: Slot, other: Slot, next = booted.name): Finding => judgeSlots('firmware', { compatible: 'tenzro-edge-pi64', booted, other, next });
    assert.deepEqual(judge(slot('A', 'good', 3), slot('B', 'good')), { area: 'slots.firmware', state: 'ok', detail: 'runs A 0.2.0 good, 3 tries left; other B 0.2.0 good; next start: A', means: '' });
    for (const [booted, other, next, state, means] of [
      [slot('B', 'trial', 2), slot('A', 'good'), 'B', 'absent', /Not confirmed yet/],
      [slot('A', 'good'), slot('B', 'trial'), 'B', 'absent', /waits for a restart/],
      [slot('A', 'good'), slot('B', 'empty'), 'A', 'absent', /No other version/],
      [slot('A', 'bad'), slot('B', 'good'), 'B', 'problem', /was given up/],
    ] as const) assert.deepEqual([judge(booted, other, next).state, means.test(judge(booted, other, next).means)], [state, true], String(means));
  });

  it('reads voltage and temperature as this kernel has them', () => {
    asPi({ 'sys/class/hwmon/hwmon0/name': 'cpu_thermal\n' });
    assert.equal(board().get('power')?.state, 'absent', 'Debian\'s kernel');
    put({ 'sys/class/hwmon/hwmon1/name': 'rpi_volt\n', 'sys/class/hwmon/hwmon1/in0_lcrit_alarm': '0\n' });
    assert.equal(board().get('power')?.state, 'ok');
    put({ 'sys/class/hwmon/hwmon1/in0_lcrit_alarm': '1\n' });
    assert.equal(board().get('power')?.state, 'problem');
    put({ 'sys/devices/platform/soc/soc:firmware/get_throttled': '50005\n' });
    assert.equal(board().get('power')?.detail, 'the supply voltage is too low now; the processor is throttled now');
    put({ 'sys/devices/platform/soc/soc:firmware/get_throttled': '10000\n' });
    assert.equal(board().get('power')?.detail, 'since the start at times: the supply voltage is too low');
    put({ 'sys/devices/platform/soc/soc:firmware/get_throttled': '0\n' });
    assert.equal(board().get('power')?.state, 'ok');
  });

  it('tells a watchdog that is held from one that only is there', () => {
    asPi();
    assert.match(board().get('watchdog')?.means ?? '', /bcm2835_wdt/);
    put({ 'sys/class/watchdog/watchdog0/identity': 'Broadcom BCM2835 Watchdog timer\n', 'sys/class/watchdog/watchdog0/state': 'inactive\n', 'sys/class/watchdog/watchdog0/timeout': '15\n' });
    assert.equal(board().get('watchdog')?.state, 'absent');
    put({ 'sys/class/watchdog/watchdog0/state': 'active\n' });
    assert.deepEqual([board().get('watchdog')?.state, board().get('watchdog')?.detail], ['ok', 'Broadcom BCM2835 Watchdog timer, 15 s']);
  });

  it('states what was written to the card and how worn it says it is', () => {
    put({ 'proc/mounts': '/dev/mmcblk0p2 / ext4 ro 0 0\n/dev/mmcblk0p5 /data ext4 rw 0 0\n', 'sys/fs/ext4/mmcblk0p5/lifetime_write_kbytes': '2097152\n', 'sys/fs/ext4/mmcblk0p5/session_write_kbytes': '1024\n', 'sys/fs/ext4/mmcblk0p5/errors_count': '0\n' });
    assert.deepEqual([board().get('disk.writes')?.state, board().get('disk.writes')?.detail], ['ok', '2.00 GiB written since /dev/mmcblk0p5 was made, 0.00 GiB since it was mounted']);
    assert.equal(board().get('disk.wear'), undefined, 'an SD card does not say');
    put({ 'sys/fs/ext4/mmcblk0p5/errors_count': '3\n', 'sys/class/block/mmcblk0/device/life_time': '0x02 0x01\n', 'sys/class/block/mmcblk0/device/pre_eol_info': '0x01\n' });
    assert.equal(board().get('disk.writes')?.state, 'problem');
    assert.deepEqual([board().get('disk.wear')?.state, board().get('disk.wear')?.detail], ['ok', '10 to 20 % of its estimated life']);
    put({ 'sys/class/block/mmcblk0/device/life_time': '0x02 0x0b\n' });
    assert.equal(board().get('disk.wear')?.state, 'problem');
  });
});
