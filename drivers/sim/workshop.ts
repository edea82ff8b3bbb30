/** The scenario `workshop`: a motor whose bearing begins to fail, a cold store with a door that people open, a three-phase power meter. */
import { alarm, alarmCleared, event, measurement, rounded, unitsOf, type OutMessage, type SimulatedDevice } from './device.ts';
import { motorFeatures, MOTOR_FEATURES } from './motorFeatures.ts';
import { createMotor } from './motorSignal.ts';
import { seededRandom, wandering } from './random.ts';

export interface WorkshopOptions {
  readonly seed: number;
  /** Simulated time until the bearing begins to fail; Infinity: it never does. */
  readonly faultAfterS: number;
  /** Simulated time from the first trace to severity 1. */
  readonly faultGrowthS: number;
}

export const WORKSHOP_DEFAULTS: WorkshopOptions = { seed: 1, faultAfterS: 45, faultGrowthS: 60 };

export const workshop = (options: WorkshopOptions): readonly SimulatedDevice[] => [motor(options), coldStore(options.seed + 1), powerMeter(options.seed + 2)];

/** One block of acceleration each second, as 16 features. */
function motor({ seed, faultAfterS, faultGrowthS }: WorkshopOptions): SimulatedDevice {
  const source = createMotor(seed);
  const intervalS = 1;
  let elapsedS = 0;
  return {
    id: 'motor', name: 'Motor with vibration sensor (simulated)', intervalS,
    metadata: [unitsOf('vibration', Object.fromEntries(MOTOR_FEATURES.map(({ name, unit }) => [name, unit])))],
    next() {
      const severity = Math.min(1, Math.max(0, (elapsedS - faultAfterS) / faultGrowthS));
      const features = motorFeatures(source.block(severity, intervalS));
      elapsedS += intervalS;
      return [measurement('vibration', Object.fromEntries(MOTOR_FEATURES.map(({ name }, i) => [name, rounded(features[i] ?? 0, 6)])))];
    },
  };
}

const COLD = {
  /** Thermostat: the compressor starts so far above the set point and stops so far below. */
  setC: -18.5, bandC: 1.5, setMinC: -25, setMaxC: -15,
  ambientC: 22, doorAmbientC: 4,
  /** Time constants of the insulation, of the open door, and of the compressor's pull towards its evaporator. */
  insulationS: 6_000, doorS: 420, compressorS: 500, evaporatorC: -34,
  tooWarmC: -14,
} as const;

/** A freezer room: first-order heat balance, two-point control whose set point can be commanded, a door that is opened now and then and sometimes forgotten. */
function coldStore(seed: number): SimulatedDevice {
  const random = seededRandom(seed);
  const intervalS = 5;
  let [temperatureC, compressorOn, doorOpenS, tooWarm, setC] = [-18.5, true, 0, false, COLD.setC as number];
  return {
    id: 'cold-store', name: 'Cold-store thermometer (simulated)', intervalS,
    metadata: [unitsOf('climate', { temperature: '°C', compressor: '1', door: '1' })],
    next() {
      const messages: OutMessage[] = [];
      const wasOpen = doorOpenS > 0;
      doorOpenS = Math.max(0, doorOpenS - intervalS);
      if (!wasOpen && random.uniform() < intervalS / 300) doorOpenS = random.uniform() < 0.1 ? 300 : 15 + 45 * random.uniform();
      if (wasOpen !== doorOpenS > 0) messages.push(event('door', doorOpenS > 0 ? 'Door opened' : 'Door closed'));
      if (temperatureC > setC + COLD.bandC) compressorOn = true;
      if (temperatureC < setC - COLD.bandC) compressorOn = false;
      const warming = (COLD.ambientC - temperatureC) / COLD.insulationS + (doorOpenS > 0 ? (COLD.doorAmbientC - temperatureC) / COLD.doorS : 0);
      temperatureC += intervalS * (warming + (compressorOn ? (COLD.evaporatorC - temperatureC) / COLD.compressorS : 0));
      messages.push(measurement('climate', { temperature: rounded(temperatureC + 0.03 * random.normal(), 4), compressor: compressorOn ? 1 : 0, door: doorOpenS > 0 ? 1 : 0 }));
      const tooWarmNow = tooWarm ? temperatureC > COLD.setC + COLD.bandC : temperatureC > COLD.tooWarmC;
      if (tooWarmNow !== tooWarm) messages.push(tooWarmNow ? alarm('too_warm', 'major', `Cold store above ${COLD.tooWarmC} °C`) : alarmCleared('too_warm'));
      tooWarm = tooWarmNow;
      return messages;
    },
    operations: {
      setpoint(value) {
        if (value < COLD.setMinC || value > COLD.setMaxC) throw new RangeError(`the thermostat takes ${COLD.setMinC} to ${COLD.setMaxC} °C`);
        setC = value;
        return setC;
      },
    },
  };
}

/** Three phases with their own loads on one grid. */
function powerMeter(seed: number): SimulatedDevice {
  const random = seededRandom(seed);
  const intervalS = 2;
  const frequency = wandering(random, 50, 0.015, 30);
  const phases = [11, 7, 4].map((amperes) => ({ voltage: wandering(random, 230.5, 1.2, 60), current: wandering(random, amperes, amperes / 6, 25), factor: wandering(random, 0.93, 0.015, 90) }));
  let energyKwh = 1_204;
  const phaseUnits = { voltage: 'V', current: 'A', power: 'W' };
  return {
    id: 'power-meter', name: 'Three-phase power meter (simulated)', intervalS,
    metadata: [unitsOf('power', { l1: phaseUnits, l2: phaseUnits, l3: phaseUnits, frequency: 'Hz', energy: 'kW.h' })],
    next() {
      const readings = phases.map((phase) => {
        const voltage = rounded(phase.voltage(intervalS), 4);
        const current = rounded(Math.max(0, phase.current(intervalS)), 4);
        return { voltage, current, power: rounded(voltage * current * Math.min(1, phase.factor(intervalS)), 5) };
      });
      energyKwh += (readings.reduce((sum, { power }) => sum + power, 0) * intervalS) / 3_600_000;
      const groups = Object.fromEntries(readings.map((reading, i) => [`l${i + 1}`, reading]));
      return [measurement('power', { ...groups, frequency: rounded(frequency(intervalS), 5), energy: rounded(energyKwh, 8) })];
    },
  };
}
