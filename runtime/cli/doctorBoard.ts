/** What `tenzro doctor` looks at on a board: power, watchdog, wear of its card; and on our image the slot, the data partition, swap and clock. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { IMAGE_FILE } from '#drivers/slots/rauc.ts';
import { boardModel, isOurImage, isRaspberryPi } from './doctorHat.ts';
import type { Slot, SlotsStatus, UpdateKind } from '#runtime/core/ports.ts';
import { lines, text } from './doctorFiles.ts';
import { absent, list, ok, problem, type Finding, type Machine } from './probes.ts';

/** Where the image has everything that changes. */
const DATA = '/data';

interface Image {
  readonly compatible: string;
  readonly version: string;
  /** When it was built: no clock of a system that runs it can be right and earlier. */
  readonly epochSeconds: number;
}

/** `nowMs`: wall clock, Unix. */
export function probeBoard(machine: Machine, nowMs: number): readonly Finding[] {
  const { root } = machine;
  const image = imageOf(root);
  const onImage = typeof image === 'string' ? [problem('image', image, 'Nobody can tell which version this is, and no update can be judged: flash the card again, or install a whole image.')] : image === undefined ? [] : judgeImage(root, image, nowMs);
  const isBoard = onImage.length > 0 || isRaspberryPi(root);
  const model = boardModel(root);
  return [...(model === undefined ? [] : [ok('board', model)]), ...onImage, ...(isBoard ? [watchdog(root), power(root)] : []), ...wear(machine)];
}

