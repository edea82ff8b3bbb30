/** `tenzro run`: hands the effective settings to the composition root and waits until it has shut down. */
import { join } from 'node:path';
import type { LoadedConfig } from '#runtime/config/load.ts';
import { ConfigTrial } from '#runtime/config/trial.ts';
import { runGateway } from '#runtime/main.ts';
import { slotsHere } from '#runtime/updating.ts';
import type { GatewayEvent } from '#runtime/core/gatewayEvent.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { printable } from '#runtime/core/printable.ts';
import { LiveConsole } from './console.ts';
import { APP_ROOT, EXIT, allowsColor, configFileFor, configOf, type CommonFlags, type Io } from './io.ts';

export interface RunFlags extends CommonFlags {
  readonly mqttPort?: string;
  /** False for --no-scenario. */
  readonly scenario?: string | boolean;
}

/** npm sets it for `npm start`, whose output people read even through a pipe. */
const isNpmStart = (): boolean => process.env['npm_lifecycle_event'] === 'start';

/** Again and again where the gateway asks for it, with the configuration as it then is. */
export async function run(io: Io, flags: RunFlags): Promise<void> {
  io.catchSignals();
  let isAgain = true;
  while (isAgain) isAgain = await runOnce(io, flags);
}

/** True to run again. What the fleet put in place and the gateway cannot run with goes back here, before anything else. */
async function runOnce(io: Io, flags: RunFlags): Promise<boolean> {
  const configFile = configFileFor(flags);
  const trial = new ConfigTrial(configFile);
  tellBack(io, startUnder(io, trial));
  const reload = new AbortController();
  try {
    const config = configOf(flags);
    const scenario = typeof flags.scenario === 'string' ? { scenario: flags.scenario } : {};
    const show = io.isTTY || isNpmStart() ? { show: liveConsole(io, config) } : {};
    const host = { configFile, configText: config.text, reload: isSupervised() ? () => { io.stop(EXIT.restart); } : () => { reload.abort(); } };
    await runGateway({ settings: config.settings, appRoot: APP_ROOT, color: allowsColor(process.stderr.isTTY), host, slots: await slotsHere(config.settings.dataDir, host.reload), ...scenario, ...show }, AbortSignal.any([io.signal, reload.signal]));
    return reload.signal.aborted && !io.signal.aborted;
  } catch (error) {
    const reason = io.signal.aborted || isElsewhere(error) ? undefined : trial.takeBack(messageOf(error));
    if (reason === undefined) throw error;
    tellBack(io, reason);
    return true;
  }
}

/** Only who starts the gateway knows whether somebody starts it again, and says so: a new process gives back what the old one had gathered. */
const isSupervised = (): boolean => process.env['TENZRO_SUPERVISED'] === '1';

/** A full disk does not keep the gateway from starting: this start is not counted then. */
function startUnder(io: Io, trial: ConfigTrial): string | undefined {
  try {
    return trial.start();
  } catch (error) {
    if (!(error instanceof TenzroError) || error.code !== 'config.unreadable') throw error;
    io.error(`tenzro: ${printable(error.message)} (${error.code})`);
    return undefined;
  }
}

/** A second gateway that finds the first one running says nothing about the configuration. */
const isElsewhere = (error: unknown): boolean => error instanceof TenzroError && error.code === 'ledger.locked';

function tellBack(io: Io, reason: string | undefined): void {
  if (reason !== undefined) io.error(`tenzro: the configuration from the fleet was taken back: ${printable(reason)}`);
}

/** The commands that it prints work as printed: they name the data directory where it is not the default, and paths where people stand elsewhere. */
function liveConsole(io: Io, { settings, originOf }: LoadedConfig): (event: GatewayEvent) => void {
  const isAtHome = process.cwd() === APP_ROOT;
  const environment = originOf('dataDir').from === 'default' ? '' : `TENZRO_DATA=${shellWord(settings.dataDir)} `;
  const live = new LiveConsole({
    write: (line) => { io.line(line); },
    color: io.color,
    command: `${environment}${isAtHome ? 'npx tenzro' : shellWord(join(APP_ROOT, 'runtime/cli/tenzro.js'))}`,
    policies: isAtHome ? 'docs/policies' : shellWord(join(APP_ROOT, 'docs/policies')),
  });
  return (event) => { live.show(event); };
}

const shellWord = (text: string): string => (/^[\w./@%+=:-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`);
