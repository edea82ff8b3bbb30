/**
 * What to do next about the commands that have not ended. Pure: `step` looks at them and the time, and says what is due; who executes says what came of
 * it in the ledger, and asks again.
 */
import { COMMAND_CLASS, isCommandType, type CommandState } from '#runtime/core/command.ts';
import { LIMITS } from '#runtime/core/limits.ts';

export interface OpenCommand {
  readonly key: string;
  readonly type: string;
  readonly state: CommandState;
  /** Place in the order of arrival. */
  readonly order: number;
  /** Monotonic µs. A command that waits for its time begins then; all of them end at the latest at `expires`. */
  readonly dueMicros: number;
  readonly expiresMicros: number;
  /** executing: when it began, in this run; undefined: in an earlier one. */
  readonly startedMicros?: number;
}

export type Effect =
  | { readonly do: 'schedule' | 'start' | 'expire' | 'resume'; readonly key: string };

export interface Plan {
  readonly effects: readonly Effect[];
  /** When to ask again, monotonic µs; undefined: when something happens. */
  readonly nextMicros: number | undefined;
}

/** Jobs run one after the other; whoever waits for an answer waits for no job. */
const INTERACTIVE_AT_ONCE_MAX = 4;

const classOf = (type: string): 'interactive' | 'job' => (isCommandType(type) ? COMMAND_CLASS[type] : 'interactive');

export function step(commands: readonly OpenCommand[], nowMicros: number): Plan {
  const effects: Effect[] = [];
  let nextMicros = Number.POSITIVE_INFINITY;
  const room = { interactive: INTERACTIVE_AT_ONCE_MAX, job: 1 };
  for (const { type, state } of commands) if (state === 'executing') room[classOf(type)] -= 1;
  for (const command of commands.toSorted((a, b) => a.order - b.order)) {
    const { key, type, state } = command;
    const ends = endOf(command);
    if (state === 'executing' && command.startedMicros === undefined) effects.push({ do: 'resume', key });
    else if (ends <= nowMicros) effects.push({ do: 'expire', key });
    else if (state === 'executing') nextMicros = Math.min(nextMicros, ends);
    else if (command.dueMicros > nowMicros) {
      if (state === 'init') effects.push({ do: 'schedule', key });
      nextMicros = Math.min(nextMicros, command.dueMicros, ends);
    } else if (type === 'cancel' || room[classOf(type)] > 0) {
      room[classOf(type)] -= 1;
      effects.push({ do: 'start', key });
    } else nextMicros = Math.min(nextMicros, ends);
  }
  return { effects, nextMicros: nextMicros === Number.POSITIVE_INFINITY ? undefined : nextMicros };
}

/** Once begun, an interactive command has 30 s, and a job its validity, but 30 s at least. */
function endOf({ type, expiresMicros, startedMicros }: OpenCommand): number {
  if (startedMicros === undefined) return expiresMicros;
  const limit = startedMicros + LIMITS.interactiveCommandMs * 1_000;
  return classOf(type) === 'interactive' ? limit : Math.max(limit, expiresMicros);
}
