/** What an outage costs when it is over: how fast a backlog goes to the controller and is receipted, beside the same bytes through the bare broker. */
import { join } from 'node:path';
import { systemClock } from '#runtime/core/clock.ts';
import { chainIdOf } from '#runtime/ledger/block.ts';
import { openKeyValueStore } from '#runtime/ledger/kv.ts';
import { blockStoreOf, openReader, type ChainReader } from '#runtime/ledger/reader.ts';
import { packShipment } from '#runtime/ledger/shipment.ts';
import { Hub } from '#runtime/link/hub.ts';
import { openLink, type LinkOptions } from '#runtime/link/mqttLink.ts';
import { Uplink } from '#runtime/uplink/follower.ts';
import { nextStretch } from '#runtime/uplink/stretch.ts';
import { makeController } from '#test/support/fleet.ts';
import { message, seal, send, startLedger } from '#test/support/ledger.ts';
import { connectClient } from '#test/support/mqttClient.ts';
import { useOf, type Program } from '#test/support/process.ts';
import { silentLog, TestCounters } from '#test/support/sealHarness.ts';
import { tempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';
import { startMosquitto } from '../contenders.ts';
import { alone, median, paired, type Bench, type Figure } from '../figure.ts';

/** One block in ten seconds over ten readings a second. */
const ENTRIES_PER_BLOCK = 100;
const MICROS_PER_S = 1e6;
/** As the test ledger's blocks name it. */
export const DEVICE = 'test';

export async function fill(dataDir: string, entries: number): Promise<void> {
  await using ledger = await startLedger(dataDir);
  await using reader = await openReader(dataDir);
  const store = blockStoreOf(ledger, reader);
  for (let from = 0; from < entries; from += ENTRIES_PER_BLOCK) {
    const readings = Array.from({ length: ENTRIES_PER_BLOCK }, (_, i) => JSON.stringify({ temperature: 20 + Math.sin(from + i), humidity: 40 + ((from + i) % 97) / 7 }).padEnd(200));
    await Promise.all(readings.map(async (reading) => send(ledger, message('te/device/bench///m/environment', reading))));
    await seal(store);
  }
}

export interface Drain {
  readonly entriesPerS: number;
  readonly bytes: number;
  readonly controllerCpuMicros: number;
  readonly controllerRssBytes: number;
}

/** A controller and the way to it. */
export interface Destination extends Pick<LinkOptions, 'url' | 'ca' | 'identity'> {
  /** Hexadecimal. */
  readonly receiptKey: string;
  readonly program: Pick<Program, 'pid' | 'running' | 'output'>;
}

/** From the first connection of an uplink that has nothing receipted until everything is. `dir`: where it keeps its receipts. */
export async function drainTo({ receiptKey, program, ...place }: Destination, dir: string, reader: ChainReader): Promise<Drain> {
  await using stack = new AsyncDisposableStack();
  const before = useOf(program.pid).cpuSeconds;
  const counters = new TestCounters();
  const uplink = new Uplink({
    upstream: { receiptKey: Buffer.from(receiptKey, 'hex'), maxBytesPerSecond: 0, forward: [] }, forward: [], device: DEVICE, source: reader, writer: { setCursor: () => undefined }, store: stack.use(await openKeyValueStore(join(dir, 'receipts'))), clock: systemClock, counters, log: silentLog,
  });
  const link = stack.use(openLink({ ...place, clientId: 'bench-uplink', hub: new Hub([uplink], silentLog) }));
  const done = new AbortController();
  const size = reader.size();
  const from = performance.now();
  const following = uplink.follow(link, done.signal);
  await until('everything to be receipted', () => uplink.processed() >= size, { timeoutMs: 300_000, intervalMs: 5, hopeless: () => (program.running ? undefined : program.output) });
  const seconds = (performance.now() - from) / 1_000;
  done.abort();
  await following;
  const use = useOf(program.pid);
  return { entriesPerS: size / seconds, bytes: counters.snapshot()['uplink.bytes'] ?? 0, controllerCpuMicros: ((use.cpuSeconds - before) * MICROS_PER_S) / size, controllerRssBytes: use.rssBytes };
}

async function drain(dir: string, reader: ChainReader, url: string): Promise<Drain> {
  const controller = await makeController(dir);
  await using program = await controller.start({ url });
  return await drainTo({ url, ca: '', receiptKey: controller.receiptKey, program }, dir, reader);
}

/** The same shipments, one in flight, from one mqtt.js client to another; nothing is verified, nothing kept. */
async function carryBare(reader: ChainReader, port: number): Promise<number> {
  const shipments: Buffer[] = [];
  const chainId = chainIdOf(reader.block(0).payload);
  for (let at = { next: 0, nextBlock: 0 }; ;) {
    const stretch = nextStretch(reader, at, () => false);
    if (!stretch) break;
    shipments.push(await packShipment({ chainId, first: stretch.first, leaves: stretch.leaves, blocks: stretch.blocks }));
    at = { next: at.next + stretch.leaves.length, nextBlock: at.nextBlock + stretch.blocks.length };
  }
  await using receiver = await connectClient(port);
  await using sender = await connectClient(port);
  await receiver.mqtt.subscribeAsync('bench/up', { qos: 1 });
  const from = performance.now();
  for (const [place, shipment] of shipments.entries()) {
    await sender.mqtt.publishAsync('bench/up', shipment, { qos: 1 });
    await receiver.arrived(place + 1);
  }
  return reader.size() / ((performance.now() - from) / 1_000);
}

export const uplink: Bench = {
  name: 'uplink',
  async run({ isQuick, say }): Promise<Figure[]> {
    await using stack = new AsyncDisposableStack();
    const broker = await startMosquitto();
    if (!broker) {
      say('no mosquitto: no uplink figures');
      return [];
    }
    stack.use(broker);
    using dir = tempDir('bench-uplink');
    const entries = isQuick ? 10_000 : 100_000;
    say(`a backlog of ${entries} entries under ${entries / ENTRIES_PER_BLOCK} blocks`);
    await fill(dir.path, entries);
    await using reader = await openReader(dir.path);
    const [ours, theirs]: [Drain[], number[]] = [[], []];
    for (let round = 0; round < (isQuick ? 1 : 3); round++) {
      using home = tempDir('bench-controller');
      ours.push(await drain(home.path, reader, `mqtt://127.0.0.1:${broker.port}`));
      theirs.push(await carryBare(reader, broker.port));
    }
    const of = (pick: (drain: Drain) => number): number => median(ours.map(pick));
    return [
      paired('uplink_drain_per_s', 'entries/s', ours.map(({ entriesPerS }) => entriesPerS), 'bare mosquitto', theirs, 'from connection to last receipt: packed, verified, stored with fsync, receipted; the peer carries the same bytes and does nothing with them'),
      alone('uplink_bytes_per_entry', 'B/entry', of(({ bytes }) => bytes / reader.size()), '200-byte readings, a block of 3.4 KiB over each 100 of them, deflated'),
      alone('controller_cpu_us', 'µs/entry', of(({ controllerCpuMicros }) => controllerCpuMicros), 'inflate, decode, hash, ML-DSA signatures, LMDB'),
      alone('controller_rss_mib', 'MiB', of(({ controllerRssBytes }) => controllerRssBytes / 1024 / 1024), 'after the drain of one gateway'),
    ];
  },
};