/** Undefined on other systems; a text says what is wrong with it. */
function imageOf(root: string): Image | string | undefined {
  if (!isOurImage(root)) return undefined;
  try {
    const { compatible, version, epochSeconds } = JSON.parse(text(join(root, IMAGE_FILE))) as Partial<Image>;
    if (typeof compatible === 'string' && typeof version === 'string' && typeof epochSeconds === 'number') return { compatible, version, epochSeconds };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  return `${IMAGE_FILE} does not say compatible, version and epochSeconds`;
}

function judgeImage(root: string, { compatible, version, epochSeconds }: Image, nowMs: number): Finding[] {
  const slot = /(?:^|\s)rauc\.slot=(\S+)/.exec(text(join(root, 'proc/cmdline')))?.[1];
  const detail = `${compatible} ${version}`;
  return [
    slot === undefined ? problem('image', `${detail}, and the kernel was not told which slot it runs from`, 'Updates cannot be committed: boot it through its own boot.scr.') : ok('image', `${detail} in slot ${slot}`),
    dataPartition(root),
    nowMs >= epochSeconds * 1_000 ? ok('clock.now', new Date(nowMs).toISOString()) : problem('clock.now', `${new Date(nowMs).toISOString()}, before this image was built`, 'Certificates and leases look not yet valid: connect it to a network with NTP, or have the fleet send sync_time.'),
    swap(root),
  ];
}

function dataPartition(root: string): Finding {
  const mount = mounts(root).find(({ at }) => at === DATA);
  if (mount === undefined) return problem('image.data', `nothing is mounted on ${DATA}`, 'What is recorded now is lost at the next start: journalctl -b -u tenzro-data says why.');
  if (mount.type === 'tmpfs') return problem('image.data', `memory is mounted on ${DATA}, in place of a data partition that cannot be used`, 'What is recorded now is lost at the next start: journalctl -b -u tenzro-data says why.');
  if (mount.options.includes('ro')) return problem('image.data', `${mount.device} on ${DATA} is read-only`, 'The kernel found errors in it, or the card refuses to write: journalctl -k -g ext4; save what is on it and take another card.');
  return ok('image.data', `${mount.device} on ${DATA}, ${mount.type}`);
}

/** zram costs a card nothing; a swap file wears it out, and secrets would reach it. */
function swap(root: string): Finding {
  const devices = lines(join(root, 'proc/swaps')).slice(1).map((line) => line.split(/\s+/)[0] ?? '');
  const onDisk = devices.filter((device) => !/^\/dev\/zram\d+$/.test(device));
  if (onDisk.length > 0) return problem('swap', `${onDisk.join(', ')}: not in memory`, 'Secrets reach the card, and swapping wears it out: swapoff, and leave it to zram.');
  if (devices.length === 0) return absent('swap', 'none', 'Where memory is short the kernel ends a process: systemctl status tenzro-swap says why there is no zram.');
  return ok('swap', `${devices.join(', ')}, compressed in memory`);
}

/** Linux Documentation/ABI/testing/sysfs-class-watchdog. */
function watchdog(root: string): Finding {
  const folder = join(root, 'sys/class/watchdog/watchdog0');
  if (!existsSync(folder)) return absent('watchdog', 'none', 'A kernel that hangs stays so until somebody pulls the plug; on a Raspberry Pi the driver is bcm2835_wdt.');
  const [identity, state, seconds] = ['identity', 'state', 'timeout'].map((name) => text(join(folder, name)));
  const title = `${identity ?? ''}, ${seconds ?? '?'} s`;
  return state === 'active' ? ok('watchdog', title) : absent('watchdog', `${title}, not in use`, 'systemd feeds it when RuntimeWatchdogSec=15 stands in a file of /etc/systemd/system.conf.d.');
}

/** Raspberry Pi documentation, vcgencmd get_throttled: what is so now, and, 16 bits up, what was so since the start. */
const THROTTLED = ['the supply voltage is too low', 'the processor is slowed down', 'the processor is throttled', 'the processor is near its temperature limit'];
const THROTTLED_FILE = 'sys/devices/platform/soc/soc:firmware/get_throttled';
const POWER_MEANS = 'Cards lose data at low voltage: take a supply and a cable made for this board (5 V at 3 A for a Pi 4), and cool it.';

/** Raspberry Pi's kernel has the bits, others may have the alarm of drivers/hwmon/raspberrypi-hwmon.c; Debian's has neither. */
function power(root: string): Finding {
  const file = join(root, THROTTLED_FILE);
  if (existsSync(file)) {
    const bits = Number.parseInt(text(file), 16);
    const said = THROTTLED.flatMap((what, bit) => ((bits >> bit) & 1 ? [`${what} now`] : (bits >> (bit + 16)) & 1 ? [`since the start at times: ${what}`] : []));
    return said.length === 0 ? ok('power', 'voltage and temperature were in order since the start') : problem('power', said.join('; '), POWER_MEANS);
  }
  const folder = join(root, 'sys/class/hwmon');
  const sensor = list(folder).find((name) => text(join(folder, name, 'name')) === 'rpi_volt');
  if (sensor === undefined) return absent('power', 'this kernel does not tell the supply voltage', 'A supply that is too weak shows on the board alone: the red light of a Pi 3 or 4 goes out, a flash of lightning stands on HDMI.');
  return text(join(folder, sensor, 'in0_lcrit_alarm')) === '1' ? problem('power', 'the supply voltage is too low', POWER_MEANS) : ok('power', 'voltage is in order now');
}

const GIB = 1024 ** 3;
/** EXT_CSD bytes 268 and 269 count in tenths, 0x0b is beyond; byte 267: 2 is a warning, 3 urgent (`mmc extcsd read` of mmc-utils says so). */
const LIFE_SPENT = 0x0a;

/** ext4 counts what was written; SD cards say nothing of their wear, eMMC do. */
function wear({ root, dataDir }: Machine): Finding[] {
  const mount = mounts(root).filter(({ at }) => dataDir === at || dataDir.startsWith(at.endsWith('/') ? at : `${at}/`)).toSorted((a, b) => b.at.length - a.at.length)[0];
  if (mount === undefined || !mount.device.startsWith('/dev/')) return [];
  const name = mount.device.slice('/dev/'.length);
  const findings: Finding[] = [];
  const counted = join(root, 'sys/fs/ext4', name);
  if (existsSync(join(counted, 'lifetime_write_kbytes'))) {
    const [life, session] = ['lifetime_write_kbytes', 'session_write_kbytes'].map((file) => `${(Number(text(join(counted, file))) * 1024 / GIB).toFixed(2)} GiB`);
    const errors = Number(text(join(counted, 'errors_count')));
    const detail = `${life ?? ''} written since ${mount.device} was made, ${session ?? ''} since it was mounted`;
    findings.push(errors > 0 ? problem('disk.writes', `${detail}; ${errors} errors in the file system`, 'The card, its contacts or the supply fail: save what is on it (tenzro fsck tells whether the chain is whole) and take another card.') : ok('disk.writes', detail));
  }
  const disk = join(root, 'sys/class/block', name.replace(/p\d+$/, ''), 'device');
  const life = text(join(disk, 'life_time')).split(/\s+/).map((tenths) => Number.parseInt(tenths, 16)).filter((tenths) => tenths > 0);
  if (life.length > 0) {
    const most = Math.max(...life);
    const urgent = Number.parseInt(text(join(disk, 'pre_eol_info')), 16) >= 2;
    const detail = most > LIFE_SPENT ? 'beyond its estimated life' : `${(most - 1) * 10} to ${most * 10} % of its estimated life`;
    findings.push(urgent || most > LIFE_SPENT ? problem('disk.wear', detail, 'Replace it soon: it may stop writing at any time.') : ok('disk.wear', detail));
  }
  return findings;
}

const told = ({ name, version, state, triesLeft }: Slot): string => `${name} ${version.kind === 'value' ? version.value : '(version unknown)'} ${state}${triesLeft === undefined ? '' : `, ${triesLeft} tries left`}`;

/** Whether there is a way back, and which way the next start goes. */
export function judgeSlots(kind: UpdateKind, { booted, other, next }: SlotsStatus): Finding {
  const area = `slots.${kind}`;
  const detail = `runs ${told(booted)}; other ${told(other)}; next start: ${next}`;
  if (booted.state === 'trial') return absent(area, detail, 'Not confirmed yet: that needs a ready gateway, a block since its start, writable storage, and its broker where one is wanted. Else the other slot comes back by itself.');
  if (booted.state !== 'good') return problem(area, detail, 'What runs was given up and starts from the other slot next: start again, or install a newer version.');
  if (next !== booted.name) return absent(area, detail, 'An installed version waits for a restart.');
  return other.state === 'good' ? ok(area, detail) : absent(area, detail, 'No other version to go back to before the next update.');
}

interface Mount { readonly device: string; readonly at: string; readonly type: string; readonly options: readonly string[] }

/** proc_mounts(5); blanks in paths stay escaped, which no path of ours has. */
const mounts = (root: string): Mount[] => lines(join(root, 'proc/mounts')).map((line) => line.split(' ')).map(([device = '', at = '', type = '', options = '']) => ({ device, at, type, options: options.split(',') }));
