/** The ONNX session: the only file that imports onnxruntime-node, and only when a model is opened. One thread, one model, batches of rows. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type * as Ort from 'onnxruntime-node';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { ModelManifest } from './manifest.ts';
import type { ModelPackage } from './package.ts';

export interface ModelSession extends AsyncDisposable {
  /** The execution provider that runs every node of the graph: `cuda` or `cpu`. */
  readonly provider: string;
  /** Why a better provider that is installed does not run it: an accelerator must not stay unused in silence. '' where there is none. */
  readonly refused: string;
  /** `rows` is row-major `[count, input width]`; resolves with `count` finite scores. Rejects with `model.run`. One call at a time. */
  run(rows: Float32Array, count: number): Promise<Float32Array>;
}

const require = createRequire(import.meta.url);

/**
 * Creates the session, compares the graph's tensors with the manifest and warms up. `runtimeDir`: folder of another onnxruntime-node, one for the whole process; '': ours.
 * Throws `model.runtime`, `model.invalid`, `model.shape` or `model.run`.
 */
export async function openSession({ manifest, onnx }: ModelPackage, runtimeDir = ''): Promise<ModelSession> {
  const ort = await loadRuntime(runtimeDir);
  const { session, provider, refused } = await createOnBestProvider(ort, manifest.name, onnx, runtimeDir !== '' || existsSync(cudaLibrary()));
  try {
    compareTensor(manifest, 'input', session.inputMetadata);
    compareTensor(manifest, 'output', session.outputMetadata);
    const opened = { provider, refused, ...wrap(ort, session, manifest) };
    await opened.run(new Float32Array(manifest.input.shape[1]), 1);
    return opened;
  } catch (error) {
    await session.release();
    throw error;
  }
}

async function loadRuntime(runtimeDir: string): Promise<typeof Ort> {
  process.env['ORT_DISABLE_TELEMETRY'] = '1'; // 1.30 reports to its maker otherwise; in the gateway tenzro.js has set it, as native code sees no thread's environment
  try {
    const ort = runtimeDir === '' ? await import('onnxruntime-node') : ownRuntime(runtimeDir);
    ort.env.logLevel = 'fatal'; // everything above debug also comes as an exception
    return ort;
  } catch (cause) {
    throw new TenzroError('model.runtime', `ONNX Runtime does not load on ${process.platform}-${process.arch}${runtimeDir === '' ? '' : ` from ${runtimeDir}`}: ${messageOf(cause)}`, { cause });
  }
}

/** The binding's own loader, so that its `onnxruntime-common` is the one that it was built with. */
function ownRuntime(folder: string): typeof Ort {
  const file = createRequire(join(folder, 'package.json')).resolve(folder);
  return require(file) as typeof Ort;
}

/**
 * CUDA counts only when its library is there or somebody named a runtime for it, and a session forbids falling back to the CPU and is created all the same: otherwise ONNX Runtime
 * would place nodes on the CPU silently, and the ledger would name a provider that did not run them.
 */
async function createOnBestProvider(ort: typeof Ort, name: string, onnx: Uint8Array, wantsCuda: boolean): Promise<Pick<ModelSession, 'provider' | 'refused'> & { session: Ort.InferenceSession }> {
  const common = { intraOpNumThreads: 1, interOpNumThreads: 1, executionMode: 'sequential', enableCpuMemArena: false } as const;
  let refused = '';
  if (wantsCuda) {
    try {
      const session = await ort.InferenceSession.create(onnx, { ...common, executionProviders: ['cuda'], extra: { session: { disable_cpu_ep_fallback: '1' } } });
      return { provider: 'cuda', refused, session };
    } catch (error) {
      refused = `cuda: ${messageOf(error)}`;
    }
  }
  try {
    return { provider: 'cpu', refused, session: await ort.InferenceSession.create(onnx, { ...common, executionProviders: ['cpu'] }) };
  } catch (cause) {
    throw new TenzroError('model.invalid', `${name}: ONNX Runtime refuses model.onnx: ${messageOf(cause)}`, { cause });
  }
}

/** Where onnxruntime-node's install script puts the CUDA provider, if it was let. */
const cudaLibrary = (): string =>
  join(dirname(require.resolve('onnxruntime-node')), '..', 'bin', 'napi-v6', process.platform, process.arch, 'libonnxruntime_providers_cuda.so');

function compareTensor(manifest: ModelManifest, side: 'input' | 'output', found: readonly Ort.InferenceSession.ValueMetadata[]): void {
  const { name, dtype, shape } = manifest[side];
  const [only] = found;
  const problem = (what: string): TenzroError => new TenzroError('model.shape', `${manifest.name}: ${side} ${what}; the manifest says ${name} ${dtype} [${shape.join(', ')}]`);
  if (only === undefined || found.length !== 1) throw problem(`has ${found.length} tensors`);
  if (!only.isTensor) throw problem(`${only.name} is no tensor`);
  const same = only.name === name && only.type === dtype && only.shape.length === shape.length && shape.every((dim, i) => (dim === 'batch' ? typeof only.shape[i] === 'string' : only.shape[i] === dim));
  if (!same) throw problem(`is ${only.name} ${only.type} [${only.shape.join(', ')}]`);
}

function wrap(ort: typeof Ort, session: Ort.InferenceSession, { name, input, output }: ModelManifest): Pick<ModelSession, 'run' | typeof Symbol.asyncDispose> {
  return {
    async run(rows, count) {
      let data: unknown;
      try {
        const result = await session.run({ [input.name]: new ort.Tensor('float32', rows.subarray(0, count * input.shape[1]), [count, input.shape[1]]) });
        data = result[output.name]?.data;
      } catch (cause) {
        throw new TenzroError('model.run', `${name}: ${messageOf(cause)}`, { cause });
      }
      if (!(data instanceof Float32Array) || data.length !== count || !data.every(Number.isFinite)) throw new TenzroError('model.run', `${name}: expected ${count} finite scores`);
      return data;
    },
    [Symbol.asyncDispose]: () => session.release(),
  };
}
