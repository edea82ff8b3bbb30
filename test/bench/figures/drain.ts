/** What the end of an outage does to live data: acknowledgement of new readings while a backlog drains to the controller, beside the same gateway offline. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { GatewayStatus } from '#runtime/observe/status.ts';
import { makeController } from '#test/support/fleet.ts';
import { Gateway } from '#test/support/gateway.ts';
import { runLoad, type LoadResult } from '#test/support/load.ts';
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

async function round(entries: number, seconds: number): Promise<Round | undefined> {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(tempDir('bench-drain'));
  const [port, data] = [await freePort(), join(dir.path, 'data')];
  const [controller, url] = [await makeController(dir.path), `mqtt://127.0.0.1:${port}`];
  const configFile = join(dir.path, 'gateway.yaml');
  mkdirSync(data);
  writeFileSync(configFile, `node: { name: ${NAME} }\nsystem: { enabled: false }\ninfer: { enabled: false }\nattest: { intervalMs: 1000, idleIntervalMs: 1000, tpm: { mode: none } }\nuplinks: [{ name: fleet, url: "${url}", receiptKey: "${controller.receiptKey}" }]\n`);
  const gateway = stack.use(await Gateway.start({ dataDir: data, configFile }));
  const at = { port: await gateway.port() };
  await runLoad({ ...at, publishers: 50, bytes: 200, window: 20, messages: entries });
  const offline = await runLoad({ ...at, ...LIVE, seconds, 'run-id': 'offline' });
  if (!stack.use(await startMosquitto(port))) return undefined;
  stack.use(await controller.start({ url }));
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
    const rounds: Round[] = [];
    for (let at = 0; at < count; at++) {
      say(`a gateway with a backlog of ${entries} readings, offline, then draining`);
      const measured = await round(entries, seconds);
      if (measured) rounds.push(measured);
    }
    if (rounds.length === 0) {
      say('no mosquitto: no drain figures');
      return [];
    }
    const latencies = (of: 'offline' | 'draining', key: 'p50Ms' | 'p99Ms'): number[] => rounds.map((measured) => measured[of][key]);
    return [
      paired('drain_ack_p50_ms', 'ms', latencies('draining', 'p50Ms'), 'the same gateway offline', latencies('offline', 'p50Ms'), `${LIVE.rate} readings/s at QoS 1, from the scheduled send to the PUBACK after the flush; broker and controller share the machine`),
      paired('drain_ack_p99_ms', 'ms', latencies('draining', 'p99Ms'), 'the same gateway offline', latencies('offline', 'p99Ms'), 'the same'),
      alone('drain_beside_live_per_s', 'entries/s', median(rounds.map(({ entriesPerS }) => entriesPerS)), 'from the first receipt to the last of the backlog, live readings for a part of the time'),
    ];
  },
};
