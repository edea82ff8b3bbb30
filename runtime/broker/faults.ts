/** What went wrong with a client, by stable code: counted always, logged at most once per LIMITS.logLineIntervalMs and code. */
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError, messageOf, type ErrorCode } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Counters, Log } from '#runtime/core/ports.ts';

/** The engine's own errors have only a message. */
const BY_MESSAGE: Readonly<Record<string, ErrorCode>> = {
  'connect did not arrive in time': 'broker.timeout',
  'keep alive timeout': 'broker.timeout',
  'drain timeout': 'broker.subscriber_stalled',
};

/** Networks do this all day; it says nothing about the client. */
const LOST = new Set(['ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ECONNABORTED', 'ERR_STREAM_PREMATURE_CLOSE', 'ERR_STREAM_DESTROYED', 'ERR_STREAM_WRITE_AFTER_END']);

/** `about`: the client id or topic that something happened to. */
interface Where { readonly client?: string; readonly address?: string; readonly about?: string }

export class Faults {
  readonly #log: Log;
  readonly #counters: Counters;
  readonly #clock: Clock;
  readonly #lastLine = new Map<ErrorCode, { atMicros: number; suppressed: number }>();

  constructor(log: Log, counters: Counters, clock: Clock) {
    this.#log = log;
    this.#counters = counters;
    this.#clock = clock;
  }

  /** An error with which a connection ended. */
  ended(error: unknown, fields: Where): void {
    if (isLost(error)) return this.#counters.add('broker.connection_lost');
    this.report(error instanceof TenzroError ? error : new TenzroError(codeOf(error), messageOf(error), { cause: error }), fields);
  }

  report(error: TenzroError, fields: Where): void {
    this.#counters.add(error.code);
    const nowMicros = this.#clock.monoMicros();
    const last = this.#lastLine.get(error.code);
    if (last !== undefined && nowMicros - last.atMicros < LIMITS.logLineIntervalMs * 1000) {
      last.suppressed++;
      return;
    }
    this.#lastLine.set(error.code, { atMicros: nowMicros, suppressed: 0 });
    const line = { code: error.code, ...fields, suppressed: last?.suppressed ?? 0, hint: error.hint };
    if (error.class === 'bug') this.#log.error({ ...line, stack: error.cause instanceof Error ? error.cause.stack : error.stack }, error.message);
    else this.#log.warn(line, error.message);
  }
}

function isLost(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return error.message === 'connection closed' || ('code' in error && typeof error.code === 'string' && LOST.has(error.code));
}

function codeOf(error: unknown): ErrorCode {
  if (error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError) return 'broker.internal';
  return BY_MESSAGE[messageOf(error)] ?? 'broker.malformed';
}
