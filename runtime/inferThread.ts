/**
 * The inference thread: joins the model packages, the ONNX session and the ledger's reader with the follower. A package that does not load is
 * reported with its reason and the others go on; with none left the thread ends, and its memory with it.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { InstalledModels } from '#models/installed.ts';
import { listPackages, loadPackage } from '#models/package.ts';
import { openSession } from '#models/session.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { TenzroError, invariant, messageOf } from '#runtime/core/errors.ts';
import { settleWhenIdle } from '#runtime/core/footprint.ts';
import { Engine } from '#runtime/infer/engine.ts';
import type { Batch, FromThread, ModelStatus, ThreadData, ToThread } from '#runtime/infer/messages.ts';
import type { Judge } from '#runtime/infer/plan.ts';
import { openReader } from '#runtime/ledger/reader.ts';

invariant(parentPort !== null, 'the inference thread is started by the follower');
const port = parentPort;
const { dataDir, modelsDir, installedDir, models, runtimeDir } = workerData as ThreadData;
const stopping = new AbortController();
let wake: (() => void) | undefined;
let stored: (() => void) | undefined;
let grown = true;

const tell = (message: FromThread): void => port.postMessage(message);

port.on('message', (message: ToThread) => {
  if (message.kind === 'ping') return tell({ kind: 'pong' });
  if (message.kind === 'stored') return stored?.();
  if (message.kind === 'stop') stopping.abort();
  grown = true;
  wake?.();
  stored?.();
});

await using stack = new AsyncDisposableStack();
stack.defer(() => port.close());
const judges = await loadJudges();
settleWhenIdle();
if (judges.length > 0) await follow();

async function loadJudges(): Promise<Judge[]> {
  const loaded: Judge[] = [];
  const status: ModelStatus[] = [];
  const installed = new Set(new InstalledModels(installedDir).names());
  const all = new Set([...await listPackages(modelsDir), ...installed]);
  for (const name of models.length > 0 ? models : [...all].toSorted()) {
    try {
      const { manifest, digest, onnx } = await loadPackage(installed.has(name) ? installedDir : modelsDir, name);
      const session = stack.use(await openSession({ manifest, digest, onnx }, runtimeDir));
      if (session.refused !== '') tell({ kind: 'note', code: 'model.runtime', message: `${name} runs on ${session.provider}: ${session.refused}` });
      loaded.push({ plan: manifest, digest, provider: session.provider, run: (rows, count) => session.run(rows, count) });
      status.push({ name, digest: toHex(digest), provider: session.provider, state: { kind: 'value', value: 'running' } });
    } catch (error) {
      if (!(error instanceof TenzroError)) throw error;
      status.push({ name, digest: '', provider: '', state: { kind: 'none', reason: `${error.code}: ${messageOf(error)}` } });
    }
  }
  tell({ kind: 'models', models: status });
  return loaded;
}

async function follow(): Promise<void> {
  const counts = new Map<string, number>();
  const reader = stack.use(await openReader(dataDir));
  const engine = new Engine({
    reader, judges,
    commit: (batch) => commit(batch, engine),
    count: (name, by = 1) => counts.set(name, (counts.get(name) ?? 0) + by),
    failed: (name, error) => tell({ kind: 'modelFailed', name, code: error.code, reason: `${error.code}: ${error.message}` }),
    monoMicros: () => systemClock.monoMicros(),
  });
  while (!stopping.signal.aborted && engine.judging) {
    grown = false;
    await engine.advance(stopping.signal);
    tell({ kind: 'progress', position: engine.position, counts: Object.fromEntries(counts) });
    counts.clear();
    if (!grown) await new Promise<void>((resolve) => { wake = resolve; });
  }
}

/** Resolves when the main thread says that the batch is flushed, or that the thread is to stop: then a restart reads the cursor anew. */
function commit(batch: Batch, engine: Engine): Promise<void> {
  return new Promise((resolve) => {
    stored = resolve;
    tell({ kind: 'batch', batch, position: engine.position });
  });
}
