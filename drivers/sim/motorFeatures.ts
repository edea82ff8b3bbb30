/**
 * What the motor's firmware sends instead of 1,024 raw samples: 16 numbers per block, in the order of `MOTOR_FEATURES`. Pure.
 * The mean is removed first (an accelerometer's offset says nothing about vibration).
 */
import { fft } from './fft.ts';
import { MOTOR } from './motorSignal.ts';

const BAND_HZ = 320;
const BANDS = 10;
/** Energies are floored here before the logarithm, in (m/s²)²: log10 ≥ −12. */
const ENERGY_FLOOR = 1e-12;
/** Where the housing rings: its envelope shows the strikes. */
const ENVELOPE_BAND_HZ = [1_600, 2_600] as const;
/** The envelope's lines that count: BPFO at nominal speed, ± 7 %. */
const BPFO_HZ = MOTOR.shaftHz * MOTOR.bpfoOrders;
const BPFO_TOLERANCE = 0.07;

export interface Feature {
  /** Channel name in the measurement. */
  readonly name: string;
  readonly unit: string;
  readonly meaning: string;
}

export const MOTOR_FEATURES: readonly Feature[] = [
  { name: 'rms', unit: 'm/s²', meaning: 'root mean square' },
  { name: 'peak', unit: 'm/s²', meaning: 'largest magnitude' },
  { name: 'crest_factor', unit: '1', meaning: 'peak over rms; √2 for a sine' },
  { name: 'kurtosis', unit: '1', meaning: 'fourth standardised moment; 1.5 for a sine, 3 for normal noise' },
  { name: 'skewness', unit: '1', meaning: 'third standardised moment' },
  ...Array.from({ length: BANDS }, (_, band) => ({
    name: `band_${band * BAND_HZ}`,
    unit: 'log10((m/s²)²)',
    meaning: `mean square between ${band * BAND_HZ} and ${(band + 1) * BAND_HZ} Hz (Hann window)`,
  })),
  { name: 'envelope_bpfo', unit: 'log10((m/s²)²)', meaning: 'mean square of the 1.6–2.6 kHz envelope within ± 7 % of the outer race\'s ball-pass frequency' },
];

/** The 16 features of one block of `MOTOR.blockSamples` accelerations in m/s². A silent block gives 0, crest 0, kurtosis 0 and floors. */
export function motorFeatures(block: Float64Array): Float64Array {
  if (block.length !== MOTOR.blockSamples) throw new RangeError(`a block has ${MOTOR.blockSamples} samples, not ${block.length}`);
  const centred = withoutMean(block);
  const features = new Float64Array(MOTOR_FEATURES.length);
  features.set(moments(centred), 0);
  features.set(bandEnergies(centred), 5);
  features[15] = log10Energy(envelopeEnergy(centred));
  return features;
}

function withoutMean(block: Float64Array): Float64Array {
  let sum = 0;
  for (const sample of block) sum += sample;
  const mean = sum / block.length;
  return block.map((sample) => sample - mean);
}

/** rms, peak, crest factor, kurtosis, skewness. */
function moments(samples: Float64Array): number[] {
  let [second, third, fourth, peak] = [0, 0, 0, 0];
  for (const sample of samples) {
    const square = sample * sample;
    second += square;
    third += square * sample;
    fourth += square * square;
    peak = Math.max(peak, Math.abs(sample));
  }
  const variance = second / samples.length;
  if (variance === 0) return [0, 0, 0, 0, 0];
  const rms = Math.sqrt(variance);
  return [rms, peak, peak / rms, fourth / samples.length / variance ** 2, third / samples.length / variance ** 1.5];
}

/** Hann window, one-sided, scaled so that all bands together give the mean square (Parseval; the window's own mean square is 3/8). */
function bandEnergies(samples: Float64Array): number[] {
  const n = samples.length;
  const re = samples.map((sample, i) => sample * 0.5 * (1 - Math.cos((2 * Math.PI * i) / n)));
  const im = new Float64Array(n);
  fft(re, im);
  const energies = new Float64Array(BANDS);
  const binHz = MOTOR.sampleRateHz / n;
  for (let bin = 1; bin < n / 2; bin++) {
    const band = Math.floor((bin * binHz) / BAND_HZ);
    energies[band] = (energies[band] ?? 0) + (2 * power(re, im, bin)) / (n * n) / 0.375;
  }
  return Array.from(energies, log10Energy);
}

/** Band-passes in the spectrum, takes the analytic signal's magnitude and looks for the strike rate in it. */
function envelopeEnergy(samples: Float64Array): number {
  const n = samples.length;
  const binHz = MOTOR.sampleRateHz / n;
  const re = Float64Array.from(samples);
  const im = new Float64Array(n);
  fft(re, im);
  for (let bin = 0; bin < n; bin++) {
    const hz = bin * binHz;
    const scale = hz >= ENVELOPE_BAND_HZ[0] && hz <= ENVELOPE_BAND_HZ[1] ? 2 / n : 0;
    re[bin] = (re[bin] ?? 0) * scale;
    im[bin] = (im[bin] ?? 0) * scale;
  }
  fft(im, re); // exchanged: the inverse transform
  const envelope = withoutMean(re.map((real, i) => Math.hypot(real, im[i] ?? 0)));
  const lines = new Float64Array(n);
  fft(envelope, lines);
  let energy = 0;
  const first = Math.ceil((BPFO_HZ * (1 - BPFO_TOLERANCE)) / binHz);
  const last = Math.floor((BPFO_HZ * (1 + BPFO_TOLERANCE)) / binHz);
  for (let bin = first; bin <= last; bin++) energy += (2 * power(envelope, lines, bin)) / (n * n);
  return energy;
}

const power = (re: Float64Array, im: Float64Array, bin: number): number => (re[bin] ?? 0) ** 2 + (im[bin] ?? 0) ** 2;
const log10Energy = (energy: number): number => Math.log10(Math.max(energy, ENERGY_FLOOR));
