/** The whole path under load: rate, acknowledgement latency, memory, bytes on the disk. All brokers live at once and take turns. */
import { runLoad, type LoadOptions, type LoadResult } from '#test/support/load.ts';
import { useOf, type ProcessUse } from '#test/support/process.ts';
import { until } from '#test/support/until.ts';
import { startAedes, startGateway, startMosquitto, type Contender, type GatewayUnderTest } from '../contenders.ts';
import { alone, median, paired, type Bench, type BenchOptions, type Figure } from '../figure.ts';

const MEBIBYTE = 1024 * 1024;
const SATURATED = { publishers: 50, bytes: 200, window: 20 } as const;
const STEADY = { publishers: 50, bytes: 200, rate: 2_000 } as const;
/** MQTT 3.1.1 §3.4: what each entry also costs in writes, to a socket. */
const PUBACK_BYTES = 4;
const SAMPLE_INTERVAL_MS = 200;
const REST_MS = 5_000;

interface Round {
  readonly load: LoadResult;
  readonly cpuMicrosPerMessage: number;
  /** Highest samples. */
  readonly rssBytes: number;
  readonly anonymousBytes: number;
}

async function measure({ port, pid }: Contender, options: Omit<LoadOptions, 'port'>): Promise<Round> {
  const before = useOf(pid);
  let { rssBytes, anonymousBytes } = before;
  const sampler = setInterval(() => {
    const now = useOf(pid);
    rssBytes = Math.max(rssBytes, now.rssBytes);
    anonymousBytes = Math.max(anonymousBytes, now.anonymousBytes);
  }, SAMPLE_INTERVAL_MS);
  try {
    const load = await runLoad({ port, ...options });
    if (load.brokerGone) throw new Error('the broker closed a connection under load');
    const cpuMicrosPerMessage = ((useOf(pid).cpuSeconds - before.cpuSeconds) * 1e6) / load.acked;
    return { load, cpuMicrosPerMessage, rssBytes, anonymousBytes };
  } finally {
    clearInterval(sampler);
  }
}

/** `rounds` rounds in which each contender runs once. The results by contender, by round. */
async function inTurn(contenders: readonly Contender[], rounds: number, options: Omit<LoadOptions, 'port'>): Promise<Round[][]> {
  const results = contenders.map((): Round[] => []);
  for (let round = 0; round < rounds; round++) {
    for (const [place, contender] of contenders.entries()) results[place]?.push(await measure(contender, options));
  }
  return results;
}

/** Memory once it has not fallen for a while: a start leaves garbage that goes when there is time. */
async function atRest(pid: number): Promise<ProcessUse> {
  let least = useOf(pid);
  let seenAt = performance.now();
  return until('memory at rest', () => {
    const now = useOf(pid);
    if (now.rssBytes < least.rssBytes - MEBIBYTE) [least, seenAt] = [now, performance.now()];
    return performance.now() - seenAt > REST_MS && least;
  }, { timeoutMs: 60_000, intervalMs: SAMPLE_INTERVAL_MS });
}

const mebibytes = (bytes: number): string => `${(bytes / MEBIBYTE).toFixed(0)} MiB`;
const rates = (rounds: readonly Round[]): number[] => rounds.map(({ load }) => load.ackedPerSecond);
const cpu = (rounds: readonly Round[]): string => median(rounds.map(({ cpuMicrosPerMessage }) => cpuMicrosPerMessage)).toFixed(1);
const peakMiB = (rounds: readonly Round[], what: 'rssBytes' | 'anonymousBytes'): number => Math.max(...rounds.map((round) => round[what])) / MEBIBYTE;

/** Entries in the log and bytes that the gateway has written, once everything it took is flushed. */
async function written({ gateway, pid }: GatewayUnderTest): Promise<{ entries: number; bytes: number }> {
  const status = await gateway.status();
  return { entries: status?.chain.entries ?? 0, bytes: useOf(pid).writtenBytes };
}

async function diskPerEntry(ours: GatewayUnderTest, work: () => Promise<void>): Promise<number> {
  const before = await written(ours);
  await work();
  const after = await written(ours);
  return (after.bytes - before.bytes) / (after.entries - before.entries) - PUBACK_BYTES;
}

