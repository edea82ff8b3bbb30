/**
 * The composition root of configuration from afar: joins the twin `config` and `config_update` with the configuration file, its trial, and the run of this process.
 * The file is the truth; what it says comes into force with a restart, in this process where nobody supervises it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { faultOfPart, fleetPartOf, isSamePart, withPart } from '#runtime/config/fleetPart.ts';
import { ConfigTrial } from '#runtime/config/trial.ts';
import { whenAborted } from '#runtime/core/abort.ts';
import { toHex } from '#runtime/core/bytes.ts';
import type { Clock } from '#runtime/core/clock.ts';
import type { Operator } from '#runtime/core/command.ts';
import { messageOf } from '#runtime/core/errors.ts';
import type { Counters, KeyValueStore, LinkUser, Log } from '#runtime/core/ports.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { CONFIG_BODY, KIND, type Cbor, type Draft } from '#runtime/core/types.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { TwinDriver } from '#runtime/fleet/twinDriver.ts';
import type { TwinPort } from '#runtime/fleet/twinKeeper.ts';

/** What a change of the configuration may do to the process that the gateway runs in. */
export interface ConfigHost {
  /** Absolute path of the configuration file, also where there is none yet. */
  readonly configFile: string;
  /** What it said when this run began; empty where there was none. */
  readonly configText: string;
  /** Ends this run in an orderly way and begins another, with the file as it then is. */
  readonly reload: () => void;
}

export interface TwinningOptions {
  /** `node.name`. */
  readonly gateway: string;
  /** Folder of package.json. */
  readonly appRoot: string;
  readonly host: ConfigHost;
  readonly operators: () => readonly Operator[];
  readonly ledger: { append(draft: Draft): Promise<number> };
  readonly store: KeyValueStore;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
}

/** How a `config_update` on trial ended; undefined: it was not on trial, or the gateway stops first. */
export type CommandTrialEnd = { readonly kind: 'confirmed' } | { readonly kind: 'takenBack'; readonly reason: string };

export interface Twinning {
  /** One for each link. */
  user(): LinkUser;
  /** Puts the text of a `config_update` in place, on trial; returns where the file before was copied to. Throws `config.*`. */
  begin(text: string, command: { readonly id: string; readonly confirmSeconds?: number }): string | undefined;
  /** How the trial of that command ends. */
  ended(commandId: string): Promise<CommandTrialEnd | undefined>;
  /** Until `signal` aborts. */
  follow(signal: AbortSignal): Promise<void>;
}

const CONFIG_TWIN = 'config';

export function openTwinning({ appRoot, host, ...options }: TwinningOptions): Twinning {
  const trial = new ConfigTrial(host.configFile);
  const driver = new TwinDriver({ ...options, twins: new Map([[CONFIG_TWIN, configTwin(trial, host, appRoot)]]) });
  const commanded = new CommandTrial(trial, host, options);
  return {
    user() {
      const twins = driver.user();
      return { ...twins, connected: (link) => { commanded.heard(); twins.connected?.(link); } };
    },
    begin: (text, command) => trial.begin(text, { kind: 'command', ...command }),
    ended: (commandId) => commanded.ended(commandId),
    follow: async (signal) => { await Promise.all([driver.follow(signal), commanded.follow(signal)]); },
  };
}

const digestOf = (text: string): string => toHex(sha256(Buffer.from(text, 'utf8')));

function configTwin(trial: ConfigTrial, { configFile, configText, reload }: ConfigHost, appRoot: string): TwinPort {
  const own = (version: number) => { const { current } = trial; return current?.origin.kind === 'twin' && current.origin.version === version ? current : undefined; };
  const restart = (): 'restarting' => { reload(); return 'restarting'; };
  return {
    inForce(expected) {
      const part = fleetPartOf(configText);
      return isSamePart(expected, part) ? expected : part;
    },
    faultOf: (value) => faultOfPart(value, configText, configFile, appRoot),
    async apply(value, { version, isUndo }) {
      const held = own(version);
      if (isUndo) {
        trial.takeBack('reverted');
        return held && held.sha256 === digestOf(configText) ? restart() : 'applied';
      }
      if (held?.sha256 === digestOf(configText)) return 'applied';
      if (!held) {
        const text = withPart(configText, value);
        if (text === configText) return 'applied';
        trial.begin(text, { kind: 'twin', version });
      }
      return restart();
    },
    withdrawn({ version, value }, isApplied) {
      const reason = own(version)?.takenBack;
      if (reason !== undefined || !isApplied) return reason;
      return isSamePart(value, fleetPartOf(configText)) ? undefined : 'somebody changed the configuration file at the machine';
    },
    settled() { if (trial.current?.origin.kind === 'twin') trial.end(); },
  };
}

