/** The logger port on pino: JSON lines for machines, one compact line each for people. The only file that imports `pino`. */
import { pino, type DestinationStream } from 'pino';
import { TenzroError } from '#runtime/core/errors.ts';
import type { Log } from '#runtime/core/ports.ts';
import { humanLine } from './humanLine.ts';
import type { LogRing } from './logRing.ts';

export interface LogOptions {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  /** `people` on a terminal, else `json`. */
  readonly form: 'people' | 'json';
  /** Only with `people`: ANSI colours. */
  readonly color: boolean;
  /** Where whole lines go, newline included. Default: stderr. */
  readonly write?: (line: string) => void;
  /** Keeps each JSON line too, redacted as it goes out. */
  readonly ring?: LogRing;
}

/** Names that never reach a log, at the top of the fields and one level down. */
const SECRETS = ['password', 'passwordHash', 'seed', 'secret', 'privateKey', 'token', 'authorization'];

const STDERR_FD = 2;

export function createLog(options: LogOptions): Log {
  const redact = { paths: SECRETS.flatMap((name) => [name, `*.${name}`]), censor: '(secret)' };
  return pino({ level: options.level, base: null, redact, serializers: { error: errorFields, err: errorFields } }, destination(options));
}

function destination({ form, color, write, ring }: LogOptions): DestinationStream {
  // Synchronous: the last line before a crash is the one that matters, and a gateway logs little.
  const out = write === undefined ? pino.destination({ dest: STDERR_FD, sync: true }) : { write };
  const shown: DestinationStream = form === 'json' ? out : { write: (line) => out.write(humanLine(line, color)) };
  if (!ring) return shown;
  return {
    write(line) {
      ring.add(line);
      shown.write(line);
    },
  };
}

/** Code and hint beside the message; the stack only where it is our own fault. */
function errorFields(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const cause = error.cause instanceof Error ? { cause: error.cause.message } : {};
  if (!(error instanceof TenzroError)) return { message: error.message, stack: error.stack, ...cause };
  return { code: error.code, message: error.message, hint: error.hint, ...cause, ...(error.class === 'bug' ? { stack: error.stack } : {}) };
}
