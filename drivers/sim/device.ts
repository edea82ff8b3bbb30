/** What every simulated microcontroller is: pure functions of simulated time, seeded, speaking thin-edge JSON. No connection here. */
export interface OutMessage {
  /** Below the device's entity, e.g. `m/vibration`. */
  readonly subtopic: string;
  readonly payload: string;
  readonly retain: boolean;
}

export interface SimulatedDevice {
  /** Client id, and the device's name in `te/device/<id>//`. */
  readonly id: string;
  /** For people; says that it is simulated. */
  readonly name: string;
  /** Simulated time between two calls of `next`. */
  readonly intervalS: number;
  /** Retained messages that tell the units. */
  readonly metadata: readonly OutMessage[];
  /** Messages of the next interval. */
  next(): readonly OutMessage[];
}

/** Numbers with the resolution that a small sensor sends. */
export const rounded = (value: number, significant: number): number => Number(value.toPrecision(significant));

type Json = number | string | { readonly [key: string]: Json };

export const measurement = (type: string, values: { readonly [channel: string]: Json }): OutMessage =>
  ({ subtopic: `m/${type}`, payload: JSON.stringify({ ...values, simulated: true }), retain: false });

export const unitsOf = (type: string, units: { readonly [channel: string]: Json }): OutMessage =>
  ({ subtopic: `m/${type}/meta`, payload: JSON.stringify({ units, simulated: true }), retain: true });

export const event = (type: string, text: string): OutMessage =>
  ({ subtopic: `e/${type}`, payload: JSON.stringify({ text, simulated: true }), retain: false });

export const alarm = (type: string, severity: string, text: string): OutMessage =>
  ({ subtopic: `a/${type}`, payload: JSON.stringify({ text, severity, simulated: true }), retain: true });

export const alarmCleared = (type: string): OutMessage => ({ subtopic: `a/${type}`, payload: '', retain: true });
