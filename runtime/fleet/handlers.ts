/** What this gateway does on command, type by type. Whoever can do it comes in through ports. */
import { isoOfMicros, type Clock } from '#runtime/core/clock.ts';
import { COMMAND_TYPES, type CommandClaims, type CommandHandler, type CommandType } from '#runtime/core/command.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { Maybe } from '#runtime/core/types.ts';

type Result = Readonly<Record<string, unknown>>;

export interface ConfigFile {
  /** Throws `command.config` for what the gateway would not start with, or could not be commanded with. */
  check(text: string): void;
  /** After `check`: in one step, with a copy of the file before. Throws `command.config`. */
  replace(text: string): Result;
  /** What the file says now is this text. */
  holds(text: string): boolean;
}

export interface HandlerPorts {
  /** Seals a block over the nonce. */
  readonly prove: (nonce: Uint8Array) => Promise<{ readonly sequence: number; readonly bundleSha256: string; readonly bundleBytes: number }>;
  readonly status: () => object;
  /** Ends this process in an orderly way, for a supervisor to start it again. */
  readonly restart: Maybe<() => void>;
  readonly config: ConfigFile;
  /** Returns the time that can be proved then, µs since 1970. */
  readonly raiseTime: (micros: number) => number;
  readonly clock: Clock;
}

/** 16 to 64 bytes in hexadecimal. */
const NONCE = /^(?:[0-9a-f]{2}){16,64}$/;
const ABLE = { kind: 'value', value: true } as const;

export function handlersOf(ports: HandlerPorts): Partial<Record<CommandType, CommandHandler>> {
  return { attest: attest(ports), diagnostics: diagnostics(ports), sync_time: syncTime(ports), restart: restart(ports), config_update: configUpdate(ports) };
}

/** Types whose topic says that they are there. `cancel` always is. */
export const supportedTypes = (handlers: Partial<Record<CommandType, CommandHandler>>): readonly CommandType[] =>
  COMMAND_TYPES.filter((type) => type === 'cancel' || handlers[type]?.support.kind === 'value');

const attest = ({ prove }: HandlerPorts): CommandHandler => ({
  support: ABLE,
  async run({ parameters: { nonce }, isDryRun }) {
    if (typeof nonce !== 'string' || !NONCE.test(nonce)) throw new TenzroError('command.parameters', 'nonce is not 16 to 64 bytes in lower-case hexadecimal');
    if (isDryRun) return { dry_run: true };
    const { sequence, bundleSha256, bundleBytes } = await prove(Buffer.from(nonce, 'hex'));
    return { nonce, sequence, bundle_sha256: bundleSha256, bundle_bytes: bundleBytes };
  },
});

const diagnostics = ({ status }: HandlerPorts): CommandHandler => ({ support: ABLE, run: async () => ({ ...status() }) });

/** A floor under the clock, and nothing else: who delays a command can at most leave the clock as it was. */
const syncTime = ({ raiseTime, clock }: HandlerPorts): CommandHandler => ({
  support: ABLE,
  async run({ issued, isDryRun }) {
    const wallMicros = clock.wallMicros();
    const provableMicros = isDryRun ? Math.max(wallMicros, issued * 1_000_000) : raiseTime(issued * 1_000_000);
    return { ...(isDryRun ? { dry_run: true } : {}), provable_time: isoOfMicros(provableMicros), clock: isoOfMicros(wallMicros), clock_behind_s: Math.max(0, Math.round((provableMicros - wallMicros) / 1_000_000)) };
  },
});

const restart = (ports: HandlerPorts): CommandHandler => ({
  support: ABLE,
  isUnstoppable: true,
  async run({ isDryRun }, signal) {
    if (ports.restart.kind === 'none') throw new TenzroError('command.unsupervised', ports.restart.reason);
    if (isDryRun) return { dry_run: true };
    ports.restart.value();
    await aborted(signal);
    throw new TenzroError('command.timeout', 'the gateway did not stop in time');
  },
  resume: () => ({ restarted: true }),
});

const configUpdate = ({ config }: HandlerPorts): CommandHandler => ({
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

function configTextOf({ parameters: { config } }: CommandClaims): string {
  if (typeof config !== 'string') throw new TenzroError('command.parameters', 'config is not the text of a configuration file');
  return config;
}

function aborted(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (signal.aborted) resolve();
  signal.addEventListener('abort', () => resolve(), { once: true });
  return promise;
}
