/** The recipe of models/motor-vibration: seeds, sizes and order of steps. Deterministic: no clock, no unseeded randomness. */
import { seededRandom } from '#drivers/sim/random.ts';
import { MOTOR_FEATURES } from '#drivers/sim/motorFeatures.ts';
import { quantile, tailThreshold } from './evaluate.ts';
import { Adam, createMlp, forward, type Layer } from './mlp.ts';
import { moveOff } from './outliers.ts';
import { READINGS, WIDTH, recordMotors, scalingOf, standardise, windowsOf, type Condition, type Scaling, type Series } from './motorData.ts';
import { buildGraph, forwardQuantised, quantise, type Affine, type QuantisedLayer } from './quantize.ts';

export const RECIPE = {
  layers: [WIDTH, 32, 16, 1],
  /** First seeds; motors count up from there. */
  seeds: { train: 10_000, validation: 20_000, test: 30_000, faults: 40_000, weights: 7 },
  train: { motors: 120, blocks: 150 },
  validation: { motors: 60, blocks: 200 },
  test: { motors: 60, blocks: 240 },
  faults: { motors: 20, blocks: 60 },
  steps: 5_000,
  /** Sound windows per step, and as many outliers. */
  batch: 128,
  rate: 2e-3,
  /** Windows do not overlap: one verdict per four readings. */
  stride: READINGS,
  /** What the threshold is set for. */
  falseAlarmsPerDay: 1 / 7,
} as const;

export const WINDOWS_PER_DAY = 86_400 / RECIPE.stride;

/** Told how much of the named stage is done, 0 … 1. */
export type Progress = (stage: string, done: number) => void;

export interface Trained {
  readonly layers: readonly Layer[];
  readonly quantised: readonly QuantisedLayer[];
  readonly scaling: Scaling;
  readonly affine: Affine;
  readonly onnx: Buffer;
  /** Windows of the validation motors, overlapping, features as sent. */
  readonly rawValidation: Float64Array;
}

export function record(stage: string, firstSeed: number, size: { readonly motors: number; readonly blocks: number }, condition: Condition, progress: Progress): Series {
  const recording = recordMotors(firstSeed, size.motors, size.blocks, condition);
  for (let motor = 1; ; motor++) {
    const step = recording.next();
    if (step.done === true) return step.value;
    progress(stage, motor / size.motors);
  }
}

export function trainMotorVibration(progress: Progress): Trained {
  const series = record('simulate training motors', RECIPE.seeds.train, RECIPE.train, { severity: 0 }, progress);
  const scaling = scalingOf(series);
  const sound = standardise(windowsOf(series, 1), scaling);
  const layers = fit(sound, progress);
  const rawValidation = windowsOf(record('simulate validation motors', RECIPE.seeds.validation, RECIPE.validation, { severity: 0 }, progress), 1);
  const quantised = quantise(layers, calibrationOf(sound));
  const affine = calibrateScore(forwardQuantised(quantised, standardise(rawValidation, scaling)));
  return { layers, quantised, scaling, affine, rawValidation, onnx: buildGraph(quantised, scaling, affine, describe()) };
}

/** Binary cross-entropy between sound windows (0) and outliers (1), cosine decay of the rate. */
function fit(sound: Float64Array, progress: Progress): Layer[] {
  const random = seededRandom(RECIPE.seeds.weights);
  const layers = createMlp(RECIPE.layers, random);
  const adam = new Adam(layers);
  const rows = 2 * RECIPE.batch;
  const input = new Float64Array(rows * WIDTH);
  for (let step = 0; step < RECIPE.steps; step++) {
    for (let row = 0; row < rows; row++) {
      const pick = Math.floor(random.uniform() * (sound.length / WIDTH)) * WIDTH;
      input.set(sound.subarray(pick, pick + WIDTH), row * WIDTH);
      if (row >= RECIPE.batch) moveOff(input, row * WIDTH, random);
    }
    const activations = forward(layers, input, rows);
    const gradient = (activations.at(-1) ?? input).map((logit, row) => (1 / (1 + Math.exp(-logit)) - Number(row >= RECIPE.batch)) / rows);
    adam.step(activations, gradient, rows, RECIPE.rate * 0.5 * (1 + Math.cos((Math.PI * step) / RECIPE.steps)));
    if (step % 50 === 49) progress('train', (step + 1) / RECIPE.steps);
  }
  return layers;
}

/** Every sixteenth sound window, and the same moved off: ranges of int8 must hold both. */
function calibrationOf(sound: Float64Array): Float64Array {
  const random = seededRandom(RECIPE.seeds.weights + 1);
  const picks = Math.floor(sound.length / WIDTH / 16);
  const windows = new Float64Array(2 * picks * WIDTH);
  for (let i = 0; i < picks; i++) {
    const window = sound.subarray(i * 16 * WIDTH, (i * 16 + 1) * WIDTH);
    windows.set(window, 2 * i * WIDTH);
    windows.set(window, (2 * i + 1) * WIDTH);
    moveOff(windows, (2 * i + 1) * WIDTH, random);
  }
  return windows;
}

/** Puts the median of sound windows at 0 and the threshold at 1; six digits, so that the file does not hang on a last bit. */
function calibrateScore(logits: Float64Array): Affine {
  const median = quantile(logits, 0.5);
  const threshold = tailThreshold(logits, RECIPE.falseAlarmsPerDay / WINDOWS_PER_DAY);
  return { gain: Number((1 / (threshold - median)).toPrecision(6)), offset: Number((-median / (threshold - median)).toPrecision(6)) };
}

const describe = (): string => `Vibration anomaly of a motor from ${READINGS} readings of ${MOTOR_FEATURES.length} features. Apache-2.0.`;

export const scoresOf = (outputs: Float64Array, { gain, offset }: Affine): Float64Array => outputs.map((value) => gain * value + offset);
export const floatOutputs = (layers: readonly Layer[], windows: Float64Array): Float64Array => forward(layers, windows, windows.length / WIDTH).at(-1) ?? windows;
