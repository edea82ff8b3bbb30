/**
 * A roll-out as bytes: a snapshot of its state, and each event with its time. `step` is a function, so a snapshot and the events since are the state: a controller
 * writes some 100 bytes an event instead of the whole state, and a new snapshot when it likes. Deterministic CBOR; throws `rollout.malformed`.
 */
import { invariant, TenzroError, messageOf } from '#runtime/core/errors.ts';
import { canonicalJson } from '#runtime/core/json.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { FLEET_NAME } from '#runtime/core/twin.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { parseRollout, planFile } from './rolloutPlan.ts';
import { step, type RolloutEvent } from './rollout.ts';
import { HEALTHS, OUTCOMES, PHASES, STANDINGS, UNDOS, withDerived, type GatewayRecord, type RolloutState } from './rolloutState.ts';

const VERSION = 1;
const STATE_BYTES_MAX = 64 * 1024 * 1024;
const EVENT_BYTES_MAX = 4 * 1024;
/** Each success is undone once more at most, and each undo tried again as often as a command is. */
const UNDO_ATTEMPTS_MAX = 2 * LIMITS.rolloutAttemptsMax;
/** Places are part of the format. */
const EVENTS = ['started', 'tick', 'accepted', 'result', 'health', 'pause', 'resume', 'abort', 'rollBack'] as const satisfies readonly RolloutEvent['kind'][];

export function encodeRollout(state: RolloutState): Buffer {
  const { plan, gateways, records, phase, stage, isPaused, soakUntilMicros, outcome, why, isCancelling, clockMicros } = state;
  return encodeCbor([
    VERSION, canonicalJson(planFile(plan)), gateways, records.map(fieldsOf), PHASES.indexOf(phase), stage, isPaused, soakUntilMicros, OUTCOMES.indexOf(outcome), why, isCancelling, clockMicros,
  ]);
}

const fieldsOf = (record: GatewayRecord): Cbor => [
  STANDINGS.indexOf(record.standing), record.attempt, record.untilMicros, record.reason, record.successes, record.covered, HEALTHS.indexOf(record.health), UNDOS.indexOf(record.undo), record.undoAttempt, record.undoReason,
];

export function decodeRollout(bytes: Uint8Array): RolloutState {
  return decoding(bytes, STATE_BYTES_MAX, (fields) => {
    if (fields.count(VERSION) !== VERSION) throw malformed('another version');
    const plan = parseRollout(JSON.parse(fields.text()));
    const gateways = fields.list(LIMITS.rolloutGatewaysMax).map((gateway) => nameOf(gateway));
    const records = fields.list(LIMITS.rolloutGatewaysMax).map(recordOf);
    if (gateways.length === 0 || gateways.length !== records.length || new Set(gateways).size !== gateways.length) throw malformed('gateways and records do not fit');
    return withDerived({
      plan, gateways, records, phase: fields.oneOf(PHASES), stage: fields.count(plan.stages.length - 1), isPaused: fields.flag(), soakUntilMicros: fields.count(), outcome: fields.oneOf(OUTCOMES),
      why: fields.text(), isCancelling: fields.flag(), clockMicros: fields.count(),
    });
  });
}

function recordOf(value: Cbor): GatewayRecord {
  const fields = new Fields(value);
  const attempts = (1 << LIMITS.rolloutAttemptsMax) - 1;
  const record: GatewayRecord = {
    standing: fields.oneOf(STANDINGS), attempt: fields.count(LIMITS.rolloutAttemptsMax), untilMicros: fields.count(), reason: fields.text(), successes: fields.count(attempts), covered: fields.count(attempts),
    health: fields.oneOf(HEALTHS), undo: fields.oneOf(UNDOS), undoAttempt: fields.count(UNDO_ATTEMPTS_MAX), undoReason: fields.text(),
  };
  fields.end();
  return record;
}

/** An event and when it was taken. */
export interface Taken {
  readonly event: RolloutEvent;
  readonly nowMicros: number;
}

