import assert from 'node:assert/strict';
import { fft } from '#drivers/sim/fft.ts';
import { motorFeatures, MOTOR_FEATURES } from '#drivers/sim/motorFeatures.ts';
import { createMotor, MOTOR } from '#drivers/sim/motorSignal.ts';
import { seededRandom } from '#drivers/sim/random.ts';

const near = (actual: number | undefined, expected: number, tolerance: number, what: string): void =>
  assert.ok(actual !== undefined && Math.abs(actual - expected) <= tolerance, `${what}: ${actual}, expected ${expected} ± ${tolerance}`);
const named = (block: Float64Array): Record<string, number> => {
  const features = motorFeatures(block);
  return Object.fromEntries(MOTOR_FEATURES.map(({ name }, i) => [name, features[i] ?? Number.NaN]));
};
const samples = (of: (seconds: number, i: number) => number): Float64Array => Float64Array.from({ length: MOTOR.blockSamples }, (_, i) => of(i / MOTOR.sampleRateHz, i));
const sine = (hz: number, amplitude: number) => (seconds: number): number => amplitude * Math.sin(2 * Math.PI * hz * seconds);

describe('sim: FFT', () => {
  it('agrees with the definition', () => {
    const random = seededRandom(3);
    const [re, im] = [Float64Array.from({ length: 16 }, () => random.normal()), Float64Array.from({ length: 16 }, () => random.normal())];
    const expected = Array.from(re, (_, k) => re.reduce<[number, number]>(([r, s], value, n) => {
      const angle = (-2 * Math.PI * k * n) / 16;
      const other = im[n] ?? 0;
      return [r + value * Math.cos(angle) - other * Math.sin(angle), s + value * Math.sin(angle) + other * Math.cos(angle)];
    }, [0, 0]));
    fft(re, im);
    for (const [k, [r, s]] of expected.entries()) {
      near(re[k], r, 1e-12, `re ${k}`);
      near(im[k], s, 1e-12, `im ${k}`);
    }
  });

  it('refuses lengths that are no power of two', () => {
    assert.throws(() => fft(new Float64Array(12), new Float64Array(12)), RangeError);
    assert.throws(() => fft(new Float64Array(16), new Float64Array(8)), RangeError);
  });
});

describe('sim: features of known signals', () => {
  it('a sine: crest √2, kurtosis 1.5, its mean square in its band', () => {
    const sixteen = named(samples(sine(400, 3)));
    near(sixteen['rms'], 3 / Math.SQRT2, 1e-9, 'rms');
    near(sixteen['crest_factor'], Math.SQRT2, 1e-9, 'crest factor');
    near(sixteen['kurtosis'], 1.5, 1e-9, 'kurtosis');
    near(sixteen['skewness'], 0, 1e-9, 'skewness');
    near(sixteen['band_320'], Math.log10(4.5), 1e-6, 'band 320');
    assert.ok((sixteen['band_1600'] ?? 0) < -10, 'silence elsewhere');
  });

  it('an offset is not vibration', () => {
    const [plain, shifted] = [named(samples(sine(400, 1))), named(samples((t) => sine(400, 1)(t) + 9.81))];
    for (const { name } of MOTOR_FEATURES.slice(0, 8)) near(shifted[name], plain[name] ?? 0, 1e-9, name);
  });

  it('normal noise: kurtosis 3, equal bands that add up to its mean square', () => {
    const random = seededRandom(11);
    const many = Array.from({ length: 60 }, () => named(samples(() => random.normal())));
    const mean = (name: string, of = (value: number): number => value): number => many.reduce((sum, one) => sum + of(one[name] ?? 0), 0) / many.length;
    near(mean('kurtosis'), 3, 0.05, 'kurtosis');
    const bands = MOTOR_FEATURES.filter(({ name }) => name.startsWith('band_')).map(({ name }) => mean(name, (log) => 10 ** log));
    near(bands.reduce((sum, one) => sum + one, 0), 1, 0.02, 'sum of bands');
    for (const band of bands) near(band, 0.1, 0.01, 'one band');
  });

  it('strikes at BPFO show in the envelope, as many strikes at another rate do not', () => {
    const struck = (hz: number): number => named(samples((t) => Math.exp(-(t % (1 / hz)) / MOTOR.resonanceDecayS) * Math.sin(2 * Math.PI * MOTOR.resonanceHz * (t % (1 / hz)))))['envelope_bpfo'] ?? 0;
    assert.ok(struck(MOTOR.shaftHz * MOTOR.bpfoOrders) > struck(60) + 1.5);
  });

  it('silence gives numbers too', () => {
    assert.ok(motorFeatures(new Float64Array(MOTOR.blockSamples)).every((value) => Number.isFinite(value)));
    assert.throws(() => motorFeatures(new Float64Array(10)), RangeError);
  });
});

describe('sim: the motor', () => {
  it('tells the same story for the same seed, and another for another', () => {
    const story = (seed: number): Float64Array[] => {
      const motor = createMotor(seed);
      return [0, 0, 0.3, 1].map((severity) => motor.block(severity));
    };
    assert.deepEqual(story(5), story(5));
    assert.notDeepEqual(story(5), story(6));
  });

  it('a growing defect raises kurtosis, crest factor and the envelope\'s BPFO line', () => {
    const motor = createMotor(7);
    const at = (severity: number): Record<string, number> => {
      const blocks = Array.from({ length: 20 }, () => named(motor.block(severity)));
      return Object.fromEntries(MOTOR_FEATURES.map(({ name }) => [name, blocks.reduce((sum, one) => sum + (one[name] ?? 0), 0) / blocks.length]));
    };
    const [sound, early, late] = [at(0), at(0.4), at(1)];
    for (const name of ['kurtosis', 'crest_factor', 'envelope_bpfo', 'band_1920']) {
      assert.ok((sound[name] ?? 0) < (early[name] ?? 0) && (early[name] ?? 0) < (late[name] ?? 0), `${name}: ${sound[name]} ${early[name]} ${late[name]}`);
    }
    assert.ok((late['kurtosis'] ?? 0) > 4);
    assert.deepEqual([createMotor(7).block(-1), createMotor(7).block(9)], [createMotor(7).block(0), createMotor(7).block(1)], 'severity is clamped');
  });
});
