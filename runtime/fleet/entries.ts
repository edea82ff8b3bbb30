/** Bodies of `command` and `result` entries: what commands leave in the chain, and what a restart knows of them. Pure. */
import { COMMAND_STATES, type CommandState } from '#runtime/core/command.ts';
import type { ErrorCode } from '#runtime/core/errors.ts';
import { COMMAND_BODY, KIND, RESULT_BODY, type Cbor, type Entry } from '#runtime/core/types.ts';

export interface CommandBody {
  readonly type: string;
  readonly id: string;
  readonly operator: string;
  readonly kid: string;
  readonly message: Uint8Array;
  readonly expiresMicros: number;
}

/** What a command has come to. */
export interface Outcome {
  readonly state: CommandState;
  readonly code?: ErrorCode;
  readonly reason?: string;
  /** JSON text. */
  readonly result?: string;
}

export interface ResultBody extends Omit<Outcome, 'code'> {
  readonly type: string;
  readonly id: string;
  readonly code?: string;
}

export type CommandEntry = { readonly kind: 'command'; readonly body: CommandBody } | { readonly kind: 'result'; readonly body: ResultBody };

export const encodeCommand = ({ type, id, operator, kid, message, expiresMicros }: CommandBody): Cbor => new Map<number, Cbor>([
  [COMMAND_BODY.type, type], [COMMAND_BODY.id, id], [COMMAND_BODY.operator, operator], [COMMAND_BODY.kid, kid], [COMMAND_BODY.message, message], [COMMAND_BODY.expiresMicros, expiresMicros],
]);

export function encodeResult(name: { readonly type: string; readonly id: string }, { state, code, reason, result }: Outcome, extra: readonly (readonly [number, Cbor])[]): Cbor {
  const body = new Map<number, Cbor>([[RESULT_BODY.type, name.type], [RESULT_BODY.id, name.id], [RESULT_BODY.state, state]]);
  if (code !== undefined) body.set(RESULT_BODY.code, code);
  if (reason !== undefined) body.set(RESULT_BODY.reason, reason);
  if (result !== undefined) body.set(RESULT_BODY.result, result);
  for (const [key, value] of extra) body.set(key, value);
  return body;
}

/** Undefined for entries of other kinds, and for what no version of ours wrote. */
export function decodeCommandEntry({ kind, body }: Pick<Entry, 'kind' | 'body'>): CommandEntry | undefined {
  if (!(body instanceof Map)) return undefined;
  const fields = body as ReadonlyMap<number, Cbor>;
  if (kind === KIND.command) return decodeCommand(fields);
  return kind === KIND.result ? decodeResult(fields) : undefined;
}

function decodeCommand(fields: ReadonlyMap<number, Cbor>): CommandEntry | undefined {
  const [type, id, operator, kid] = [COMMAND_BODY.type, COMMAND_BODY.id, COMMAND_BODY.operator, COMMAND_BODY.kid].map((key) => textOf(fields.get(key)));
  const [message, expiresMicros] = [fields.get(COMMAND_BODY.message), fields.get(COMMAND_BODY.expiresMicros)];
  if (type === undefined || id === undefined || operator === undefined || kid === undefined || !(message instanceof Uint8Array) || typeof expiresMicros !== 'number') return undefined;
  return { kind: 'command', body: { type, id, operator, kid, message, expiresMicros } };
}

function decodeResult(fields: ReadonlyMap<number, Cbor>): CommandEntry | undefined {
  const [type, id, code, reason, result] = [RESULT_BODY.type, RESULT_BODY.id, RESULT_BODY.code, RESULT_BODY.reason, RESULT_BODY.result].map((key) => textOf(fields.get(key)));
  const state = COMMAND_STATES.find((name) => name === fields.get(RESULT_BODY.state));
  if (type === undefined || id === undefined || state === undefined) return undefined;
  return { kind: 'result', body: { type, id, state, ...(code === undefined ? {} : { code }), ...(reason === undefined ? {} : { reason }), ...(result === undefined ? {} : { result }) } };
}

const textOf = (value: Cbor | undefined): string | undefined => (typeof value === 'string' ? value : undefined);
