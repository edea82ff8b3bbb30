/** Temperatures: thermal zones and hwmon sensors. Source: Linux Documentation/driver-api/thermal/sysfs-api.rst and Documentation/hwmon/sysfs-interface.rst. */
import type { ChannelValue } from '#runtime/core/types.ts';
import { channelName, list, readNumber, readText } from './files.ts';

/** Drivers give this and less for a sensor that is asleep. */
const ABSOLUTE_ZERO_C = -273.15;

export async function temperatures(root: string): Promise<readonly ChannelValue[]> {
  const found = new Map<string, ChannelValue>();
  const add = (name: string, milliCelsius: number | undefined): void => {
    if (milliCelsius === undefined || milliCelsius / 1000 <= ABSOLUTE_ZERO_C) return;
    let channel = name;
    for (let n = 2; found.has(channel); n++) channel = `${name}_${n}`;
    found.set(channel, { channel, value: milliCelsius / 1000, unit: '°C' });
  };
  const zones = `${root}/sys/class/thermal`;
  const zoneNames = new Set<string>();
  for (const zone of (await list(zones)).filter((name) => name.startsWith('thermal_zone'))) {
    const name = channelName(await readText(zones, zone, 'type') ?? zone);
    zoneNames.add(name);
    add(name, await readNumber(zones, zone, 'temp'));
  }
  const chips = `${root}/sys/class/hwmon`;
  for (const chip of await list(chips)) {
    const name = channelName(await readText(chips, chip, 'name') ?? chip);
    if (zoneNames.has(name)) continue; // the kernel shows each zone as a chip, too
    for (const file of (await list(chips, chip)).filter((one) => /^temp\d+_input$/.test(one))) {
      const sensor = file.slice(0, -'_input'.length);
      add(`${name}_${channelName(await readText(chips, chip, `${sensor}_label`) ?? sensor)}`, await readNumber(chips, chip, file));
    }
  }
  return [...found.values()];
}
