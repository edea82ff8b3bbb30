/** Measures of a detector: higher scores mean more unusual. */
import { invariant } from '#runtime/core/errors.ts';

/** Area under the ROC curve by the Mann–Whitney statistic; ties count half. */
export function areaUnderCurve(normal: Float64Array, anomalous: Float64Array): number {
  const sorted = normal.toSorted();
  let sum = 0;
  for (const score of anomalous) sum += (countBelow(sorted, score, false) + countBelow(sorted, score, true)) / 2;
  return sum / (normal.length * anomalous.length);
}

/** How many of the sorted values lie below `limit`, or at it where `inclusive`. */
function countBelow(sorted: Float64Array, limit: number, inclusive: boolean): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    const value = sorted[middle] ?? 0;
    if (value < limit || (inclusive && value === limit)) low = middle + 1;
    else high = middle;
  }
  return low;
}

export const shareAtLeast = (scores: Float64Array, threshold: number): number => scores.reduce((count, score) => count + Number(score >= threshold), 0) / scores.length;

export function quantile(values: Float64Array, share: number): number {
  const sorted = values.toSorted();
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
}

/**
 * The score that sound windows exceed with probability `rate`, which may lie beyond what the sample can show: the excesses over the 98 % quantile are
 * taken as exponential (peaks over threshold with shape 0; Coles, "An Introduction to Statistical Modeling of Extreme Values", §4.3).
 */
export function tailThreshold(normal: Float64Array, rate: number): number {
  const tailShare = 0.02;
  invariant(rate < tailShare, 'the rate must lie in the tail');
  const start = quantile(normal, 1 - tailShare);
  const excesses = normal.filter((score) => score > start).map((score) => score - start);
  const mean = excesses.reduce((sum, excess) => sum + excess, 0) / excesses.length;
  return start + mean * Math.log(excesses.length / normal.length / rate);
}

/** Upper bound, at 95 % confidence, of a rate of which `count` cases were seen in `trials` (Wilson score interval, one-sided). */
export function rateBound(count: number, trials: number): number {
  const z = 1.645;
  const share = count / trials;
  const centre = share + (z * z) / (2 * trials);
  const half = z * Math.sqrt((share * (1 - share)) / trials + (z * z) / (4 * trials * trials));
  return (centre + half) / (1 + (z * z) / trials);
}