/** A configuration that `config_update` put in place: it stays when some fleet's link comes up under it in time. */
class CommandTrial {
  readonly #trial: ConfigTrial;
  readonly #host: ConfigHost;
  readonly #options: Pick<TwinningOptions, 'ledger' | 'clock' | 'counters' | 'log'>;
  readonly #heard = Promise.withResolvers<true>();
  readonly #end = Promise.withResolvers<CommandTrialEnd | undefined>();
  readonly #commandId: string | undefined;

  constructor(trial: ConfigTrial, host: ConfigHost, options: Pick<TwinningOptions, 'ledger' | 'clock' | 'counters' | 'log'>) {
    this.#trial = trial;
    this.#host = host;
    this.#options = options;
    const origin = trial.current?.origin;
    this.#commandId = origin?.kind === 'command' ? origin.id : undefined;
  }

  heard(): void { this.#heard.resolve(true); }

  async ended(commandId: string): Promise<CommandTrialEnd | undefined> { return commandId === this.#commandId ? this.#end.promise : undefined; }

  async follow(signal: AbortSignal): Promise<void> {
    try {
      this.#end.resolve(await this.#judge(signal));
    } catch (error) {
      this.#options.log.error({ error: messageOf(error) }, 'the trial of a configuration waits for the next start');
      this.#end.resolve(undefined);
    }
  }

  async #judge(signal: AbortSignal): Promise<CommandTrialEnd | undefined> {
    const { current } = this.#trial;
    if (current?.origin.kind !== 'command') return undefined;
    const { id, confirmSeconds } = current.origin;
    if (current.takenBack !== undefined) {
      await this.#record(id, 'reverted', current.takenBack);
      this.#trial.end();
      return { kind: 'takenBack', reason: current.takenBack };
    }
    if (current.sha256 !== digestOf(this.#host.configText)) return undefined; // it is for the next start
    const isHeard = confirmSeconds === undefined || await this.#isHeardWithin(confirmSeconds, signal);
    if (signal.aborted) return undefined;
    if (!isHeard) {
      this.#trial.takeBack(`no link to a fleet came up within ${confirmSeconds} s`);
      this.#host.reload();
      await whenAborted(signal);
      return undefined; // the run that follows tells
    }
    await this.#record(id, 'confirmed', undefined);
    this.#trial.end();
    return { kind: 'confirmed' };
  }

  async #isHeardWithin(seconds: number, signal: AbortSignal): Promise<boolean> {
    const done = new AbortController();
    const late = sleep(seconds * 1_000, false, { signal: AbortSignal.any([signal, done.signal]) }).catch(() => false); // aborted: nobody waits any more
    try {
      return await Promise.race([this.#heard.promise, late]);
    } finally {
      done.abort();
    }
  }

  async #record(id: string, change: 'confirmed' | 'reverted', reason: string | undefined): Promise<void> {
    const { ledger, clock, counters, log } = this.#options;
    counters.add(`fleet.config_${change}`);
    log.warn({ command: id, ...(reason === undefined ? {} : { reason }) }, `configuration of command ${id}: ${change}`);
    const body = new Map<number, Cbor>([[CONFIG_BODY.change, change], [CONFIG_BODY.command, id]]);
    if (reason !== undefined) body.set(CONFIG_BODY.reason, reason);
    await ledger.append({ kind: KIND.config, source: MAIN_ENTITY, wallMicros: clock.wallMicros(), monoMicros: clock.monoMicros(), body });
  }
}
