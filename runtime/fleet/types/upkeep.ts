/** What changes how a gateway runs: restart, configuration, software and firmware. */
import type { CommandClaims, CommandHandler } from '#runtime/core/command.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { Updater } from '#runtime/core/ports.ts';
import type { Maybe } from '#runtime/core/types.ts';
import { ABLE, wrong, type Result } from './parameters.ts';

export interface ConfigFile {
  /** Throws `command.config` for what the gateway would not start with, or could not be commanded with. */
  check(text: string): void;
  /** After `check`: in one step, with a copy of the file before. Throws `command.config`. */
  replace(text: string): Result;
  /** What the file says now is this text. */
  holds(text: string): boolean;
}

export const restart = (how: Maybe<() => void>): CommandHandler => ({
  support: ABLE,
  isUnstoppable: true,
  async run({ isDryRun }, signal) {
    if (how.kind === 'none') throw new TenzroError('command.unsupervised', how.reason);
    if (isDryRun) return { dry_run: true };
    how.value();
    await aborted(signal);
    throw new TenzroError('command.timeout', 'the gateway did not stop in time');
  },
  resume: () => ({ restarted: true }),
});

export const configUpdate = (config: ConfigFile): CommandHandler => ({
  support: ABLE,
  async run(command) {
    const text = configTextOf(command);
    config.check(text);
    return command.isDryRun ? { dry_run: true } : { ...config.replace(text), effective: 'at the next start' };
  },
  resume(command) {
    return config.holds(configTextOf(command)) ? { effective: 'at the next start' } : undefined;
  },
});

export const update = (kind: 'software' | 'firmware', updater: Maybe<Updater>): CommandHandler => ({
  support: updater.kind === 'none' ? updater : ABLE,
  async run({ parameters, isDryRun }, signal) {
    if (updater.kind === 'none') throw new TenzroError('command.unsupported', updater.reason);
    updater.value.check(kind, parameters);
    return isDryRun ? { dry_run: true } : updater.value.install(kind, parameters, signal);
  },
});

function configTextOf({ parameters: { config } }: CommandClaims): string {
  if (typeof config !== 'string') throw wrong('config is not the text of a configuration file');
  return config;
}

function aborted(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (signal.aborted) resolve();
  signal.addEventListener('abort', () => resolve(), { once: true });
  return promise;
}