/** Always decodes again, whatever a gateway wrote: texts are cut where `step` cuts them, names where none of ours is that long. */
export function encodeEvent({ event, nowMicros }: Taken): Buffer {
  invariant(Number.isSafeInteger(nowMicros) && nowMicros >= 0, 'time is whole microseconds');
  const head = [nowMicros, EVENTS.indexOf(event.kind)];
  switch (event.kind) {
    case 'accepted': return encodeCbor([...head, cut(event.gateway), cut(event.commandId)]);
    case 'result': return encodeCbor([...head, cut(event.gateway), cut(event.commandId), event.isSuccess, cut(event.reason)]);
    case 'health': return encodeCbor([...head, cut(event.gateway), event.isHealthy]);
    case 'abort':
    case 'rollBack': return encodeCbor([...head, cut(event.why)]);
    default: return encodeCbor(head);
  }
}

const cut = (text: string): string => text.slice(0, LIMITS.rolloutReasonCharactersMax).toWellFormed();

export function decodeEvent(bytes: Uint8Array): Taken {
  return decoding(bytes, EVENT_BYTES_MAX, (fields) => {
    const nowMicros = fields.count();
    return { nowMicros, event: eventOf(fields, fields.oneOf(EVENTS)) };
  });
}

function eventOf(fields: Fields, kind: RolloutEvent['kind']): RolloutEvent {
  switch (kind) {
    case 'accepted': return { kind, gateway: fields.text(), commandId: fields.text() };
    case 'result': return { kind, gateway: fields.text(), commandId: fields.text(), isSuccess: fields.flag(), reason: fields.text() };
    case 'health': return { kind, gateway: fields.text(), isHealthy: fields.flag() };
    case 'abort':
    case 'rollBack': return { kind, why: fields.text() };
    default: return { kind };
  }
}

/** The state after a restart; feed it `started` then. */
export const replay = (snapshot: Uint8Array, events: Iterable<Uint8Array>): RolloutState => {
  let state = decodeRollout(snapshot);
  for (const bytes of events) {
    const { event, nowMicros } = decodeEvent(bytes);
    state = step(state, event, nowMicros).state;
  }
  return state;
};

/** The items of one array, one after another. */
class Fields {
  readonly #items: readonly Cbor[];
  #at = 0;

  constructor(value: Cbor) {
    if (!Array.isArray(value)) throw malformed('not an array');
    this.#items = value as readonly Cbor[];
  }

  next(): Cbor {
    const value = this.#items[this.#at++];
    if (value === undefined) throw malformed('too short');
    return value;
  }

  count(max: number = Number.MAX_SAFE_INTEGER): number {
    const value = this.next();
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > max) throw malformed(`item ${this.#at} is no number up to ${max}`);
    return value;
  }

  text(): string {
    const value = this.next();
    if (typeof value !== 'string') throw malformed(`item ${this.#at} is no text`);
    return value;
  }

  flag(): boolean {
    const value = this.next();
    if (typeof value !== 'boolean') throw malformed(`item ${this.#at} is neither true nor false`);
    return value;
  }

  list(max: number): readonly Cbor[] {
    const value = this.next();
    if (!Array.isArray(value) || value.length > max) throw malformed(`item ${this.#at} is no list of at most ${max}`);
    return value as readonly Cbor[];
  }

  oneOf<Name extends string>(names: readonly Name[]): Name {
    const name = names[this.count(names.length - 1)];
    if (name === undefined) throw malformed(`item ${this.#at} is none of ${names.join(', ')}`);
    return name;
  }

  end(): void {
    if (this.#at !== this.#items.length) throw malformed('too long');
  }
}

function decoding<Result>(bytes: Uint8Array, bytesMax: number, read: (fields: Fields) => Result): Result {
  if (bytes.length > bytesMax) throw malformed(`${bytes.length} bytes`);
  try {
    const fields = new Fields(decodeCbor(bytes));
    const result = read(fields);
    fields.end();
    return result;
  } catch (cause) {
    throw cause instanceof TenzroError && cause.code === 'rollout.malformed' ? cause : malformed(messageOf(cause), cause);
  }
}

function nameOf(value: Cbor): string {
  if (typeof value !== 'string' || !FLEET_NAME.test(value)) throw malformed('a gateway has no name');
  return value;
}

const malformed = (why: string, cause?: unknown): TenzroError => new TenzroError('rollout.malformed', `roll-out: stored state: ${why}`, { cause });
