/** Evaluates a trained motor model on motors that it has never seen, beside what a person would set up in ten minutes: a threshold on one feature. */
import { seededRandom } from '#drivers/sim/random.ts';
import { MOTOR } from '#drivers/sim/motorSignal.ts';
import { MOTOR_FEATURES } from '#drivers/sim/motorFeatures.ts';
import { areaUnderCurve, rateBound, shareAtLeast, tailThreshold } from './evaluate.ts';
import { FEATURES, READINGS, WIDTH, standardise, windowsOf, type Condition } from './motorData.ts';
import { RECIPE, WINDOWS_PER_DAY, floatOutputs, record, scoresOf, type Progress, type Trained } from './motorVibration.ts';

/** Scores the raw windows (`[count, WIDTH]`, features as sent) with the real graph. */
export type RealScores = (windows: Float64Array) => Promise<Float64Array>;

interface DetectorFigures {
  readonly detector: string;
  /** By severity, in the order of `SEVERITIES`. */
  readonly auc: readonly number[];
  readonly detected: readonly number[];
  readonly falseAlarms: number;
}

export interface Report {
  readonly detectors: readonly DetectorFigures[];
  readonly soundWindows: number;
  /** False alarms per motor and day: measured, and the upper bound at 95 % confidence that so many windows allow. */
  readonly alarmsPerDay: number;
  readonly alarmsPerDayBound: number;
  /** The difference counts where the float score is below twice the threshold: above it INT8 saturates, to no harm. */
  readonly int8: { readonly largestDifference: number; readonly sameVerdicts: number };
  readonly conditions: readonly { readonly name: string; readonly expected: string; readonly alarms: number; readonly envelopeAlarms: number }[];
}

export const SEVERITIES = [0.05, 0.1, 0.2, 0.4, 0.8] as const;
const BASELINES = ['rms', 'kurtosis', 'envelope_bpfo'] as const;

export async function evaluateMotorVibration(trained: Trained, real: RealScores, progress: Progress): Promise<Report> {
  const windows = (stage: string, seed: number, size: { motors: number; blocks: number }, condition: Condition): Float64Array =>
    windowsOf(record(stage, seed, size, condition, progress), 1);
  const sound = windows('simulate test motors', RECIPE.seeds.test, RECIPE.test, { severity: 0 });
  const faults = SEVERITIES.map((severity) => windows(`simulate severity ${severity}`, RECIPE.seeds.faults, RECIPE.faults, { severity }));
  const inFloat = (of: Float64Array): Float64Array => scoresOf(floatOutputs(trained.layers, standardise(of, trained.scaling)), trained.affine);
  const [soundScores, faultScores] = [await real(sound), await Promise.all(faults.map(real))];
  const model = figures('this model, INT8', soundScores, faultScores, 1);
  const rules = BASELINES.map((name) => featureRule(name, trained.rawValidation));
  const envelope = featureRule('envelope_bpfo', trained.rawValidation);
  const conditions = [];
  for (const { name, expected, ...condition } of CONDITIONS) {
    const altered = windows(name, RECIPE.seeds.faults, RECIPE.faults, condition);
    conditions.push({ name, expected, alarms: shareAtLeast(await real(altered), 1), envelopeAlarms: shareAtLeast(envelope.scores(altered), envelope.threshold) });
  }
  const count = sound.length / WIDTH;
  return {
    detectors: [
      model,
      figures('this model, float', inFloat(sound), faults.map(inFloat), 1),
      ...rules.map(({ name, scores, threshold }) => figures(`threshold on ${name}`, scores(sound), faults.map(scores), threshold)),
    ],
    conditions, soundWindows: count,
    alarmsPerDay: (model.falseAlarms / count) * WINDOWS_PER_DAY, alarmsPerDayBound: rateBound(model.falseAlarms, count) * WINDOWS_PER_DAY,
    int8: agreement([soundScores, ...faultScores], [sound, ...faults].map(inFloat)),
  };
}

