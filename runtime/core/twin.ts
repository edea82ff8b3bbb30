/**
 * What fleet and gateway say to each other about a twin, a named piece of configuration. Pure codecs; docs/reference/twin.md is their reference.
 *
 *   te/<gw>/device/main///twin/<name>           gateway → fleet, retained: what is in force, and how the last desired version ended
 *   te/<gw>/device/main///twin/<name>/desired   fleet → gateway, retained, signed: what shall be in force
 *   te/<gw>/device/main///twin/<name>/confirm   fleet → gateway, signed: the gateway was heard under the new value
 */
import { TenzroError } from './errors.ts';
import { boundedJson, canonicalJson, isJsonObject, parseBoundedJson, type Json, type JsonObject } from './json.ts';
import { LIMITS } from './limits.ts';
import { formatTopic, MAIN_ENTITY } from './topic.ts';

/** Names of twins and ids of gateways: no broker corrupts these in a topic. */
export const FLEET_NAME = /^[A-Za-z0-9_-]{1,64}$/;

/** What shall be in force. Versions rise by the fleet's will alone and are never used twice. */
export interface Desired {
  readonly version: number;
  readonly value: Json;
  /** How long after it was applied the fleet must have confirmed that it hears the gateway; else the gateway goes back. */
  readonly confirmSeconds: number;
  /** SHA-256 of the ML-DSA-65 key whose confirmation counts, hexadecimal: the controller's receipt key. */
  readonly confirmKey: string;
}

/** unset: never had a desired version · probation: in force, to be confirmed · refused: was not tried · local: changed at the gateway since. */
export const TWIN_STATES = ['unset', 'applying', 'probation', 'confirmed', 'reverting', 'reverted', 'refused', 'local'] as const;
export type TwinState = (typeof TWIN_STATES)[number];

export interface Reported {
  /** Rises with every change of this report; the gateway keeps it over restarts. */
  readonly revision: number;
  /** The desired version that `state` is about; 0: none yet. */
  readonly version: number;
  readonly state: TwinState;
  /** What is in force; null before anything was. */
  readonly value: Json;
  /** Why it was refused or reverted. */
  readonly reason?: string;
}

/** Names the report it answers, so that a confirmation of an earlier trial is worth nothing. */
export interface Confirmation {
  readonly version: number;
  readonly revision: number;
}

export type TwinTopic = 'reported' | 'desired' | 'confirm';

/** Types of the signatures (RFC 7515 §4.1.9). */
export const TWIN_TYP = { desired: 'tenzro-twin+json', confirm: 'tenzro-confirm+json' } as const;

const CONFIRM_KEY = /^[0-9a-f]{64}$/;
const PUBLIC_KEY_CHARS_MAX = 4_096;

/** On the fleet's broker. */
export function twinTopic(gateway: string, name: string, what: TwinTopic): string {
  if (!FLEET_NAME.test(gateway) || !FLEET_NAME.test(name)) throw malformed(`'${gateway}' or '${name}' is no name: letters, digits, _ and -, at most 64`);
  return formatTopic({ kind: 'channel', entity: `${gateway}/${MAIN_ENTITY}`, channel: 'twin', type: name, suffix: what === 'reported' ? '' : what });
}

/** What a signature over a message to a gateway covers: it fits no other gateway, twin, kind or content. */
export const twinSigningInput = (gateway: string, name: string, what: 'desired' | 'confirm', message: Desired | Confirmation): Buffer =>
  Buffer.from(canonicalJson({ ...message, gateway, twin: name, what: `tenzro/twin/${what}/1` }), 'utf8');

export const encodeDesired = (desired: Desired, signature: string): Buffer => encode({ ...desired, signature });
/** `key`: the public one, raw; gateways know its hash. */
export const encodeConfirmation = (confirmation: Confirmation, key: Uint8Array, signature: string): Buffer => encode({ ...confirmation, key: Buffer.from(key).toString('base64url'), signature });
export const encodeReported = (reported: Reported): Buffer => encode({ ...reported });

const encode = (message: JsonObject): Buffer => Buffer.from(canonicalJson(message), 'utf8');

export interface Signed<Message> {
  readonly message: Message;
  /** JWS; judged by the caller over `twinSigningInput`. */
  readonly signature: string;
}

