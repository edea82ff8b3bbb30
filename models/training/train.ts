/** `npm run train:vibration`: simulates, trains, quantises, evaluates, and writes the package. The same Node gives the same model.onnx. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { MOTOR_FEATURES } from '#drivers/sim/motorFeatures.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { MANIFEST_FORMAT, parseManifest } from '../manifest.ts';
import { openSession } from '../session.ts';
import { modelCard } from './card.ts';
import { READINGS, WIDTH } from './motorData.ts';
import { evaluateMotorVibration } from './motorReport.ts';
import { RECIPE, trainMotorVibration, type Progress } from './motorVibration.ts';

const NAME = 'motor-vibration';
const VERSION = '1.0.0';

const { values, positionals } = parseArgs({ options: { out: { type: 'string' } }, allowPositionals: true });
if (positionals.length !== 1 || positionals[0] !== NAME) {
  console.error(`usage: node models/training/train.ts ${NAME} [--out FOLDER]`);
  process.exitCode = 2;
} else {
  await run(join(values.out ?? join(import.meta.dirname, '..'), NAME));
}

async function run(folder: string): Promise<void> {
  const startMs = performance.now();
  const progress = process.stderr.isTTY ? bar(startMs) : (): void => undefined;
  const trained = trainMotorVibration(progress);
  const digest = sha256(trained.onnx);
  const text = manifestText(toHex(digest));
  await using session = await openSession({ manifest: parseManifest(text), onnx: trained.onnx, digest });
  const report = await evaluateMotorVibration(trained, async (windows) => Float64Array.from(await session.run(Float32Array.from(windows), windows.length / WIDTH)), progress);
  const card = modelCard(NAME, VERSION, toHex(digest), report);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'model.onnx'), trained.onnx);
  await writeFile(join(folder, 'manifest.json'), text);
  await writeFile(join(folder, 'MODEL_CARD.md'), card);
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  console.log(card);
  console.log(`${folder}: model.onnx ${trained.onnx.length} bytes, sha256 ${toHex(digest)}, ${((performance.now() - startMs) / 1000).toFixed(1)} s on ${session.provider}`);
}

function manifestText(digest: string): string {
  return `${JSON.stringify({
    format: MANIFEST_FORMAT, name: NAME, version: VERSION, licence: 'Apache-2.0',
    description: 'Vibration anomaly of a small geared motor, from the features its firmware sends. Trained on simulated motors only.',
    sha256: digest,
    source: { entity: 'device/+//', type: 'vibration' },
    channels: MOTOR_FEATURES.map((feature) => ({ channel: feature.name, unit: feature.unit })),
    window: { readings: READINGS, stride: RECIPE.stride, maxGapMs: 5_000 },
    input: { name: 'window', dtype: 'float32', shape: ['batch', WIDTH] },
    output: { name: 'score', dtype: 'float32', shape: ['batch'], meaning: '0 is the median of sound motors, 1 the threshold; higher is more unusual' },
    threshold: 1,
    training: {
      command: 'npm run train:vibration', data: 'drivers/sim/motorSignal.ts, simulated', method: 'outlier exposure on sound motors',
      soundMotors: RECIPE.train.motors, firstSeed: RECIPE.seeds.train, validationFirstSeed: RECIPE.seeds.validation, weightsSeed: RECIPE.seeds.weights, steps: RECIPE.steps,
    },
  }, undefined, 2)}\n`;
}

/** One line that is rewritten: stage, bar, seconds. */
function bar(startMs: number): Progress {
  const width = 30;
  return (stage, done) => {
    const filled = Math.round(done * width);
    process.stderr.write(`\r\x1b[K${stage.padEnd(48)} [${'#'.repeat(filled)}${'.'.repeat(width - filled)}] ${((performance.now() - startMs) / 1000).toFixed(0)} s`);
  };
}
