/** Load, processor time, uptime and memory. Source: Linux proc(5). */
import type { ChannelValue } from '#runtime/core/types.ts';
import { readText } from './files.ts';

/** Jiffies since boot, from the first line of /proc/stat. */
export interface CpuTimes { readonly busy: number; readonly total: number }

export async function cpuTimes(root: string): Promise<CpuTimes | undefined> {
  const [line = ''] = (await readText(root, 'proc/stat') ?? '').split('\n');
  const fields = line.split(/\s+/);
  // user nice system idle iowait irq softirq steal; guest times stand in user and nice already
  const times = fields.slice(1, 9).map(Number);
  if (fields[0] !== 'cpu' || times.length < 4 || times.some((time) => !Number.isFinite(time))) return undefined;
  const total = times.reduce((sum, time) => sum + time, 0);
  return { busy: total - (times[3] ?? 0) - (times[4] ?? 0), total };
}

/** `before` is the previous sample's: processor load is a share of the time between. */
export async function load(root: string, before: CpuTimes | undefined, now: CpuTimes | undefined): Promise<readonly ChannelValue[]> {
  const channels: ChannelValue[] = [];
  const averages = /^([\d.]+) ([\d.]+) ([\d.]+) /.exec(await readText(root, 'proc/loadavg') ?? '');
  for (const [i, channel] of ['load_1', 'load_5', 'load_15'].entries()) {
    if (averages) channels.push({ channel, value: Number(averages[i + 1]), unit: '1' });
  }
  if (before && now && now.total > before.total) channels.push({ channel: 'cpu', value: percent((now.busy - before.busy) / (now.total - before.total)), unit: '%' });
  const uptime = /^([\d.]+)/.exec(await readText(root, 'proc/uptime') ?? '');
  if (uptime) channels.push({ channel: 'uptime', value: Number(uptime[1]), unit: 's' });
  return channels;
}

export async function memory(root: string): Promise<readonly ChannelValue[]> {
  const info = fieldsInBytes(await readText(root, 'proc/meminfo'));
  const self = fieldsInBytes(await readText(root, 'proc/self/status'));
  const channels: ChannelValue[] = [];
  const add = (channel: string, value: number | undefined, unit: string): void => { if (value !== undefined) channels.push({ channel, value, unit }); };
  const [total, available] = [info.get('MemTotal'), info.get('MemAvailable')];
  add('total', total, 'B');
  add('available', available, 'B');
  if (total && available !== undefined) add('used', percent(1 - available / total), '%');
  add('swap_total', info.get('SwapTotal'), 'B');
  add('swap_free', info.get('SwapFree'), 'B');
  add('process_rss', self.get('VmRSS'), 'B');
  return channels;
}

/** Lines such as `MemTotal:  4042360 kB`. */
function fieldsInBytes(text = ''): ReadonlyMap<string, number> {
  return new Map(Array.from(text.matchAll(/^(\w+):\s+(\d+) kB$/gm), ([, name = '', kibibytes]) => [name, Number(kibibytes) * 1024]));
}

/** Of a share from 0 to 1, in tenths. */
export const percent = (share: number): number => Math.round(Math.min(1, Math.max(0, share)) * 1000) / 10;
