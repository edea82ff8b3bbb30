/**
 * One run of the promise that everything else rests on: kill −9 of the real gateway at a random moment under load, restart, and nothing that was
 * acknowledged is missing, nothing that the chain says is wrong.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { TenzroError } from '#runtime/core/errors.ts';
import { READING_BODY, type Cbor } from '#runtime/core/types.ts';
import { decodeEntry } from '#runtime/ledger/entry.ts';
import { openReader } from '#runtime/ledger/reader.ts';
import { Gateway, tenzro } from './gateway.ts';
import { connectClient, type TestClient } from './mqttClient.ts';
import { randomOf } from './random.ts';

const PUBLISHERS = 20;
const IN_FLIGHT = 5;
/** The kill comes this long after the first message, at most. */
const LIFE_MS_MAX = 1_200;
/** In one run of four the restarted gateway is killed again, while it starts. */
const SECOND_KILL_ONE_IN = 4;
const STARTING_MS_MAX = 500;

export interface KillResult {
  readonly seed: number;
  readonly acknowledged: number;
  /** Ids that were acknowledged and are not in the ledger. */
  readonly lost: readonly string[];
  /** What fsck found; '' when all of it verifies. */
  readonly broken: string;
}

export async function killRun(dataDir: string, seed: number): Promise<KillResult> {
  const random = randomOf(seed);
  const acknowledged = new Set<string>();
  const from = await entriesIn(dataDir);
  {
    await using gateway = await Gateway.start({ dataDir });
    await using stack = new AsyncDisposableStack();
    const port = await gateway.port();
    const clients = await Promise.all(Array.from({ length: PUBLISHERS }, (_, at) => connectClient(port, { clientId: `kill-${at}` })));
    for (const client of clients) stack.use(client);
    for (const [at, client] of clients.entries()) keepPublishing(client, `${seed}-${at}`, acknowledged);
    await delay(random(LIFE_MS_MAX));
    await gateway.kill();
  }
  if (random(SECOND_KILL_ONE_IN) === 0) {
    await using starting = new Gateway({ dataDir });
    await delay(random(STARTING_MS_MAX));
    await starting.kill();
  }
  {
    await using restarted = await Gateway.start({ dataDir });
    const code = await restarted.stop();
    if (code !== 0) return { seed, acknowledged: acknowledged.size, lost: [], broken: `the restarted gateway ended with ${code}: ${restarted.output}` };
  }
  const checked = await tenzro(dataDir, ['fsck', '--json']);
  return { seed, acknowledged: acknowledged.size, lost: await missing(dataDir, from, acknowledged), broken: checked.code === 0 ? '' : checked.output };
}

/** Keeps IN_FLIGHT messages under way until the connection ends; what was acknowledged without an error goes into `acknowledged`. */
function keepPublishing({ mqtt }: TestClient, name: string, acknowledged: Set<string>): void {
  let next = 0;
  const publish = (): void => {
    const id = `${name}-${next++}`;
    const payload = JSON.stringify({ temperature: 20 + (next % 100) / 10, humidity: 40, [`n${id}`]: 1 });
    mqtt.publish(`te/device/kill-${name}///m/environment`, payload, { qos: 1 }, (error) => {
      if (error || !mqtt.connected) return;
      acknowledged.add(id);
      publish();
    });
  };
  for (let at = 0; at < IN_FLIGHT; at++) publish();
}

async function entriesIn(dataDir: string): Promise<number> {
  try {
    await using reader = await openReader(dataDir);
    return reader.size();
  } catch (error) {
    if (error instanceof TenzroError && error.code === 'ledger.no_chain') return 0;
    throw error;
  }
}

/** Each message has a channel that is named for its id. */
async function missing(dataDir: string, from: number, acknowledged: ReadonlySet<string>): Promise<string[]> {
  const lost = new Set(acknowledged);
  await using reader = await openReader(dataDir);
  for (const { bytes } of reader.read(from, Number.POSITIVE_INFINITY)) {
    const { body } = decodeEntry(bytes);
    const payload = body instanceof Map ? (body as ReadonlyMap<number, Cbor>).get(READING_BODY.payload) : undefined;
    const id = payload instanceof Uint8Array ? /"n(\d+-\d+-\d+)"/.exec(Buffer.from(payload).toString('latin1'))?.[1] : undefined;
    if (id !== undefined) lost.delete(id);
  }
  return [...lost];
}
