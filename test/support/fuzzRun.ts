/** Runs a fuzz target in a thread of its own, so that a hang and memory that grows without bound are found as surely as an exception. */
import { setTimeout as delay } from 'node:timers/promises';
import { MessageChannel, Worker, type MessagePort } from 'node:worker_threads';

/** One input takes microseconds to a few milliseconds. */
const HANG_MS = 20_000;
const POLL_MS = 100;
const HEAP_MB = 256;
/** What allocators and caches may keep. */
const GROWTH_BYTES_MAX = 32 * 1024 * 1024;

export interface FuzzJob {
  readonly target: string;
  readonly firstSeed: number;
  readonly count: number;
}

export interface FuzzWorkerData extends FuzzJob {
  /** [inputs done] */
  readonly progress: Int32Array;
  /** Takes one FuzzDone. */
  readonly port: MessagePort;
}

/** What the thread says when it has ended in peace. */
export interface FuzzDone {
  /** Inputs that the decoder took. */
  readonly accepted: number;
  /** Inputs that it refused with a typed error. */
  readonly refused: number;
  /** Heap and buffers at a tenth of the run and at its end, after garbage collection. */
  readonly earlyBytes: number;
  readonly lateBytes: number;
  readonly seconds: number;
}

/** Rejects with the seed of the input that crashed or hung the decoder: `npm run test:fuzz -- 1 SEED TARGET` repeats it. */
export async function fuzz(job: FuzzJob, onProgress: (done: number) => void = () => undefined): Promise<FuzzDone> {
  const progress = new Int32Array(new SharedArrayBuffer(4));
  const { port1, port2 } = new MessageChannel();
  const workerData: FuzzWorkerData = { ...job, progress, port: port2 };
  const worker = new Worker(new URL('./fuzzWorker.ts', import.meta.url), { workerData, transferList: [port2], resourceLimits: { maxOldGenerationSizeMb: HEAP_MB } });
  const ended = new AbortController();
  const done = new Promise<FuzzDone>((resolve, reject) => {
    port1.once('message', resolve);
    worker.once('error', (cause: Error) => reject(new Error(`${job.target}: ${cause.message}`, { cause })));
  });
  try {
    const result = await Promise.race([done, watch(job, progress, onProgress, ended.signal)]);
    if (result.lateBytes > result.earlyBytes + GROWTH_BYTES_MAX) throw new Error(`${job.target}: memory grew from ${result.earlyBytes} to ${result.lateBytes} bytes over ${job.count} inputs`);
    return result;
  } finally {
    ended.abort();
    port1.close();
    await worker.terminate();
  }
}

/** Never resolves; rejects when nothing moves. */
async function watch({ target, firstSeed }: FuzzJob, progress: Int32Array, onProgress: (done: number) => void, signal: AbortSignal): Promise<never> {
  let last = -1;
  let movedAt = performance.now();
  while (!signal.aborted) {
    const done = Atomics.load(progress, 0);
    if (done !== last) movedAt = performance.now();
    if (performance.now() - movedAt > HANG_MS) throw new Error(`${target}: hangs on the input of seed ${firstSeed + done}`);
    last = done;
    onProgress(done);
    await delay(POLL_MS, undefined, { signal }).catch(() => undefined); // ended
  }
  return new Promise<never>(() => undefined);
}
