/** A controller and its fleet: gateways that are light but real to it, commands to all of them, their blocks and receipts, memory, and what a kill costs. */
import { join } from 'node:path';
import { clientCertificate, clientKey } from '#runtime/crypto/clientIdentity.ts';
import { newSeed, signerOfSeed, verifyMlDsa65 } from '#runtime/crypto/mldsa.ts';
import { openReader } from '#runtime/ledger/reader.ts';
import { SIGNER } from '#test/support/ledger.ts';
import { tempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';
import { BareFan } from '../fleet/bareFan.ts';
import { nowMs } from '../fleet/clock.ts';
import { Crew } from '../fleet/crew.ts';
import { FleetUnderTest } from '../fleet/underTest.ts';
import { alone, median, paired, ratePerSecond, type Bench, type Figure } from '../figure.ts';
import type { GatewayMethods, Standing } from '../peers/gateways.ts';
import { DEVICE, drainTo, fill } from './uplink.ts';

const FILE = join(import.meta.dirname, '..', 'peers', 'gateways.ts');
const PROCESSES = 2;
const ENTRIES_PER_BLOCK = 10;
const MIB = 1024 * 1024;
const SIMULATED = 'simulated gateways: ledgers in memory, blocks made beforehand with software evidence, commands do nothing; keys, TLS, MQTT, judging, shipments, signatures are real';

interface Sizes {
  readonly gateways: number;
  readonly rounds: number;
  /** Per gateway, one by one: each when the one before it is receipted. */
  readonly steps: number;
  /** Per gateway, at once. */
  readonly backlog: number;
  /** Of the gateway that was away for a week, with a reading in six seconds. */
  readonly entries: number;
  /** Of the others meanwhile, all together. */
  readonly live: { readonly perS: number; readonly seconds: number };
}

const FULL: Sizes = { gateways: 1_000, rounds: 3, steps: 8, backlog: 16, entries: 100_000, live: { perS: 50, seconds: 6 } };
const QUICK: Sizes = { gateways: 100, rounds: 2, steps: 8, backlog: 16, entries: 20_000, live: { perS: 50, seconds: 2 } };
/** Per gateway: one at the beginning, one after the kill, one before and one during the drain. */
const OTHER_BLOCKS = 4;

export const fleet: Bench = {
  name: 'fleet',
  async run({ isQuick, say }): Promise<Figure[]> {
    const sizes = isQuick ? QUICK : FULL;
    const names = Array.from({ length: sizes.gateways }, (_, at) => `gw-${at}`);
    await using stack = new AsyncDisposableStack();
    const dir = stack.use(tempDir('bench-fleet'));
    const tested = stack.use(await FleetUnderTest.start(dir.path));
    const before = await restingRss(tested);
    const crew = stack.use(new Crew<GatewayMethods>(FILE, PROCESSES));
    say(`${names.length} gateways: ${SIMULATED}`);
    await people(tested, crew, names, sizes, say);
    const after = await restingRss(tested);
    const mib = (bytes: number): string => (bytes / MIB).toFixed(0);
    const figures = [alone('fleet_memory_per_gateway_kib', 'KiB', (after - before) / names.length / 1024, `resident memory of the controller with its broker: ${mib(before)} MiB before the first gateway, ${mib(after)} MiB with ${names.length} (${mib(tested.use.anonymousBytes)} MiB without pages of files), what a heap grows by at first work included; each has a TLS connection, its place in the register, a chain with its first receipt, retained status and capabilities`)];
    say('a command to each of them, and the same through bare mosquitto');
    figures.push(...await fanOuts(tested, names, sizes));
    say('blocks and receipts');
    figures.push(...await blocks(tested, crew, sizes));
    say(`one more gateway with a backlog of ${sizes.entries} entries`);
    figures.push(...await week(tested, crew, sizes));
    say('kill -9 of the controller');
    figures.push(...await storm(tested, crew, sizes));
    return figures;
  },
};

async function people(tested: FleetUnderTest, crew: Crew<GatewayMethods>, names: readonly string[], { steps, backlog }: Sizes, say: (text: string) => void): Promise<void> {
  const share = Math.ceil(names.length / PROCESSES);
  const made = await crew.ask('make', (place) => ({ names: names.slice(place * share, (place + 1) * share), blocks: OTHER_BLOCKS + steps + backlog, entriesPerBlock: ENTRIES_PER_BLOCK }));
  const from = nowMs();
  await tested.claim(made.flatMap(({ keys }) => keys));
  const claimedAt = nowMs();
  const receiptKey = Buffer.from(tested.own.receiptKey, 'hex');
  await crew.ask('start', () => ({ url: tested.url, ca: tested.ca, receiptKey, operators: tested.operators }));
  const connectedAt = nowMs();
  await crew.ask('seal', () => ({ blocks: 1, pace: 'at once' as const }));
  say(`keys and ${OTHER_BLOCKS + steps + backlog} blocks each in ${seconds(Math.max(...made.map(({ ms }) => ms)))} s, claimed in ${seconds(claimedAt - from)} s, connected in ${seconds(connectedAt - claimedAt)} s`);
}

async function fanOuts(tested: FleetUnderTest, names: readonly string[], { rounds }: Sizes): Promise<Figure[]> {
  await using bare = await BareFan.start(names);
  const [ours, theirs]: [(readonly number[])[], (readonly number[])[]] = [[], []];
  const warm = tested.sign(names, 'warm');
  await tested.fanOut(warm);
  await bare?.fanOut(warm);
  for (let round = 0; round < rounds; round++) {
    const orders = tested.sign(names, `round-${round}`);
    ours.push(await tested.fanOut(orders));
    if (bare) theirs.push(await bare.fanOut(orders));
  }
  const note = `${names.length} commands handed in by 100 as the command line does, from the first to the word that each succeeded; the peer carries the same messages over TLS and judges, signs and stores nothing`;
  return ([['p50', 0.5], ['p99', 0.99]] as const).map(([name, share]) => {
    const of = (all: readonly (readonly number[])[]): number[] => all.map((latencies) => percentile(latencies, share));
    return bare ? paired(`fleet_fan_out_${name}_ms`, 'ms', of(ours), 'bare mosquitto, mqtt.js', of(theirs), note) : alone(`fleet_fan_out_${name}_ms`, 'ms', median(of(ours)), note);
  });
}

async function blocks(tested: FleetUnderTest, crew: Crew<GatewayMethods>, { gateways, steps, backlog }: Sizes): Promise<Figure[]> {
  const timed = async (count: number, pace: 'at once' | 'one by one'): Promise<{ readonly perS: number; readonly cpuMicros: number }> => {
    const [from, cpu] = [nowMs(), tested.use.cpuSeconds];
    const { lastReceiptAtMs } = joined(await crew.ask('seal', () => ({ blocks: count, pace })));
    return { perS: (count * gateways) / ((lastReceiptAtMs - from) / 1_000), cpuMicros: ((tested.use.cpuSeconds - cpu) * 1e6) / (count * gateways) };
  };
  const receipts = await timed(steps, 'one by one');
  const verified = await timed(backlog, 'at once');
  const bare = await bareSignatures();
  return [
    paired('fleet_receipts_per_s', 'receipts/s', [receipts.perS], 'bare ML-DSA-65: verify, sign', [bare.both], `every gateway ships its next block, over ${ENTRIES_PER_BLOCK} readings, when it has the receipt for the last: a fsync and a signature for each; ${receipts.cpuMicros.toFixed(0)} µs of the controller's CPU for each`),
    paired('fleet_blocks_per_s', 'blocks/s', [verified.perS], 'bare ML-DSA-65: verify', [bare.verify], `${backlog} blocks in one shipment of each gateway, as after an outage; ${verified.cpuMicros.toFixed(0)} µs of the controller's CPU for each`),
  ];
}

/** What one core does that does nothing else, per second. */
async function bareSignatures(): Promise<{ readonly verify: number; readonly both: number }> {
  const [signer, message] = [signerOfSeed(newSeed()), Buffer.alloc(SIGNED_BYTES)];
  const signature = signer.sign(message);
  const verify = (): number => Number(verifyMlDsa65(signer.publicKey, message, signature));
  const both = (): number => {
    signer.sign(message);
    return verify();
  };
  return { verify: await ratePerSecond(BARE_MS, verify), both: await ratePerSecond(BARE_MS, both) };
}
/** Around what a block signs. */
const SIGNED_BYTES = 400;
const BARE_MS = 1_000;

/** A gateway comes back after a long outage, while the others go on. */
async function week(tested: FleetUnderTest, crew: Crew<GatewayMethods>, { entries, live }: Sizes): Promise<Figure[]> {
  using dir = tempDir('bench-week');
  await fill(dir.path, entries);
  await tested.claim([{ name: DEVICE, publicKey: SIGNER.publicKey }]);
  const measure = async (): Promise<readonly number[]> => (await crew.ask('live', () => ({ perS: live.perS / PROCESSES, seconds: live.seconds }))).flat();
  const before = await measure();
  await using reader = await openReader(dir.path);
  const identity = { cert: clientCertificate(SIGNER, DEVICE), key: clientKey(SIGNER) };
  const drained = drainTo({ url: tested.url, ca: tested.ca, identity, receiptKey: tested.own.receiptKey, program: tested.program }, dir.path, reader);
  const beside = await measure();
  const { entriesPerS, controllerCpuMicros } = await drained;
  const note = `${live.perS} blocks/s of the other gateways, from sending a block to its receipt`;
  return [
    alone('fleet_drain_per_s', 'entries/s', entriesPerS, `${entries} readings of 200 bytes, a block over each 100, from the connection over TLS to the last receipt; ${controllerCpuMicros.toFixed(0)} µs of the controller's CPU for each`),
    ...([['p50', 0.5], ['p99', 0.99]] as const).map(([name, share]) => paired(`fleet_live_receipt_${name}_ms`, 'ms', [percentile(beside, share)], 'without the drain', [percentile(before, share)], note)),
  ];
}

async function storm(tested: FleetUnderTest, crew: Crew<GatewayMethods>, { gateways }: Sizes): Promise<Figure[]> {
  const killedAt = await tested.kill();
  const sealed = crew.ask('seal', () => ({ blocks: 1, pace: 'at once' as const }));
  const servedAt = await tested.restart();
  const { connectedAtMs, firstReceiptAtMs, lastReceiptAtMs } = joined(await sealed);
  const after = (ms: number): string => `${seconds(ms - killedAt)} s`;
  return [
    alone('fleet_storm_connected_s', 's', (connectedAtMs - killedAt) / 1_000, `from kill -9 until the last of ${gateways} gateways is connected; the controller, started at once, served after ${after(servedAt)}`),
    alone('fleet_storm_receipted_s', 's', (lastReceiptAtMs - killedAt) / 1_000, `until the block of each that was sealed meanwhile is receipted, the first after ${after(firstReceiptAtMs)}`),
  ];
}

const joined = (all: readonly Standing[]): Standing => ({
  connectedAtMs: Math.max(...all.map(({ connectedAtMs }) => connectedAtMs)), firstReceiptAtMs: Math.min(...all.map(({ firstReceiptAtMs }) => firstReceiptAtMs)), lastReceiptAtMs: Math.max(...all.map(({ lastReceiptAtMs }) => lastReceiptAtMs)),
});

/** Once it does not change any more: a heap is collected when there is time. */
async function restingRss(tested: FleetUnderTest): Promise<number> {
  const seen: number[] = [];
  return until('the memory of the controller to rest', () => {
    seen.push(tested.use.rssBytes);
    const last = seen.slice(-RESTING_LOOKS);
    return last.length === RESTING_LOOKS && Math.max(...last) - Math.min(...last) < MIB && last.at(-1);
  }, { intervalMs: 250, timeoutMs: 30_000 });
}
const RESTING_LOOKS = 8;

const seconds = (ms: number): string => (ms / 1_000).toFixed(1);

function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}
