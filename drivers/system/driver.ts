/** The machine the gateway runs on, as a source of readings: sampled here, said in thin-edge JSON, and taken in through the same door as all else. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '#runtime/core/clock.ts';
import { formatTopic, MAIN_ENTITY } from '#runtime/core/topic.ts';
import type { ChannelValue } from '#runtime/core/types.ts';
import { disk, network, power } from './devices.ts';
import { cpuTimes, load, memory, type CpuTimes } from './load.ts';
import { temperatures } from './thermal.ts';

export const SYSTEM_GROUPS = ['temperature', 'load', 'memory', 'disk', 'network', 'power'] as const;
type SystemGroup = (typeof SYSTEM_GROUPS)[number];

export interface SystemSample {
  readonly wallMicros: number;
  /** What the machine lacks is absent: no channel, no zero. */
  readonly groups: Readonly<Record<SystemGroup, readonly ChannelValue[]>>;
}

export interface SystemDriverOptions {
  /** Folder that holds `proc` and `sys`; tests bring their own. Default `/`. */
  readonly root?: string;
  /** Its file system is the one that `disk` tells of. */
  readonly dataDir: string;
  readonly intervalMs: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** A sample at once, then one every `intervalMs` (as far as reading takes less), until `signal` aborts. */
export async function* openSystemDriver({ root = '/', dataDir, intervalMs, clock, signal }: SystemDriverOptions): AsyncGenerator<SystemSample, void, undefined> {
  let before: CpuTimes | undefined;
  while (!signal.aborted) {
    const startedMicros = clock.monoMicros();
    const now = await cpuTimes(root);
    yield {
      wallMicros: clock.wallMicros(),
      groups: {
        temperature: await temperatures(root), load: await load(root, before, now), memory: await memory(root),
        disk: await disk(dataDir), network: await network(root), power: await power(root),
      },
    };
    before = now;
    const restMs = intervalMs - (clock.monoMicros() - startedMicros) / 1000;
    try {
      await sleep(Math.max(0, restMs), undefined, { signal });
    } catch {
      return; // aborted: the only way this sleep fails
    }
  }
}

export interface SystemMessage {
  readonly topic: string;
  readonly payload: string;
  readonly retain: boolean;
}

/** The sample's measurements, each group with something in it; before a group, its units where they differ from those of `before`. */
export function toMessages(sample: SystemSample, before?: SystemSample): readonly SystemMessage[] {
  return SYSTEM_GROUPS.flatMap((group) => {
    const channels = sample.groups[group];
    if (channels.length === 0) return [];
    const units = nested(channels, ({ unit }) => unit);
    const known = before ? nested(before.groups[group], ({ unit }) => unit) : '';
    return [
      ...(units === known ? [] : [{ topic: topicOf(group, 'meta'), payload: `{"units":${units}}`, retain: true }]),
      { topic: topicOf(group, ''), payload: nested(channels, ({ value }) => value), retain: false },
    ];
  });
}

const topicOf = (type: SystemGroup, suffix: string): string => formatTopic({ kind: 'channel', entity: MAIN_ENTITY, channel: 'm', type, suffix });

/** JSON with `eth0.rx_bytes` as `{"eth0": {"rx_bytes": …}}`, as thin-edge groups values. */
function nested(channels: readonly ChannelValue[], of: (channel: ChannelValue) => number | string): string {
  const root = new Map<string, number | string | Map<string, number | string>>();
  for (const one of channels) {
    const [first = '', second] = one.channel.split('.');
    if (second === undefined) { root.set(first, of(one)); continue; }
    const group = root.get(first);
    if (group instanceof Map) group.set(second, of(one));
    else root.set(first, new Map([[second, of(one)]]));
  }
  return JSON.stringify(Object.fromEntries(Array.from(root, ([key, value]) => [key, value instanceof Map ? Object.fromEntries(value) : value])));
}
