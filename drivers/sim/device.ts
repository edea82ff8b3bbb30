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
  /** What it can be told to do, by name: sets a value and returns the one that it took. Throws RangeError for what it does not do. */
  readonly operations?: Readonly<Record<string, (value: number) => number>>;
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

/** What a device answers to a message on `cmd/<operation>/<id>`, on the same topic; undefined where it is no new command. A device obeys whoever the broker lets publish there. */
export function obey({ operations = {} }: Pick<SimulatedDevice, 'operations'>, operation: string, payload: Uint8Array): string | undefined {
  const { status, value } = parsed(payload);
  if (status !== 'init') return undefined;
  const perform = Object.hasOwn(operations, operation) ? operations[operation] : undefined;
  if (!perform || typeof value !== 'number') return JSON.stringify({ status: 'failed', reason: `cannot ${operation}`, simulated: true });
  try {
    return JSON.stringify({ status: 'successful', value: perform(value), simulated: true });
  } catch (error) {
    return JSON.stringify({ status: 'failed', reason: error instanceof Error ? error.message : String(error), simulated: true });
  }
}

function parsed(payload: Uint8Array): { readonly status?: unknown; readonly value?: unknown } {
  try {
    const message: unknown = JSON.parse(Buffer.from(payload).toString('utf8'));
    return typeof message === 'object' && message !== null ? message : {};
  } catch {
    return {}; // no command: a microcontroller ignores it
  }
}
