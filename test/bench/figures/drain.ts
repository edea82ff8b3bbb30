/** What the end of an outage does to live data: acknowledgement of new readings while a backlog drains to the controller, beside the same gateway offline. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { GatewayStatus } from '#runtime/observe/status.ts';
import { makeController } from '#test/support/fleet.ts';
import { Gateway } from '#test/support/gateway.ts';
import { runLoad, type LoadResult } from '#test/support/load.ts';
import { makeOwnFleet } from '#test/support/ownFleet.ts';
import { findPeer } from '#test/support/peers.ts';
import { freePort } from '#test/support/process.ts';
import { tempDir } from '#test/support/temp.ts';
import { startMosquitto } from '../contenders.ts';
import { alone, median, paired, type Bench, type Figure } from '../figure.ts';

const NAME = 'bench';
const LIVE = { publishers: 10, bytes: 200, rate: 500, warm: 0.5 } as const;
const DRAIN_TIMEOUT_MS = 300_000;

interface Round {
  readonly offline: LoadResult;
  readonly draining: LoadResult;
  readonly entriesPerS: number;
}

/** Where the backlog goes to. */
interface Away {
  /** One of `uplinks`. */
  readonly uplink: string;
  /** It begins to be there. */
  readonly serve: (dataDir: string) => Promise<AsyncDisposable>;
}

/** Plain MQTT to a controller in another process. */
async function overMosquitto(dir: string): Promise<Away> {
  const [controller, port] = [await makeController(dir), await freePort()];
  const url = `mqtt://127.0.0.1:${port}`;
  return {
    uplink: `{ name: fleet, url: "${url}", receiptKey: "${controller.receiptKey}" }`,
    async serve() {
      await using stack = new AsyncDisposableStack();
      stack.use(await startMosquitto(port));
      stack.use(await controller.start({ url }));
      return stack.move();
    },
  };
}

/** TLS, by the gateway's key, to a controller with its own broker. */
async function overOwnBroker(dir: string): Promise<Away> {
  const own = await makeOwnFleet(dir);
  return {
    uplink: `{ name: fleet, url: "mqtts://localhost:${own.port}", caFile: ${join(own.home, 'ca.pem')}, certificate: true, receiptKey: "${own.receiptKey}" }`,
    async serve(dataDir) {
      await using stack = new AsyncDisposableStack();
      stack.use(await own.start());
      await own.register(NAME, dataDir);
      return stack.move();
    },
  };
}

async function round(entries: number, seconds: number, away: (dir: string) => Promise<Away>): Promise<Round> {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(tempDir('bench-drain'));
  const data = join(dir.path, 'data');
  const { uplink, serve } = await away(dir.path);
  const configFile = join(dir.path, 'gateway.yaml');
  mkdirSync(data);
  writeFileSync(configFile, `node: { name: ${NAME} }\nsystem: { enabled: false }\ninfer: { enabled: false }\nattest: { intervalMs: 1000, idleIntervalMs: 1000, tpm: { mode: none } }\nuplinks: [${uplink}]\n`);
  const gateway = stack.use(await Gateway.start({ dataDir: data, configFile }));
  const at = { port: await gateway.port() };
  await runLoad({ ...at, publishers: 50, bytes: 200, window: 20, messages: entries });
  const offline = await runLoad({ ...at, ...LIVE, seconds, 'run-id': 'offline' });
  stack.use(await serve(data));
  const begun = await gateway.until('the drain to begin', ({ fleet: { upstreams: [upstream] } }) => upstream?.receipt != null, DRAIN_TIMEOUT_MS);
  const from = performance.now();
  const draining = await runLoad({ ...at, ...LIVE, seconds, 'run-id': 'draining' });
  const sizeOf = ({ fleet: { upstreams: [upstream] } }: GatewayStatus): number => upstream?.receipt?.treeSize ?? 0;
  if (sizeOf(await gateway.until('a status', () => true)) >= begun.chain.entries) throw new Error('the backlog was gone before the measurement was over: take more entries');
  const drained = await gateway.until('the end of the drain', (status) => sizeOf(status) >= begun.chain.attestedEntries, DRAIN_TIMEOUT_MS);
  return { offline, draining, entriesPerS: (sizeOf(drained) - sizeOf(begun)) / ((performance.now() - from) / 1_000) };
}

export const drain: Bench = {
  name: 'drain',
  async run({ isQuick, say }): Promise<Figure[]> {
    const [entries, seconds, count] = isQuick ? [60_000, 2, 1] : [150_000, 5, 3];
    const hasPeer = findPeer('mosquitto') !== undefined;
    const [theirs, ours]: [Round[], Round[]] = [[], []];
    for (let at = 0; at < count; at++) {
      say(`a gateway with a backlog of ${entries} readings, offline, then draining, to the controller's own broker${hasPeer ? ' and over mosquitto' : ''}`);
      ours.push(await round(entries, seconds, overOwnBroker));
      if (hasPeer) theirs.push(await round(entries, seconds, overMosquitto));
    }
    return [...figuresOf('drain', theirs, 'over mosquitto'), ...figuresOf('drain_own', ours, 'to the controller\'s own broker, over TLS')];
  },
};

function figuresOf(name: string, rounds: readonly Round[], way: string): Figure[] {
  if (rounds.length === 0) return [];
  const latencies = (of: 'offline' | 'draining', key: 'p50Ms' | 'p99Ms'): number[] => rounds.map((measured) => measured[of][key]);
  return [
    paired(`${name}_ack_p50_ms`, 'ms', latencies('draining', 'p50Ms'), 'the same gateway offline', latencies('offline', 'p50Ms'), `${LIVE.rate} readings/s at QoS 1, from the scheduled send to the PUBACK after the flush; ${way}; broker and controller share the machine`),
    paired(`${name}_ack_p99_ms`, 'ms', latencies('draining', 'p99Ms'), 'the same gateway offline', latencies('offline', 'p99Ms'), 'the same'),
    alone(`${name}_beside_live_per_s`, 'entries/s', median(rounds.map(({ entriesPerS }) => entriesPerS)), 'from the first receipt to the last of the backlog, live readings for a part of the time'),
  ];
}
