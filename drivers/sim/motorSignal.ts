/**
 * Acceleration of a small geared motor on a rolling bearing, whose outer race may carry a defect: the physical model behind the simulated
 * `motor` and behind the training set of `models/motor-vibration`. Pure and seeded.
 *
 * Model: shaft harmonics + gear-mesh tone with shaft sidebands + broadband noise + defect impulses. A defect on the outer race is struck once
 * per passing rolling element (ball-pass frequency, outer race; Randall & Antoni, "Rolling element bearing diagnostics — A tutorial", MSSP 25
 * (2011), §2.1), with a little slip, and each strike rings the housing's resonance.
 */
import { seededRandom, wandering, type Random } from './random.ts';

export const MOTOR = {
  sampleRateHz: 6_400,
  blockSamples: 1_024,
  shaftHz: 24.5,
  /** Ball-pass frequency of the outer race, in shaft orders. */
  bpfoOrders: 3.57,
  gearTeeth: 19,
  resonanceHz: 2_100,
  /** Ring-down time constant of the housing. */
  resonanceDecayS: 0.0011,
  /** Standard deviation of the strike interval, relative: rolling elements slip. */
  slip: 0.012,
  /** Peak of one strike's ringing at severity 1 and full load. */
  strikeMps2: 9,
} as const;

export interface Motor {
  /**
   * The next block of `MOTOR.blockSamples` accelerations in m/s², taken `gapS` seconds (default 1) after the one before.
   * `severity` 0 is a sound bearing, 1 a bearing to be replaced today; values outside are clamped.
   */
  block(severity: number, gapS?: number): Float64Array;
}

/** One motor of a series: the seed also decides its own small differences in mounting, balance and noise. `meanShaftHz` is its set speed. */
export function createMotor(seed: number, meanShaftHz: number = MOTOR.shaftHz): Motor {
  const random = seededRandom(seed);
  const own = individual(random);
  const nextSpeed = wandering(random, meanShaftHz, meanShaftHz * 0.006, 20);
  const nextLoad = wandering(random, 0.75, 0.08, 12);
  return {
    block(severity, gapS = 1) {
      const shaftHz = nextSpeed(gapS);
      const load = Math.min(1, Math.max(0.4, nextLoad(gapS)));
      const samples = rotation(random, own, shaftHz, load);
      const clamped = Math.min(1, Math.max(0, severity));
      if (clamped > 0) addStrikes(samples, random, shaftHz, clamped * load * MOTOR.strikeMps2 * own.mounting);
      return samples;
    },
  };
}

interface Individual {
  readonly harmonics: readonly { readonly peakMps2: number; readonly phaseRad: number }[];
  readonly meshMps2: number;
  readonly noiseMps2: number;
  /** How well the housing carries to the sensor; about 1. */
  readonly mounting: number;
}

function individual(random: Random): Individual {
  const spread = (relative: number): number => Math.exp(relative * random.normal());
  return {
    harmonics: [1.2, 0.5, 0.25, 0.1].map((peakMps2) => ({ peakMps2: peakMps2 * spread(0.1), phaseRad: 2 * Math.PI * random.uniform() })),
    meshMps2: 0.45 * spread(0.1),
    noiseMps2: 0.35 * spread(0.05),
    mounting: spread(0.05),
  };
}

/** Everything that turns without a defect. Each block starts at its own shaft angle: the firmware does not sample in step with the shaft. */
function rotation(random: Random, own: Individual, shaftHz: number, load: number): Float64Array {
  const samples = new Float64Array(MOTOR.blockSamples);
  const start = 2 * Math.PI * random.uniform();
  const stepRad = (2 * Math.PI * shaftHz) / MOTOR.sampleRateHz;
  for (let i = 0; i < samples.length; i++) {
    const angle = start + i * stepRad;
    let sum = own.noiseMps2 * (0.8 + 0.3 * load) * random.normal();
    for (const [order, { peakMps2, phaseRad }] of own.harmonics.entries()) sum += peakMps2 * Math.sin((order + 1) * angle + phaseRad);
    sum += own.meshMps2 * load * (1 + 0.2 * Math.cos(angle)) * Math.sin(MOTOR.gearTeeth * angle);
    samples[i] = sum;
  }
  return samples;
}

function addStrikes(samples: Float64Array, random: Random, shaftHz: number, peakMps2: number): void {
  const periodS = 1 / (shaftHz * MOTOR.bpfoOrders);
  const durationS = samples.length / MOTOR.sampleRateHz;
  const ringS = 8 * MOTOR.resonanceDecayS;
  for (let atS = periodS * random.uniform() - ringS; atS < durationS; atS += periodS * (1 + MOTOR.slip * random.normal())) {
    const peak = peakMps2 * (1 + 0.15 * random.normal());
    const first = Math.max(0, Math.ceil(atS * MOTOR.sampleRateHz));
    const end = Math.min(samples.length, Math.ceil((atS + ringS) * MOTOR.sampleRateHz));
    for (let i = first; i < end; i++) {
      const sinceS = i / MOTOR.sampleRateHz - atS;
      samples[i] = (samples[i] ?? 0) + peak * Math.exp(-sinceS / MOTOR.resonanceDecayS) * Math.sin(2 * Math.PI * MOTOR.resonanceHz * sinceS);
    }
  }
}
