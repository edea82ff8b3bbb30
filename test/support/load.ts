/** The load generator test/bench/mqttload.c, compiled once per process that asks. */
import { join } from 'node:path';
import { compile } from './native.ts';
import { Program } from './process.ts';
import { tempDir } from './temp.ts';

export interface LoadOptions {
  readonly port: number;
  readonly publishers?: number;
  readonly bytes?: number;
  readonly seconds?: number;
  readonly warm?: number;
  /** Closed loop: messages in flight per publisher. */
  readonly window?: number;
  /** Open loop: messages per second over all publishers. */
  readonly rate?: number;
  readonly messages?: number;
  readonly subscribers?: number;
  /** Subscribers that never read. */
  readonly stalled?: number;
  /** Ids of the acknowledged messages, 8 bytes little-endian each. */
  readonly 'ack-log'?: string;
  /** Middle of the topics: te/device/<run id>-<publisher>///m/environment. */
  readonly 'run-id'?: string;
  /** First message id. */
  readonly base?: number;
}

export interface LoadResult {
  readonly ackedPerSecond: number;
  readonly sentPerSecond: number;
  readonly seconds: number;
  readonly sent: number;
  readonly acked: number;
  readonly delivered: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
  readonly maxMs: number;
  /** CPUs that the generator itself used: near 1 it is the limit. */
  readonly generatorCpu: number;
  readonly brokerGone: boolean;
}

let binary: string | undefined;

function generator(): string {
  if (binary !== undefined) return binary;
  const dir = tempDir('load');
  process.once('exit', () => { dir[Symbol.dispose](); });
  return (binary = compile('test/bench/mqttload.c', join(dir.path, 'mqttload')));
}

/** Starts a load; `resultOf` waits for its end. */
export const startLoad = (options: LoadOptions): Program =>
  new Program(generator(), Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]));

export async function resultOf(load: Program): Promise<LoadResult> {
  const code = await load.exited();
  const result = load.output.split('\n').find((line) => line.startsWith('{'));
  if (result === undefined) throw new Error(`mqttload ended with ${code}: ${load.output}`);
  return JSON.parse(result) as LoadResult;
}

export async function runLoad(options: LoadOptions): Promise<LoadResult> {
  await using load = startLoad(options);
  return await resultOf(load);
}