export const traffic: Bench = {
  name: 'traffic',
  async run({ isQuick, say }: BenchOptions): Promise<Figure[]> {
    await startGateway().then((first) => first[Symbol.asyncDispose]()); // fills the compile cache, as on every installed gateway
    await using ours = await startGateway();
    await using aedes = await startAedes();
    await using mosquitto = await startMosquitto();
    const peers = [aedes, ...(mosquitto ? [mosquitto] : [])];
    say('idle: until memory has come to rest');
    const [idleOurs, idleBare] = await Promise.all([atRest(ours.pid), atRest(aedes.pid)]);
    const [warm, seconds, rounds] = isQuick ? [0.3, 1.2, 3] : [1, 4, 7];

    say('saturated: gateway, aedes, mosquitto in turn');
    await inTurn([ours, ...peers], 1, { ...SATURATED, warm: 0, seconds: isQuick ? 0.7 : 3 });
    let saturated: Round[][] = [];
    const bytesSaturated = await diskPerEntry(ours, async () => { saturated = await inTurn([ours, ...peers], rounds, { ...SATURATED, warm, seconds }); });
    say('2,000 messages/s: gateway and aedes in turn');
    let steady: Round[][] = [];
    const bytesSteady = await diskPerEntry(ours, async () => { steady = await inTurn([ours, aedes], isQuick ? 2 : 5, { ...STEADY, warm, seconds }); });

    const [mine = [], bare = [], mosquittos = []] = saturated;
    const [steadyMine = [], steadyBare = []] = steady;
    const generatorCpu = median([...mine, ...bare].map(({ load }) => load.generatorCpu)).toFixed(2);
    const latency = (rounds_: readonly Round[], key: 'p50Ms' | 'p99Ms'): number[] => rounds_.map(({ load }) => load[key]);
    return [
      paired('qos1_messages_per_s', 'messages/s', rates(mine), 'bare aedes', rates(bare), `50 publishers × 200 B, ${SATURATED.window} in flight each, acknowledged after the flush; ${cpu(mine)} against ${cpu(bare)} µs CPU per message, generator at ${generatorCpu} CPU`),
      ...(mosquitto ? [paired('qos1_messages_per_s_mosquitto', 'messages/s', rates(mine), 'mosquitto, persistence on', rates(mosquittos), `the same; mosquitto acknowledges before it stores, ${cpu(mosquittos)} µs CPU per message`)] : []),
      paired('ack_p50_ms', 'ms', latency(steadyMine, 'p50Ms'), 'bare aedes', latency(steadyBare, 'p50Ms'), 'at 2,000 messages/s, from the scheduled send; a batch waits up to 10 ms for company'),
      paired('ack_p99_ms', 'ms', latency(steadyMine, 'p99Ms'), 'bare aedes', latency(steadyBare, 'p99Ms'), 'the same'),
      paired('rss_idle_mib', 'MiB', [idleOurs.rssBytes / MEBIBYTE], 'bare aedes', [idleBare.rssBytes / MEBIBYTE], `whole process, model loaded, at rest after the start; ${mebibytes(idleOurs.anonymousBytes)} of it heaps and stacks, the rest pages of files, most of them Node's own`),
      paired('rss_load_mib', 'MiB', [peakMiB([...mine, ...steadyMine], 'rssBytes')], 'bare aedes', [peakMiB([...bare, ...steadyBare], 'rssBytes')], 'highest sample under load; counts the pages of the chain file that happen to be in the cache, which the kernel takes back at will'),
      paired('anonymous_load_mib', 'MiB', [peakMiB([...mine, ...steadyMine], 'anonymousBytes')], 'bare aedes', [peakMiB([...bare, ...steadyBare], 'anonymousBytes')], 'the same without pages of files: heaps and stacks, what the process really holds'),
      alone('disk_bytes_per_entry', 'bytes', bytesSaturated, 'saturated, what was handed to write calls, without acknowledgements; the entry itself has 450 bytes: payload, and what was made of it'),
      alone('disk_bytes_per_entry_steady', 'bytes', bytesSteady, 'at 2,000 messages/s: a batch of about 20 entries still rewrites whole pages of 4,096 bytes'),
    ];
  },
};
