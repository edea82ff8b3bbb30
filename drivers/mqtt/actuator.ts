/**
 * Devices on the local broker that act. A device of ours is told by thin-edge's commands, `te/device/<driver>///cmd/<operation>/<id>`, and confirms on the same
 * topic; one that speaks otherwise gets the value on its own topic, and nobody learns what it did.
 * INVARIANT: a call leaves once, at QoS 0 and not retained: what is not delivered then is never delivered later.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { isJsonObject, parseBoundedJson, type Json, type JsonObject } from '#runtime/core/json.ts';
import type { Actuator, DriverCall } from '#runtime/core/ports.ts';
import type { ActuatorSettings } from '#runtime/core/settings.ts';

/** The local broker, as far as actuators need it. */
export interface LocalBroker {
  /** At QoS 0, not retained. */
  publish(topic: string, payload: string): Promise<void>;
  /** Every message on topics that `filter` matches, our own too. */
  observe(filter: string, seen: (topic: string, payload: Uint8Array) => void): void;
}

const CONFIRMATION_BOUNDS = { bytesMax: 4_096, depthMax: 4, valuesMax: 64 };
const REASON_CHARACTERS_MAX = 256;

interface Confirmation { readonly isDone: boolean; readonly reason: string; readonly value: Json | undefined }

export class MqttActuator implements Actuator {
  readonly #rows: ReadonlyMap<string, ActuatorSettings>;
  readonly #broker: LocalBroker;
  readonly #clock: Clock;
  readonly #lastMicros = new Map<string, number>();
  /** Who waits for which topic. */
  readonly #waiting = new Map<string, (confirmation: Confirmation) => void>();

  constructor(rows: readonly ActuatorSettings[], broker: LocalBroker, clock: Clock) {
    this.#rows = new Map(rows.map((row) => [nameOf(row), row]));
    this.#broker = broker;
    this.#clock = clock;
    for (const driver of new Set(rows.filter(({ topic }) => topic === undefined).map((row) => row.driver))) {
      broker.observe(`te/device/${driver}///cmd/#`, (topic, payload) => this.#hear(topic, payload));
    }
  }

  get operations(): readonly string[] { return [...this.#rows.keys()]; }

  check(call: DriverCall): void {
    const { min, max, unit, minIntervalMs } = this.#rowOf(call);
    if (call.value < min || call.value > max) throw new TenzroError('driver.bounds', `${nameOf(call)} takes ${min} to ${max}${unit === '' ? '' : ` ${unit}`}, not ${call.value}`);
    const waitMs = minIntervalMs - (this.#clock.monoMicros() - (this.#lastMicros.get(nameOf(call)) ?? -Infinity)) / 1_000;
    if (waitMs > 0) throw new TenzroError('driver.rate', `${nameOf(call)} takes a call every ${minIntervalMs} ms; the next in ${Math.ceil(waitMs)} ms`, { retryAfterMs: Math.ceil(waitMs) });
  }

  async call(call: DriverCall, signal: AbortSignal): Promise<JsonObject> {
    signal.throwIfAborted();
    this.check(call);
    const row = this.#rowOf(call);
    this.#lastMicros.set(nameOf(call), this.#clock.monoMicros());
    const facts = { driver: call.driver, operation: call.operation, value: call.value, ...(row.unit === '' ? {} : { unit: row.unit }) };
    if (row.topic === undefined) return { ...facts, ...await this.#confirmed(row, call, signal) };
    await this.#broker.publish(row.topic, row.key === undefined ? String(call.value) : JSON.stringify({ [row.key]: call.value }));
    return { ...facts, confirmed: false };
  }

  async #confirmed({ timeoutMs }: ActuatorSettings, call: DriverCall, signal: AbortSignal): Promise<JsonObject> {
    const topic = `te/device/${call.driver}///cmd/${call.operation}/${call.id}`;
    const answer = Promise.withResolvers<Confirmation>();
    this.#waiting.set(topic, answer.resolve);
    const enough = new AbortController();
    try {
      await this.#broker.publish(topic, JSON.stringify({ status: 'init', value: call.value }));
      const late = sleep(timeoutMs, undefined, { signal: AbortSignal.any([signal, enough.signal]) }).catch(() => undefined); // aborted: nobody waits any longer
      const confirmation = await Promise.race([answer.promise, late]);
      if (!confirmation) throw new TenzroError('driver.unconfirmed', `${nameOf(call)}: no word from the device${signal.aborted ? '' : ` within ${timeoutMs} ms`}`);
      if (!confirmation.isDone) throw new TenzroError('driver.refused', `${nameOf(call)}: ${confirmation.reason}`);
      return { confirmed: true, ...(typeof confirmation.value === 'number' ? { device_value: confirmation.value } : {}) };
    } finally {
      enough.abort();
      this.#waiting.delete(topic);
    }
  }

  /** What ends a call that is under way; everything else on these topics is not for us. */
  #hear(topic: string, payload: Uint8Array): void {
    const tell = this.#waiting.get(topic);
    const confirmation = tell && confirmationOf(payload);
    if (confirmation) tell(confirmation);
  }

  #rowOf(call: DriverCall): ActuatorSettings {
    const row = this.#rows.get(nameOf(call));
    if (!row) throw new TenzroError('command.parameters', `there is no ${nameOf(call)}; there are: ${this.operations.join(', ')}`);
    return row;
  }
}

const nameOf = ({ driver, operation }: Pick<DriverCall, 'driver' | 'operation'>): string => `${driver}.${operation}`;

function confirmationOf(payload: Uint8Array): Confirmation | undefined {
  try {
    const message = parseBoundedJson(payload, CONFIRMATION_BOUNDS, (why) => new TenzroError('topic.invalid', why));
    if (!isJsonObject(message) || (message['status'] !== 'successful' && message['status'] !== 'failed')) return undefined;
    const { status, reason = 'the device gives no reason', value } = message;
    return { isDone: status === 'successful', reason: (typeof reason === 'string' ? reason : JSON.stringify(reason)).slice(0, REASON_CHARACTERS_MAX), value };
  } catch {
    return undefined; // a device that babbles has not confirmed: the call says so when its time is over
  }
}
