/** The controller's twins on disk and in memory: one record each. */
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { isJsonObject, parseBoundedJson } from '#runtime/core/json.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import { decodeDesired, decodeReported, encodeReported } from '#runtime/core/twin.ts';
import type { Twin } from './twins.ts';

export interface KeptTwin extends Twin {
  readonly gateway: string;
  readonly name: string;
  /** What is desired, as it was signed. */
  readonly message?: Uint8Array;
  /** Two gateways under one name, or a restored disk; nothing is confirmed meanwhile. */
  readonly conflict?: string;
}

const PREFIX = 'twin/';
const keyOf = (gateway: string, name: string): string => `${PREFIX}${gateway}/${name}`;
/** Two messages in base64, and a reason. */
const BOUNDS = { bytesMax: 4 * LIMITS.twinMessageBytesMax, depthMax: 2, valuesMax: 16 };

export class TwinStore {
  readonly #kv: KeyValueStore;
  readonly #twins = new Map<string, KeptTwin>();
  /** How many each gateway has. */
  readonly #counts = new Map<string, number>();

  /** Throws `ledger.corrupt`. */
  constructor(kv: KeyValueStore) {
    this.#kv = kv;
    for (const { key, value } of kv.range(PREFIX)) this.#hold(key, decode(key, value));
  }

  /** One that nobody has heard of is empty. */
  get(gateway: string, name: string): KeptTwin { return this.#twins.get(keyOf(gateway, name)) ?? { gateway, name }; }
  all(): readonly KeptTwin[] { return [...this.#twins.values()]; }

  /** On disk with the store's next flush. Throws `controller.full`, also where one gateway has too many: it must not take the others' room. */
  put(twin: KeptTwin): void {
    const key = keyOf(twin.gateway, twin.name);
    const [isNew, count] = [!this.#twins.has(key), this.#counts.get(twin.gateway) ?? 0];
    if (isNew && this.#twins.size >= LIMITS.fleetGatewaysMax) throw new TenzroError('controller.full', `${this.#twins.size} twins are kept already`);
    if (isNew && count >= LIMITS.gatewayTwinsMax) throw new TenzroError('controller.full', `${twin.gateway} has ${count} twins already`);
    this.#hold(key, twin);
    this.#kv.put(key, encode(twin));
  }

  #hold(key: string, twin: KeptTwin): void {
    if (!this.#twins.has(key)) this.#counts.set(twin.gateway, (this.#counts.get(twin.gateway) ?? 0) + 1);
    this.#twins.set(key, twin);
  }
}

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

function encode({ message, reported, conflict }: KeptTwin): Buffer {
  return Buffer.from(JSON.stringify({ ...(message ? { message: text(message) } : {}), ...(reported ? { reported: text(encodeReported(reported)) } : {}), ...(conflict === undefined ? {} : { conflict }) }));
}

function decode(key: string, bytes: Uint8Array): KeptTwin {
  const corrupt = (why: string): TenzroError => new TenzroError('ledger.corrupt', `${key}: ${why}`);
  const fields = parseBoundedJson(bytes, BOUNDS, corrupt);
  const [gateway, name] = key.slice(PREFIX.length).split('/');
  if (!isJsonObject(fields) || gateway === undefined || name === undefined) throw corrupt('no twin');
  const { message, reported, conflict } = fields;
  try {
    const signed = typeof message === 'string' ? Buffer.from(message, 'base64') : undefined;
    return {
      gateway, name, ...(signed ? { message: signed, desired: decodeDesired(signed).message } : {}),
      ...(typeof reported === 'string' ? { reported: decodeReported(Buffer.from(reported, 'base64')) } : {}), ...(typeof conflict === 'string' ? { conflict } : {}),
    };
  } catch (cause) {
    throw corrupt(messageOf(cause));
  }
}
