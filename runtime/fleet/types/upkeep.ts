/** What changes how a gateway runs: restart, configuration, software and firmware. */
import { whenAborted } from '#runtime/core/abort.ts';
import type { CommandClaims, CommandHandler } from '#runtime/core/command.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { UpdateKind, Updater } from '#runtime/core/ports.ts';
import type { Maybe } from '#runtime/core/types.ts';
import { ABLE, wrong, type Result } from './parameters.ts';

export interface ConfigFile {
  /** Throws `command.config` for what the gateway would not start with, or could not be commanded with. */
  check(text: string): void;
  /** After `check`: in one step, with a copy of the file before, on trial until it has proved itself. Throws `command.config`. */
  replace(text: string, command: { readonly id: string; readonly confirmSeconds?: number }): Result;
  /** What the file says now is this text. */
  holds(text: string): boolean;
  /** How the trial of what that command put in place ends; undefined: there is none, or the gateway stops first. */
  ended(id: string): Promise<{ readonly kind: 'confirmed' } | { readonly kind: 'takenBack'; readonly reason: string } | undefined>;
}

/** `again` ends this run of the gateway in an orderly way for another one to begin. */
export const restart = (again: () => void): CommandHandler => ({
  support: ABLE,
  isUnstoppable: true,
  async run({ isDryRun }, signal) { return isDryRun ? { dry_run: true } : restarting(again, signal); },
  resume: () => ({ restarted: true }),
});

/** With `confirm_s` it restarts by itself, and the file before comes back unless a fleet's link comes up in time. */
export const configUpdate = (config: ConfigFile, again: () => void): CommandHandler => ({
  support: ABLE,
  isUnstoppable: true,
  async run(command, signal) {
    const [text, confirmSeconds] = [configTextOf(command), confirmSecondsOf(command)];
    config.check(text);
    if (command.isDryRun) return { dry_run: true };
    const result = config.replace(text, { id: command.id, ...(confirmSeconds === undefined ? {} : { confirmSeconds }) });
    return confirmSeconds === undefined ? { ...result, effective: 'at the next start' } : restarting(again, signal);
  },
  async resume(command) {
    const end = await config.ended(command.id);
    if (end?.kind === 'takenBack') throw new TenzroError('command.config', `taken back: ${end.reason}`);
    if (end) return { effective: 'now' };
    return config.holds(configTextOf(command)) && confirmSecondsOf(command) === undefined ? { effective: 'at the next start' } : undefined;
  },
});

async function restarting(again: () => void, signal: AbortSignal): Promise<Result> {
  again();
  await whenAborted(signal);
  throw new TenzroError('command.timeout', 'the gateway did not stop in time');
}

function confirmSecondsOf({ parameters: { confirm_s: seconds } }: CommandClaims): number | undefined {
  const [min, max] = [LIMITS.twinConfirmSecondsMin, LIMITS.twinConfirmSecondsMax];
  if (seconds === undefined) return undefined;
  if (typeof seconds !== 'number' || !Number.isInteger(seconds) || seconds < min || seconds > max) throw wrong(`confirm_s is not ${min} to ${max} whole seconds`);
  return seconds;
}

/** Ends with a restart into the other slot; what came of it is told by the run that follows. */
export function update(kind: UpdateKind, updater: Maybe<Updater>): CommandHandler {
  const support = updater.kind === 'none' ? updater : updater.value.support(kind);
  const reason = support.kind === 'none' ? support.reason : '';
  if (updater.kind === 'none' || support.kind === 'none') return { support, run: async () => { throw new TenzroError('command.unsupported', reason); } };
  const { value } = updater;
  return {
    support: ABLE,
    async run(command, signal) {
      value.check(kind, command.parameters);
      return command.isDryRun ? { dry_run: true, ...await value.inspect(kind, command.parameters, signal) } : value.install(kind, command, signal);
    },
    resume: (command) => value.ended(kind, command),
  };
}

function configTextOf({ parameters: { config } }: CommandClaims): string {
  if (typeof config !== 'string') throw wrong('config is not the text of a configuration file');
  return config;
}
