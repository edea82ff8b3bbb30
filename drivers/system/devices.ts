/** Disk of the data directory, network interfaces and power supply. */
import { statfs } from 'node:fs/promises';
import type { ChannelValue } from '#runtime/core/types.ts';
import { channelName, list, readNumber, readText } from './files.ts';
import { percent } from './load.ts';

export async function disk(dataDir: string): Promise<readonly ChannelValue[]> {
  let stats: Awaited<ReturnType<typeof statfs>>;
  try {
    stats = await statfs(dataDir);
  } catch {
    return []; // not there (yet), or not mounted: absent
  }
  const channels: ChannelValue[] = [
    { channel: 'total', value: stats.blocks * stats.bsize, unit: 'B' },
    { channel: 'free', value: stats.bavail * stats.bsize, unit: 'B' },
  ];
  // As df counts: of what an ordinary user can have.
  const used = stats.blocks - stats.bfree;
  if (used + stats.bavail > 0) channels.push({ channel: 'used', value: percent(used / (used + stats.bavail)), unit: '%' });
  if (stats.files > 0) channels.push({ channel: 'inodes_free', value: stats.ffree, unit: '1' });
  return channels;
}

/** Enough for a gateway; a host of containers has hundreds. */
const INTERFACES_MAX = 16;
const COUNTERS = [['rx_bytes', 'B'], ['tx_bytes', 'B'], ['rx_errors', '1'], ['tx_errors', '1'], ['rx_dropped', '1']] as const;

/** Counters since the interface came up: Linux Documentation/ABI/testing/sysfs-class-net-statistics. Loopback, container ends and what is down are left out. */
export async function network(root: string): Promise<readonly ChannelValue[]> {
  const folder = `${root}/sys/class/net`;
  const channels: ChannelValue[] = [];
  let taken = 0;
  for (const name of await list(folder)) {
    if (taken === INTERFACES_MAX) break;
    if (name === 'lo' || name.startsWith('veth') || await readText(folder, name, 'operstate') === 'down') continue;
    taken++;
    for (const [counter, unit] of COUNTERS) {
      const value = await readNumber(folder, name, 'statistics', counter);
      if (value !== undefined) channels.push({ channel: `${channelName(name)}.${counter}`, value, unit });
    }
  }
  return channels;
}

/** File, channel, divisor, unit: Linux Documentation/ABI/testing/sysfs-class-power. */
const SUPPLY = [
  ['online', 'online', 1, '1'], ['capacity', 'capacity', 1, '%'], ['voltage_now', 'voltage', 1e6, 'V'], ['current_now', 'current', 1e6, 'A'], ['power_now', 'power', 1e6, 'W'],
] as const;

export async function power(root: string): Promise<readonly ChannelValue[]> {
  const folder = `${root}/sys/class/power_supply`;
  const channels: ChannelValue[] = [];
  for (const supply of await list(folder)) {
    for (const [file, channel, divisor, unit] of SUPPLY) {
      const value = await readNumber(folder, supply, file);
      if (value !== undefined) channels.push({ channel: `${channelName(supply)}.${channel}`, value: value / divisor, unit });
    }
  }
  return [...channels, ...await raspberryPi(root)];
}

/**
 * A Raspberry Pi on a weak supply: the mainline driver `rpi_volt` (drivers/hwmon/raspberrypi-hwmon.c) has one alarm bit; the vendor's kernel has
 * the firmware's word, in hex: bit 0 under-voltage, bit 2 throttled, both now (Raspberry Pi documentation, vcgencmd get_throttled).
 */
async function raspberryPi(root: string): Promise<readonly ChannelValue[]> {
  const word = await throttledWord(root);
  const flag = (channel: string, value: number): ChannelValue => ({ channel, value, unit: '1' });
  if (word !== undefined) return [flag('under_voltage', word & 1), flag('throttled', (word >> 2) & 1)];
  const chips = `${root}/sys/class/hwmon`;
  for (const chip of await list(chips)) {
    if (await readText(chips, chip, 'name') !== 'rpi_volt') continue;
    const alarm = await readNumber(chips, chip, 'in0_lcrit_alarm');
    if (alarm !== undefined) return [flag('under_voltage', alarm)];
  }
  return [];
}

/** `/sys/devices/platform/soc/soc:firmware/get_throttled`; the folders' names carry an address on some models. */
async function throttledWord(root: string): Promise<number | undefined> {
  const platform = `${root}/sys/devices/platform`;
  for (const soc of (await list(platform)).filter((name) => name.startsWith('soc'))) {
    for (const firmware of (await list(platform, soc)).filter((name) => name.endsWith('firmware'))) {
      const text = await readText(platform, soc, firmware, 'get_throttled');
      if (text !== undefined && /^(0x)?[0-9a-f]{1,8}$/i.test(text)) return Number.parseInt(text, 16);
    }
  }
  return undefined;
}
