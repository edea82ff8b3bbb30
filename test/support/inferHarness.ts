/** The inference follower as the gateway joins it: real ledger, real thread, real ONNX Runtime, in a directory of its own. */
import { join } from 'node:path';
import { motorFeatures, MOTOR_FEATURES } from '#drivers/sim/motorFeatures.ts';
import { createMotor } from '#drivers/sim/motorSignal.ts';
import { systemClock } from '#runtime/core/clock.ts';
import type { Counters, Log } from '#runtime/core/ports.ts';
import { INFERENCE_BODY, KIND, READING_BODY, type Cbor, type Draft } from '#runtime/core/types.ts';
import { openInference, type Inference } from '#runtime/infer/follower.ts';
import type { VerdictChange } from '#runtime/infer/verdicts.ts';
import { decodeEntry } from '#runtime/ledger/entry.ts';
import { openReader } from '#runtime/ledger/reader.ts';
import type { WriterClient } from '#runtime/ledger/writerClient.ts';
import { startLedger } from './ledger.ts';

export const MODELS_DIR = join(import.meta.dirname, '..', '..', 'models');

export const INFER_THREAD = new URL('../../runtime/inferThread.ts', import.meta.url);

class CountersInMemory implements Counters {
  readonly values: Record<string, number> = {};
  add(name: string, by = 1): void { this.values[name] = (this.values[name] ?? 0) + by; }
  set(name: string, value: number): void { this.values[name] = value; }
  snapshot(): Record<string, number> { return { ...this.values }; }
}

/** Keeps the messages, for a test to look at. */
function logTo(lines: string[]): Log {
  const write = (fields: object, message: string): void => void lines.push(`${message} ${JSON.stringify(fields)}`);
  const log: Log = { debug: write, info: write, warn: write, error: write, child: () => log };
  return log;
}

export interface Gateway extends AsyncDisposable {
  readonly ledger: WriterClient;
  readonly inference: Inference;
  readonly counters: CountersInMemory;
  readonly lines: string[];
  readonly changes: VerdictChange[];
}

export async function startGateway(dataDir: string, { modelsDir = MODELS_DIR, models = [] as readonly string[], thread = INFER_THREAD } = {}): Promise<Gateway> {
  const counters = new CountersInMemory();
  const [lines, changes]: [string[], VerdictChange[]] = [[], []];
  const heads: ((size: number) => void)[] = [];
  const ledger = await startLedger(dataDir, { events: { onCommitted: ({ size }) => heads.forEach((tell) => tell(size)) } });
  const inference = openInference({
    settings: { enabled: true, modelsDir, models, runtimeDir: '' }, dataDir, installedDir: join(dataDir, 'models'), thread,
    ledger, clock: systemClock, log: logTo(lines), counters, onModel: () => undefined, onVerdict: (change) => void changes.push(change),
  });
  heads.push((size) => inference.head(size));
  inference.head(ledger.size);
  const stop = new AbortController();
  const followed = inference.follow(stop.signal);
  return {
    ledger, inference, counters, lines, changes,
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await followed;
      await ledger[Symbol.asyncDispose]();
    },
  };
}

/** What ingest makes of one message of the simulated motor. */
export function motorReadings(source: string, seed: number): (severity: number) => Draft {
  const motor = createMotor(seed);
  const topic = `te/${source}/m/vibration`;
  return (severity) => {
    const values = [...motorFeatures(motor.block(severity))].map((value, i) => [MOTOR_FEATURES[i]?.name ?? '', value, '']);
    const body = new Map<number, Cbor>([[READING_BODY.topic, topic], [READING_BODY.payload, Buffer.from('{}')], [READING_BODY.values, values], [READING_BODY.flags, 4]]);
    return { kind: KIND.reading, source, wallMicros: systemClock.wallMicros(), monoMicros: systemClock.monoMicros(), body };
  };
}

export interface Inferred {
  readonly index: number;
  readonly source: string;
  readonly inputs: readonly number[];
  readonly score: number;
  readonly body: ReadonlyMap<number, Cbor>;
}

/**
 * What inference wrote, and the windows of four that it should have judged, in order, by source: readings do not go on over a restart.
 */
export async function readLog(dataDir: string): Promise<{ inferences: Inferred[]; expected: Map<string, number[][]> }> {
  await using reader = await openReader(dataDir);
  const inferences: Inferred[] = [];
  const bySourceAndBoot = new Map<string, { source: string; indices: number[] }>();
  for (const { index, bytes } of reader.read(0, reader.size())) {
    const { kind, source, bootEpoch, body } = decodeEntry(bytes);
    if (kind === KIND.reading) {
      const group = bySourceAndBoot.get(`${source} ${bootEpoch}`) ?? { source, indices: [] };
      bySourceAndBoot.set(`${source} ${bootEpoch}`, group);
      group.indices.push(index);
    }
    if (kind !== KIND.inference || !(body instanceof Map)) continue;
    const fields = body as ReadonlyMap<number, Cbor>;
    inferences.push({ index, source, body: fields, inputs: fields.get(INFERENCE_BODY.inputs) as readonly number[], score: fields.get(INFERENCE_BODY.score) as number });
  }
  const expected = new Map<string, number[][]>();
  for (const { source, indices } of bySourceAndBoot.values()) {
    const windows = Array.from({ length: Math.floor(indices.length / 4) }, (_, i) => indices.slice(4 * i, 4 * i + 4));
    expected.set(source, [...(expected.get(source) ?? []), ...windows]);
  }
  return { inferences, expected };
}
