/** The durable part of a twin as bytes: deterministic CBOR, so that the same state is the same bytes. */
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { canonicalJson, isJsonObject, parseBoundedJson, type Json } from '#runtime/core/json.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { checkedDesired, decodeReported, encodeReported, type Desired } from '#runtime/core/twin.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import type { Durable, Phase } from './twin.ts';

const VERSION = 1;
const KEY = { version: 1, phase: 2, value: 3, trial: 4, waiting: 5, probationRevision: 6, starts: 7, report: 8 } as const;
/** Places are part of the format. */
const PHASES: readonly Phase[] = ['settled', 'applying', 'probation', 'reverting'];
const BOUNDS = { bytesMax: LIMITS.twinMessageBytesMax, depthMax: LIMITS.twinDepthMax + 1, valuesMax: LIMITS.twinValuesMax + 8 };
/** Four JSON texts at most, and some numbers. */
const STATE_BYTES_MAX = 4 * LIMITS.twinMessageBytesMax + 256;

export function encodeTwinState(state: Durable): Buffer {
  const fields = new Map<number, Cbor>([
    [KEY.version, VERSION], [KEY.phase, PHASES.indexOf(state.phase)], [KEY.value, canonicalJson(state.value)], [KEY.probationRevision, state.probationRevision],
    [KEY.starts, state.starts], [KEY.report, encodeReported(state.report)],
  ]);
  if (state.trial) fields.set(KEY.trial, canonicalJson({ ...state.trial }));
  if (state.waiting) fields.set(KEY.waiting, canonicalJson({ ...state.waiting }));
  return encodeCbor(fields);
}

/** Throws `twin.state`. */
export function decodeTwinState(bytes: Uint8Array): Durable {
  if (bytes.length > STATE_BYTES_MAX) throw damaged(`${bytes.length} bytes`);
  try {
    const fields = decodeCbor(bytes);
    if (!(fields instanceof Map)) throw damaged('not a map');
    return durableOf(fields as ReadonlyMap<number, Cbor>);
  } catch (cause) {
    throw cause instanceof TenzroError && cause.code === 'twin.state' ? cause : damaged(messageOf(cause), cause);
  }
}

function durableOf(fields: ReadonlyMap<number, Cbor>): Durable {
  if (fields.get(KEY.version) !== VERSION) throw damaged('another version');
  const phase = PHASES[countOf(fields, KEY.phase)];
  const trial = fields.has(KEY.trial) ? desiredOf(fields.get(KEY.trial)) : undefined;
  const report = fields.get(KEY.report);
  if (phase === undefined || (phase === 'settled') !== (trial === undefined)) throw damaged('phase and trial do not fit');
  if (!(report instanceof Uint8Array)) throw damaged('no report');
  return {
    phase, value: jsonOf(fields.get(KEY.value)), ...(trial ? { trial } : {}), ...(fields.has(KEY.waiting) ? { waiting: desiredOf(fields.get(KEY.waiting)) } : {}),
    probationRevision: countOf(fields, KEY.probationRevision), starts: countOf(fields, KEY.starts), report: decodeReported(report),
  };
}

function desiredOf(field: Cbor | undefined): Desired {
  const value = jsonOf(field);
  if (!isJsonObject(value)) throw damaged('a desired value is none');
  return checkedDesired(value);
}

function jsonOf(field: Cbor | undefined): Json {
  if (typeof field !== 'string') throw damaged('a value is no text');
  return parseBoundedJson(Buffer.from(field, 'utf8'), BOUNDS, damaged);
}

function countOf(fields: ReadonlyMap<number, Cbor>, key: number): number {
  const value = fields.get(key);
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw damaged(`number ${key} is none`);
  return value;
}

const damaged = (why: string, cause?: unknown): TenzroError => new TenzroError('twin.state', `twin: stored state: ${why}`, { cause });
