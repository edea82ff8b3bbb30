/** The composition root of the gateway's own sources: the machine's sensors, and the simulated microcontrollers of a scenario. Both run until `signal` aborts. */
import { fork } from 'node:child_process';
import { createInterface } from 'node:readline';
import { openSystemDriver, toMessages, type SystemSample } from '#drivers/system/driver.ts';
import type { Broker } from '#runtime/broker/broker.ts';
import type { Clock } from '#runtime/core/clock.ts';
import type { Counters, Intake, Log } from '#runtime/core/ports.ts';
import type { Settings } from '#runtime/core/settings.ts';
import { startAlone } from '#runtime/fleet/types/alone.ts';

const SYSTEM_CLIENT = 'system';
const PLAYER_STOP_MS = 3_000;

export interface SystemFeed {
  readonly settings: Settings;
  readonly intake: Intake;
  readonly broker: Pick<Broker, 'publish'>;
  readonly clock: Clock;
  readonly counters: Counters;
}

/** The machine's own sensors come in through the same door as everything else, and go out to local subscribers like everything else. */
export async function feedSystem({ settings: { system, dataDir }, intake, broker, clock, counters }: SystemFeed, signal: AbortSignal): Promise<void> {
  if (!system.enabled) return;
  let before: SystemSample | undefined;
  for await (const sample of openSystemDriver({ intervalMs: system.intervalMs, dataDir, clock, signal })) {
    for (const { topic, payload, retain } of toMessages(sample, before)) {
      const message = { clientId: SYSTEM_CLIENT, topic, payload: Buffer.from(payload), qos: 0, retain, duplicate: false, packetId: 0 } as const;
      intake.accept(message, (error) => { if (error) counters.add('system.dropped'); });
      await broker.publish(topic, payload, { retain, qos: 0 });
    }
    before = sample;
  }
}

export interface Scenario {
  readonly name: string;
  /** Of the loopback listener. */
  readonly port: number;
  /** Takes each line that the players print. */
  readonly say: (line: string) => void;
  readonly log: Log;
}

/** The simulated microcontrollers are a program of their own, with real MQTT connections. */
export async function playScenario({ name, port, say, log }: Scenario, signal: AbortSignal): Promise<void> {
  const player = startAlone(['ignore', 'pipe', 'inherit', 'ipc'], (stdio) => fork(new URL('../drivers/sim/player.ts', import.meta.url), [name, '--port', String(port)], { stdio }));
  const ended = new Promise<void>((resolve) => { player.once('exit', () => resolve()); });
  signal.addEventListener('abort', () => {
    player.kill('SIGTERM');
    setTimeout(() => player.kill('SIGKILL'), PLAYER_STOP_MS).unref();
  }, { once: true });
  if (player.stdout) for await (const line of createInterface({ input: player.stdout })) say(line);
  await ended;
  if (!signal.aborted) log.warn({ code: player.exitCode }, 'the simulated microcontrollers have stopped');
}
