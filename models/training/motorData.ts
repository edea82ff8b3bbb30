/** Windows of the simulated motor's features, by seed: training, validation and test motors never share one. */
import { createMotor } from '#drivers/sim/motorSignal.ts';
import { MOTOR_FEATURES, motorFeatures } from '#drivers/sim/motorFeatures.ts';

export const READINGS = 4;
export const FEATURES = MOTOR_FEATURES.length;
export const WIDTH = READINGS * FEATURES;

/** Consecutive readings of several motors: `motors × blocks × FEATURES`. */
export interface Series {
  readonly motors: number;
  readonly blocks: number;
  readonly values: Float64Array;
}

export interface Condition {
  readonly severity: number;
  /** Speed of the shaft, hertz; absent: nominal. */
  readonly shaftHz?: number;
  /** Changes a block of accelerations in place: what the bearing model does not offer. */
  readonly alter?: (samples: Float64Array) => void;
}

/** Yields after each motor, so that a caller can show progress. */
export function* recordMotors(firstSeed: number, motors: number, blocks: number, condition: Condition): Generator<number, Series> {
  const values = new Float64Array(motors * blocks * FEATURES);
  for (let motor = 0; motor < motors; motor++) {
    const source = createMotor(firstSeed + motor, condition.shaftHz);
    for (let block = 0; block < blocks; block++) {
      const samples = source.block(condition.severity);
      condition.alter?.(samples);
      values.set(motorFeatures(samples), (motor * blocks + block) * FEATURES);
    }
    yield blocks;
  }
  return { motors, blocks, values };
}

/** Row-major `[windows, WIDTH]`; windows start every `stride` readings and never span two motors. */
export function windowsOf({ motors, blocks, values }: Series, stride: number): Float64Array {
  const perMotor = Math.floor((blocks - READINGS) / stride) + 1;
  const windows = new Float64Array(motors * perMotor * WIDTH);
  for (let motor = 0; motor < motors; motor++) {
    for (let i = 0; i < perMotor; i++) {
      const start = (motor * blocks + i * stride) * FEATURES;
      windows.set(values.subarray(start, start + WIDTH), (motor * perMotor + i) * WIDTH);
    }
  }
  return windows;
}

export interface Scaling {
  /** One per input, `WIDTH` long: the same for each reading of the window. */
  readonly mean: Float64Array;
  readonly deviation: Float64Array;
}

export function scalingOf({ values }: Series): Scaling {
  const count = values.length / FEATURES;
  const mean = new Float64Array(FEATURES);
  const square = new Float64Array(FEATURES);
  for (const [i, value] of values.entries()) mean[i % FEATURES] = (mean[i % FEATURES] ?? 0) + value / count;
  for (const [i, value] of values.entries()) square[i % FEATURES] = (square[i % FEATURES] ?? 0) + (value - (mean[i % FEATURES] ?? 0)) ** 2 / count;
  const tile = (of: Float64Array): Float64Array => Float64Array.from({ length: WIDTH }, (_, i) => of[i % FEATURES] ?? 0);
  return { mean: tile(mean), deviation: tile(square.map(Math.sqrt)) };
}

/** Standardised inputs are clipped here, in standard deviations: one wild value cannot outshout the rest, and int8 keeps its resolution. */
export const CLIP = 8;

/** Standardises rows of windows into a new array, as the graph does. */
export const standardise = (windows: Float64Array, { mean, deviation }: Scaling): Float64Array =>
  windows.map((value, i) => Math.min(CLIP, Math.max(-CLIP, (value - (mean[i % WIDTH] ?? 0)) / (deviation[i % WIDTH] ?? 1))));
