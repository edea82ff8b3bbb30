/**
 * Outlier exposure: what the detector learns to tell from sound windows is sound windows moved off their manifold. No defect of the simulator is ever shown to it, so what it finds in the evaluation it finds unprepared.
 * After Hendrycks, Mazeika, Dietterich, "Deep Anomaly Detection with Outlier Exposure" (2019), with synthetic outliers.
 */
import type { Random } from '#drivers/sim/random.ts';
import { CLIP, FEATURES, WIDTH } from './motorData.ts';

/** Shift in standard deviations, log-uniform. */
const SHIFT = { min: 0.5, max: 3 } as const;

/**
 * Shifts one to all features (log-uniform, so mostly few) of the standardised window at `start`, the same in each of its readings, and clips again.
 * Half of the time all go the same way, as a louder or duller machine would make them.
 */
export function moveOff(windows: Float64Array, start: number, random: Random): void {
  const moved = Math.floor(Math.exp(random.uniform() * Math.log(FEATURES + 1)));
  const scale = Math.exp(Math.log(SHIFT.min) + random.uniform() * Math.log(SHIFT.max / SHIFT.min));
  const together = random.uniform() < 0.5;
  const sign = randomSign(random);
  const shift = new Float64Array(FEATURES);
  for (let k = 0; k < moved; k++) shift[Math.floor(random.uniform() * FEATURES)] = scale * (0.5 + random.uniform()) * (together ? sign : randomSign(random));
  for (let i = 0; i < WIDTH; i++) {
    const value = (windows[start + i] ?? 0) + (shift[i % FEATURES] ?? 0);
    windows[start + i] = Math.min(CLIP, Math.max(-CLIP, value));
  }
}

const randomSign = (random: Random): number => (random.uniform() < 0.5 ? -1 : 1);
