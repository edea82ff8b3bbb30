/**
 * Plays a scenario: microcontrollers that do not exist, over MQTT connections that do. A program of its own, so that the gateway sees nothing
 * but its front door: `node drivers/sim/player.ts workshop --port 1883`.
 */
import { setInterval } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { obey, type SimulatedDevice } from './device.ts';
import { connectDevice, type DeviceConnection } from './mqttDevice.ts';
import { workshop, WORKSHOP_DEFAULTS, type WorkshopOptions } from './workshop.ts';

const USAGE = `usage: node drivers/sim/player.ts workshop [options]
  --host HOST         broker (default 127.0.0.1)
  --port PORT         its port (default 1883)
  --speed N           play N times as fast (default 1)
  --seed N            another seed plays another, repeatable story (default ${WORKSHOP_DEFAULTS.seed})
  --fault-after S     seconds until the motor's bearing begins to fail, or never (default ${WORKSHOP_DEFAULTS.faultAfterS})
  --give-up-after S   end when no broker was there for so long (default 60)
  --verbose           one line per message and connection
`;

export interface PlayerOptions extends WorkshopOptions {
  readonly host: string;
  readonly port: number;
  readonly speed: number;
  readonly giveUpAfterMs: number;
  readonly verbose: boolean;
  readonly print: (line: string) => void;
}

/** Returns when `signal` aborts (true) or when the broker is gone for good (false). Devices say goodbye before it does. */
export async function play(options: PlayerOptions, signal: AbortSignal): Promise<boolean> {
  const ended = new AbortController();
  const either = AbortSignal.any([signal, ended.signal]);
  const devices = workshop(options);
  await Promise.all(devices.map(async (device) => {
    await playDevice(device, options, either);
    ended.abort();
  }));
  return signal.aborted;
}

async function playDevice(device: SimulatedDevice, options: PlayerOptions, signal: AbortSignal): Promise<void> {
  const { host, port, speed, verbose, print } = options;
  const entity = `te/device/${device.id}//`;
  const health = `${entity}/status/health`;
  const log = (text: string): void => { if (verbose) print(`${device.id}: ${text}`); };
  await using connection = connectDevice({
    host, port, clientId: device.id,
    will: { topic: health, payload: JSON.stringify({ status: 'down', simulated: true }) },
    greeting: [
      { topic: entity, payload: JSON.stringify({ '@type': 'child-device', name: device.name, simulated: true }) },
      { topic: health, payload: JSON.stringify({ status: 'up', simulated: true }) },
      ...device.metadata.map(({ subtopic, payload }) => ({ topic: `${entity}/${subtopic}`, payload })),
    ],
    ...(device.operations ? { listen: { filter: `${entity}/cmd/+/+`, answer: (topic, payload) => obey(device, topic.split('/').at(-2) ?? '', payload) } } : {}),
    onState: (state, detail) => log(`${state} ${detail}`.trimEnd()),
  });
  print(`simulated device ${device.id}: ${device.name}, MQTT client '${device.id}' at ${host}:${port}`);
  if (!await connection.ready(AbortSignal.any([signal, AbortSignal.timeout(options.giveUpAfterMs)]))) return;
  await tick((device.intervalS * 1000) / speed, signal, () => {
    for (const { subtopic, payload, retain } of device.next()) {
      const taken = connection.publish(`${entity}/${subtopic}`, payload, { retain });
      log(taken ? `${subtopic} ${payload}` : `${subtopic} lost: too many wait for the broker`);
    }
    return !isGone(connection, options);
  });
}

const isGone = (connection: DeviceConnection, { giveUpAfterMs }: PlayerOptions): boolean => connection.offlineMs() > giveUpAfterMs;

/** Calls `work` now and then every `intervalMs`, until it returns false or `signal` aborts. */
async function tick(intervalMs: number, signal: AbortSignal, work: () => boolean): Promise<void> {
  if (signal.aborted || !work()) return;
  try {
    for await (const _ of setInterval(intervalMs, undefined, { signal })) if (!work()) return;
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

/** Throws RangeError or TypeError with a sentence for the terminal. */
export function parsePlayerArguments(args: readonly string[]): Omit<PlayerOptions, 'print'> {
  const { values, positionals } = parseArgs({
    args: [...args], allowPositionals: true,
    options: {
      host: { type: 'string', default: '127.0.0.1' }, port: { type: 'string', default: '1883' }, speed: { type: 'string', default: '1' }, seed: { type: 'string', default: String(WORKSHOP_DEFAULTS.seed) },
      'fault-after': { type: 'string', default: String(WORKSHOP_DEFAULTS.faultAfterS) }, 'give-up-after': { type: 'string', default: '60' },
      verbose: { type: 'boolean', default: false },
    },
  });
  if (positionals.length !== 1 || positionals[0] !== 'workshop') throw new RangeError('the scenario is missing or unknown: there is one, workshop');
  return {
    host: values.host, port: numberIn(values.port, '--port', 1, 65_535), speed: numberIn(values.speed, '--speed', 0.01, 1_000), seed: numberIn(values.seed, '--seed', 0, 2 ** 31),
    faultAfterS: values['fault-after'] === 'never' ? Infinity : numberIn(values['fault-after'], '--fault-after', 0, 1e9), faultGrowthS: WORKSHOP_DEFAULTS.faultGrowthS,
    giveUpAfterMs: numberIn(values['give-up-after'], '--give-up-after', 0.1, 1e9) * 1000, verbose: values.verbose,
  };
}

function numberIn(text: string, option: string, min: number, max: number): number {
  const value = text.trim() === '' ? Number.NaN : Number(text);
  if (!(value >= min && value <= max)) throw new RangeError(`${option} takes a number from ${min} to ${max}, not '${text}'`);
  return value;
}

async function main(): Promise<number> {
  let options: ReturnType<typeof parsePlayerArguments>;
  try {
    options = parsePlayerArguments(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`);
    return 64;
  }
  const stop = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, () => stop.abort()); // goodbye is bounded: a second signal changes nothing
  process.once('disconnect', () => stop.abort()); // forked: a parent that dies takes its devices along
  const asked = await play({ ...options, print: (line) => { process.stdout.write(`${line}\n`); } }, stop.signal);
  if (!asked) process.stderr.write('no broker: the simulated devices give up\n');
  if (process.connected) process.disconnect();
  return asked ? 0 : 1;
}

if (import.meta.main) process.exitCode = await main();
