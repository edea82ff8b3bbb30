import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { motorFeatures } from '#drivers/sim/motorFeatures.ts';
import { createMotor } from '#drivers/sim/motorSignal.ts';
import { seededRandom } from '#drivers/sim/random.ts';
import { loadPackage } from '#models/package.ts';
import { openSession, type ModelSession } from '#models/session.ts';
import { floatsOf, int32sOf, int8sOf, readOnnx, type OnnxContents } from '#test/support/onnxReader.ts';
import { skipBecause } from '#test/support/skips.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const MODELS = join(ROOT, 'models');
const NAME = 'motor-vibration';
const WIDTH = 64;

/** A window as the gateway would make it: four readings of one motor. */
function windowOf(seed: number, severity: number): Float32Array {
  const motor = createMotor(seed);
  return Float32Array.from(Array.from({ length: 4 }, () => [...motorFeatures(motor.block(severity))]).flat());
}

/** The network in floating point, from the weights in the file: no activation is quantised. */
function floatScore({ initializers }: OnnxContents, window: Float32Array): number {
  const tensor = (name: string) => {
    const found = initializers.get(name);
    assert.ok(found, `the graph holds ${name}`);
    return found;
  };
  const [mean, inverse] = [floatsOf(tensor('mean')), floatsOf(tensor('inverse_deviation'))];
  let x = [...window].map((value, i) => Math.min(8, Math.max(-8, (value - (mean[i] ?? 0)) * (inverse[i] ?? 0))));
  for (let depth = 0; initializers.has(`w${depth}`); depth++) {
    const weights = int8sOf(tensor(`w${depth}`));
    const scales = floatsOf(tensor(`w_scale${depth}`));
    const [bias, biasScales] = [int32sOf(tensor(`b${depth}`)), floatsOf(tensor(`b_scale${depth}`))];
    const last = !initializers.has(`w${depth + 1}`);
    x = Array.from(scales, (scale, o) => {
      const sum = x.reduce((total, value, i) => total + value * (weights[i * scales.length + o] ?? 0) * scale, (bias[o] ?? 0) * (biasScales[o] ?? 0));
      return last ? sum : Math.max(0, sum);
    });
  }
  return (x[0] ?? 0) * (floatsOf(tensor('gain'))[0] ?? 0) + (floatsOf(tensor('offset'))[0] ?? 0);
}

describe('models: motor-vibration as committed', () => {
  let session: ModelSession;
  let graph: OnnxContents;
  before(async () => {
    const loaded = await loadPackage(MODELS, NAME); // checks the digest
    graph = readOnnx(Buffer.from(loaded.onnx));
    session = await openSession(loaded);
  });
  after(() => session[Symbol.asyncDispose]());

  it('is an INT8 QDQ graph whose weights keep to 7 bits', () => {
    const count = (operator: string) => graph.operators.filter((name) => name === operator).length;
    assert.equal(count('QuantizeLinear'), 3);
    assert.equal(count('DequantizeLinear'), 9);
    for (let depth = 0; depth < 3; depth++) {
      const weights = graph.initializers.get(`w${depth}`);
      assert.ok(weights && weights.dataType === 3, 'int8');
      assert.ok(int8sOf(weights).every((weight) => Math.abs(weight) <= 63));
    }
  });

  it('agrees with floating point within what 8-bit activations cost', async () => {
    const windows = Array.from({ length: 40 }, (_, i) => windowOf(900 + i, i % 2 === 0 ? 0 : 0.15));
    const scores = await session.run(Float32Array.from(windows.flatMap((window) => [...window])), windows.length);
    for (const [i, window] of windows.entries()) assert.ok(Math.abs((scores[i] ?? 0) - floatScore(graph, window)) < 0.2, `window ${i}: ${scores[i]} and ${floatScore(graph, window)}`);
  });

  it('scores a row the same alone and in a batch', async () => {
    const windows = Array.from({ length: 32 }, (_, i) => windowOf(700 + i, 0));
    const together = await session.run(Float32Array.from(windows.flatMap((window) => [...window])), windows.length);
    for (const [i, window] of windows.entries()) assert.equal((await session.run(window, 1))[0], together[i]);
  });

  it('is quiet on sound motors and alarms on a strong defect', async () => {
    for (let seed = 500; seed < 520; seed++) {
      const [sound] = await session.run(windowOf(seed, 0), 1);
      const [worn] = await session.run(windowOf(seed, 0.6), 1);
      assert.ok(sound !== undefined && sound < 1, `sound motor ${seed}: ${sound}`);
      assert.ok(worn !== undefined && worn > 2, `worn motor ${seed}: ${worn}`);
    }
  });

  it('stays finite on the wildest readings that fit a float32', async () => {
    const random = seededRandom(1);
    const wild = Float32Array.from({ length: 8 * WIDTH }, () => (random.uniform() - 0.5) * 6e38);
    assert.ok((await session.run(wild, 8)).every(Number.isFinite));
  });

  it('is what the training command makes', async function () {
    if (process.env['TENZRO_TEST_TRAIN'] !== '1') skipBecause(this, 'takes half a minute: set TENZRO_TEST_TRAIN=1');
    this.timeout(180_000);
    const out = await mkdtemp(join(tmpdir(), 'tenzro-train-'));
    try {
      const result = spawnSync(process.execPath, ['models/training/train.ts', NAME, '--out', out], { cwd: ROOT, encoding: 'utf8' });
      assert.equal(result.status, 0, result.stderr);
      for (const file of ['model.onnx', 'manifest.json']) assert.deepEqual(await readFile(join(out, NAME, file)), await readFile(join(MODELS, NAME, file)), file);
    } finally {
      await rm(out, { recursive: true });
    }
  });
});