/** Throws `twin.malformed`. */
export function decodeDesired(bytes: Uint8Array): Signed<Desired> {
  const fields = decode(bytes, ['version', 'value', 'confirmSeconds', 'confirmKey', 'signature']);
  return { message: checkedDesired(fields), signature: textOf(fields, 'signature', LIMITS.twinSignatureBytesMax) };
}

/** Throws `twin.malformed`: for what is decoded, and for what an operator is about to ask. */
export function checkedDesired(fields: { readonly [key: string]: unknown }): Desired {
  const value = boundedJson(fields['value'], { depthMax: LIMITS.twinDepthMax, valuesMax: LIMITS.twinValuesMax }, malformed);
  if (Buffer.byteLength(canonicalJson(value)) > LIMITS.twinValueBytesMax) throw malformed(`value takes more than ${LIMITS.twinValueBytesMax} bytes`);
  const { confirmKey } = fields;
  if (typeof confirmKey !== 'string' || !CONFIRM_KEY.test(confirmKey)) throw malformed('confirmKey must be 64 hexadecimal digits');
  return { version: countOf(fields, 'version', 1), value, confirmSeconds: countOf(fields, 'confirmSeconds', LIMITS.twinConfirmSecondsMin, LIMITS.twinConfirmSecondsMax), confirmKey };
}

/** `key`: raw, whosever. Throws `twin.malformed`. */
export function decodeConfirmation(bytes: Uint8Array): Signed<Confirmation> & { readonly key: Buffer } {
  const fields = decode(bytes, ['version', 'revision', 'key', 'signature']);
  const key = Buffer.from(textOf(fields, 'key', PUBLIC_KEY_CHARS_MAX), 'base64url');
  return { message: { version: countOf(fields, 'version', 1), revision: countOf(fields, 'revision', 1) }, key, signature: textOf(fields, 'signature', LIMITS.twinSignatureBytesMax) };
}

/** Throws `twin.malformed`. */
export function decodeReported(bytes: Uint8Array): Reported {
  const fields = decode(bytes, ['revision', 'version', 'state', 'value'], ['reason']);
  const state = TWIN_STATES.find((known) => known === fields['state']);
  if (state === undefined) throw malformed(`state is none of ${TWIN_STATES.join(', ')}`);
  const reported: Reported = {
    revision: countOf(fields, 'revision', 0), version: countOf(fields, 'version', 0), state, value: fields['value'] ?? null,
    ...(fields['reason'] === undefined ? {} : { reason: textOf(fields, 'reason', LIMITS.twinReasonBytesMax) }),
  };
  const { length } = encodeReported(reported); // 1e20 has four bytes, and 21 in the one spelling: what is kept must be readable again
  if (length > LIMITS.twinMessageBytesMax) throw malformed(`${length} bytes as RFC 8785 spells it, more than ${LIMITS.twinMessageBytesMax}`);
  return reported;
}

function decode(bytes: Uint8Array, required: readonly string[], optional: readonly string[] = []): JsonObject {
  const fields = parseBoundedJson(bytes, { bytesMax: LIMITS.twinMessageBytesMax, depthMax: LIMITS.twinDepthMax + 1, valuesMax: LIMITS.twinValuesMax + 8 }, malformed);
  if (!isJsonObject(fields)) throw malformed('not a JSON object');
  for (const key of required) if (!Object.hasOwn(fields, key)) throw malformed(`${key} is missing`);
  for (const key of Object.keys(fields)) if (!required.includes(key) && !optional.includes(key)) throw malformed(`unknown member '${key.slice(0, 40)}'`);
  return fields;
}

function countOf(fields: { readonly [key: string]: unknown }, key: string, min: number, max: number = Number.MAX_SAFE_INTEGER): number {
  const value = fields[key];
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) throw malformed(`${key} must be a whole number from ${min} to ${max}`);
  return value;
}

function textOf(fields: JsonObject, key: string, bytesMax: number): string {
  const value = fields[key];
  if (typeof value !== 'string' || value === '' || Buffer.byteLength(value) > bytesMax) throw malformed(`${key} must be a text of 1 to ${bytesMax} bytes`);
  return value;
}

const malformed = (why: string): TenzroError => new TenzroError('twin.malformed', `twin: ${why}`);
