/** The thread that fuzzRun.ts starts: bends inputs and hands them to the target. Anything but a typed error ends it, with the seed. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { workerData } from 'node:worker_threads';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { FUZZ_TARGETS } from './fuzzTargets.ts';
import type { FuzzDone, FuzzWorkerData } from './fuzzRun.ts';
import { mutate } from './mutate.ts';

const { target: name, firstSeed, count, progress, port } = workerData as FuzzWorkerData;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

function usedBytes(): number {
  collect();
  collect(); // what the first found dead frees its buffers now
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

const target = FUZZ_TARGETS.get(name);
if (!target) throw new Error(`no fuzz target '${name}'`);
const { samples, run } = await target();
for (const sample of samples) await run(sample); // the unbent ones MUST be taken

let [accepted, refused, earlyBytes] = [0, 0, 0];
const startedMs = performance.now();
for (let i = 0; i < count; i++) {
  if (i === Math.floor(count / 10)) earlyBytes = usedBytes();
  const bytes = mutate(samples, firstSeed + i);
  try {
    const pending = run(bytes);
    if (pending) await pending;
    accepted++;
  } catch (error) {
    if (!(error instanceof TenzroError) || error.class === 'bug') throw new Error(`seed ${firstSeed + i} (${bytes.length} bytes): ${messageOf(error)}`, { cause: error });
    refused++;
  }
  Atomics.add(progress, 0, 1);
}
const done: FuzzDone = { accepted, refused, earlyBytes, lateBytes: usedBytes(), seconds: (performance.now() - startedMs) / 1_000 };
port.postMessage(done);