function figures(detector: string, sound: Float64Array, faults: readonly Float64Array[], threshold: number): DetectorFigures {
  return {
    detector, falseAlarms: Math.round(shareAtLeast(sound, threshold) * sound.length),
    auc: faults.map((scores) => areaUnderCurve(sound, scores)), detected: faults.map((scores) => shareAtLeast(scores, threshold)),
  };
}

interface FeatureRule {
  readonly name: string;
  readonly threshold: number;
  readonly scores: (windows: Float64Array) => Float64Array;
}

/** Mean of one feature over the window, with a threshold set by the same rule on the same validation motors. */
function featureRule(name: string, validation: Float64Array): FeatureRule {
  const feature = MOTOR_FEATURES.findIndex((item) => item.name === name);
  const scores = (windows: Float64Array): Float64Array => Float64Array.from({ length: windows.length / WIDTH }, (_, row) => {
    let sum = 0;
    for (let reading = 0; reading < READINGS; reading++) sum += windows[row * WIDTH + reading * FEATURES + feature] ?? 0;
    return sum / READINGS;
  });
  return { name, scores, threshold: tailThreshold(scores(validation), RECIPE.falseAlarmsPerDay / WINDOWS_PER_DAY) };
}

function agreement(real: readonly Float64Array[], float: readonly Float64Array[]): Report['int8'] {
  let [largestDifference, same, all] = [0, 0, 0];
  for (const [set, scores] of real.entries()) {
    for (const [row, score] of scores.entries()) {
      const other = float[set]?.[row] ?? 0;
      if (other < 2) largestDifference = Math.max(largestDifference, Math.abs(score - other));
      same += Number(score >= 1 === other >= 1);
      all++;
    }
  }
  return { largestDifference, sameVerdicts: same / all };
}

/** Outside what it was trained for: `expected` says what a user would want. */
const CONDITIONS: readonly (Condition & { readonly name: string; readonly expected: string })[] = [
  ...[0.9, 0.97, 1.03, 1.1].map((factor) => ({ name: `sound, shaft at ${Math.round(factor * 100)} % of nominal speed`, expected: 'quiet', severity: 0, shaftHz: MOTOR.shaftHz * factor })),
  { name: 'severity 0.2, shaft at 90 % of nominal speed', expected: 'alarm', severity: 0.2, shaftHz: MOTOR.shaftHz * 0.9 },
  { name: 'sound, sensor reads 10 % low', expected: 'quiet', severity: 0, alter: (samples) => multiply(samples, 0.9) },
  { name: 'sound, sensor reads 25 % low (mount works loose)', expected: 'alarm', severity: 0, alter: (samples) => multiply(samples, 0.75) },
  { name: 'broadband noise + 50 % (dry bearing)', expected: 'alarm', severity: 0, alter: addNoise(0.4) },
  { name: 'rattle: a 470 Hz tone of 0.3 m/s²', expected: 'alarm', severity: 0, alter: (samples) => addTone(samples, 470, 0.3) },
  { name: 'sensor stuck at its offset', expected: 'alarm', severity: 0, alter: (samples) => void samples.fill(0) },
];

function multiply(samples: Float64Array, factor: number): void {
  for (const [i, sample] of samples.entries()) samples[i] = sample * factor;
}

function addTone(samples: Float64Array, hz: number, peakMps2: number): void {
  for (const [i, sample] of samples.entries()) samples[i] = sample + peakMps2 * Math.sin((2 * Math.PI * hz * i) / MOTOR.sampleRateHz);
}

function addNoise(deviationMps2: number): (samples: Float64Array) => void {
  const random = seededRandom(RECIPE.seeds.weights + 2);
  return (samples) => {
    for (const [i, sample] of samples.entries()) samples[i] = sample + deviationMps2 * random.normal();
  };
}
