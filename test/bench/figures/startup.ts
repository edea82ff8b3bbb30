/** From spawn to a broker that accepts a client. */
import { join } from 'node:path';
import { Gateway } from '#test/support/gateway.ts';
import { Program, acceptsMqtt, freePort } from '#test/support/process.ts';
import { tempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';
import { paired, type Bench, type Figure } from '../figure.ts';

const AEDES = join(import.meta.dirname, '..', 'peers', 'aedes.ts');

async function gatewayReadyMs(dataDir: string): Promise<number> {
  const port = await freePort();
  const from = performance.now();
  await using gateway = new Gateway({ dataDir, port });
  await until('the gateway to accept a client', () => acceptsMqtt(port), { timeoutMs: 30_000, intervalMs: 2 });
  const ms = performance.now() - from;
  await gateway.until('the gateway to be ready', ({ ready }) => ready);
  await gateway.stop();
  return ms;
}

async function aedesReadyMs(): Promise<number> {
  const from = performance.now();
  await using program = new Program(process.execPath, [AEDES]);
  const port = await until('aedes', () => Number(/port (\d+)/.exec(program.output)?.[1] ?? Number.NaN) || undefined, { intervalMs: 2 });
  await until('aedes to accept a client', () => acceptsMqtt(port), { intervalMs: 2 });
  return performance.now() - from;
}

export const startup: Bench = {
  name: 'startup',
  async run({ isQuick, say }): Promise<Figure[]> {
    say('starts: gateway and aedes in turn');
    using dir = tempDir('startup');
    const first = await gatewayReadyMs(dir.path);
    const [ours, theirs]: [number[], number[]] = [[], []];
    for (let round = 0; round < (isQuick ? 3 : 9); round++) {
      ours.push(await gatewayReadyMs(dir.path));
      theirs.push(await aedesReadyMs());
    }
    return [paired('start_to_broker_ready_ms', 'ms', ours, 'bare aedes', theirs, `spawn to CONNACK on an existing data directory; ${first.toFixed(0)} ms the first time, which makes the keys`)];
  },
};
