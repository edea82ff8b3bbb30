/** A command at the controller's desk: its durable form, and which state may follow which. Pure; these bytes are the controller's own. */
import { TenzroError } from '#runtime/core/errors.ts';
import { canonicalJson, isJsonObject, parseBoundedJson, type Json, type JsonObject } from '#runtime/core/json.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { fieldReaders } from '#runtime/ledger/fields.ts';

/**
 * queued: stored here · sent: with the broker · scheduled, executing, failed, successful: the gateway says so · silent: its validity went by without an end ·
 * withdrawn: taken off the broker. Of the last two a gateway may still tell how it ended.
 */
export const DESK_STATES = ['queued', 'sent', 'scheduled', 'executing', 'silent', 'withdrawn', 'failed', 'successful'] as const;
export type DeskState = (typeof DESK_STATES)[number];

/** States only rise. */
const RANK: Readonly<Record<DeskState, number>> = { queued: 0, sent: 1, scheduled: 2, executing: 3, silent: 4, withdrawn: 4, failed: 5, successful: 5 };
export const mayFollow = (before: DeskState, after: DeskState): boolean => RANK[after] > RANK[before];
/** Nobody waits for it any more. */
export const isOver = (state: DeskState): boolean => RANK[state] >= RANK.silent;

export interface CommandName { readonly gateway: string; readonly type: string; readonly id: string }

export interface DeskRecord extends CommandName {
  /** JWK thumbprint of the key that signed it. */
  readonly kid: string;
  /** When it is silent, by the controller's wall clock: a gateway whose clock is behind counts from the arrival. */
  readonly endsMicros: number;
  readonly submittedMicros: number;
  readonly changedMicros: number;
  readonly state: DeskState;
  /** Why it failed, as the gateway says; '' where it did not. */
  readonly reason: string;
}

export const keyOf = ({ gateway, type, id }: CommandName): string => `${gateway}/${type}/${id}`;

const VERSION = 1;

export const encodeDeskRecord = ({ gateway, type, id, kid, endsMicros, submittedMicros, changedMicros, state, reason }: DeskRecord): Buffer =>
  encodeCbor([VERSION, gateway, type, id, kid, endsMicros, submittedMicros, changedMicros, DESK_STATES.indexOf(state), reason]);

/** Throws `ledger.corrupt`. */
export function decodeDeskRecord(bytes: Uint8Array): DeskRecord {
  const [version, gateway, type, id, kid, endsMicros, submittedMicros, changedMicros, at, reason] = listOf(decodeCbor(bytes));
  const state = DESK_STATES[countOf(at)];
  if (version !== VERSION || typeof gateway !== 'string' || typeof type !== 'string' || typeof id !== 'string' || typeof kid !== 'string' || typeof reason !== 'string' || !state) throw corrupt();
  return { gateway, type, id, kid, endsMicros: countOf(endsMicros), submittedMicros: countOf(submittedMicros), changedMicros: countOf(changedMicros), state, reason };
}

const corrupt = (): TenzroError => new TenzroError('ledger.corrupt', 'a command of the controller\'s store does not decode');
const { listOf, countOf } = fieldReaders(corrupt);

/** What somebody says on a command's topic. */
export interface Saying {
  readonly status: string;
  readonly reason: string;
  /** Every member that the signed message does not have, unknown ones too; without what was signed. */
  readonly said: JsonObject;
}

const BOUNDS = { bytesMax: LIMITS.commandBytesMax + LIMITS.commandResultBytesMax + 4_096, depthMax: LIMITS.jsonDepthMax + 2, valuesMax: LIMITS.commandBytesMax };
/** What a gateway repeats of the message that it obeys. */
const REPEATED = ['version', 'gateway', 'target', 'type', 'id', 'issued', 'ttl_s', 'not_before', 'dry_run', 'parameters'] as const;

/** Throws `command.malformed` for what no gateway says of this command: whatever it repeats of the message must be as it was signed. */
export function readSaying(payload: Uint8Array, signed: JsonObject | undefined): Saying {
  const value = parseBoundedJson(payload, BOUNDS, implausible);
  if (!isJsonObject(value)) throw implausible('not an object');
  const { status, reason = '', result } = value;
  if (typeof status !== 'string' || typeof reason !== 'string') throw implausible('no status, or a reason that is no text');
  if (status === 'successful' && result !== undefined && !isJsonObject(result)) throw implausible('a result that is no object');
  for (const name of signed ? REPEATED : []) if (Object.hasOwn(value, name) && !isSame(value[name], signed?.[name])) throw implausible(`its ${name} is not the one that was signed`);
  const said = Object.fromEntries(Object.entries(value).filter(([name]) => !(REPEATED as readonly string[]).includes(name) && name !== 'status' && name !== 'signature' && name !== 'reason'));
  return { status, reason: reason.slice(0, LIMITS.textBytesMax), said };
}

const isSame = (a: Json | undefined, b: Json | undefined): boolean => a !== undefined && b !== undefined && canonicalJson(a) === canonicalJson(b);

/** A state that gateways tell; undefined for `init`, our own words, and what a later version may say. */
export const toldState = (status: string): 'scheduled' | 'executing' | 'failed' | 'successful' | undefined =>
  (status === 'scheduled' || status === 'executing' || status === 'failed' || status === 'successful' ? status : undefined);

/** The gateway said how it ended. */
export const isFinal = (state: DeskState): boolean => RANK[state] === RANK.successful;

const implausible = (why: string): TenzroError => new TenzroError('command.malformed', `said of a command: ${why}`);
