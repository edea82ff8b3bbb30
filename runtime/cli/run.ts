/** `tenzro run`: hands the effective settings to the composition root and waits until it has shut down. */
import { join } from 'node:path';
import { CONFIG_NAME, type LoadedConfig } from '#runtime/config/load.ts';
import type { CommandHost } from '#runtime/commanding.ts';
import { runGateway } from '#runtime/main.ts';
import type { GatewayEvent } from '#runtime/core/gatewayEvent.ts';
import { LiveConsole } from './console.ts';
import { APP_ROOT, EXIT, allowsColor, configOf, type CommonFlags, type Io } from './io.ts';

export interface RunFlags extends CommonFlags {
  readonly mqttPort?: string;
  /** False for --no-scenario. */
  readonly scenario?: string | boolean;
}

/** npm sets it for `npm start`, whose output people read even through a pipe. */
const isNpmStart = (): boolean => process.env['npm_lifecycle_event'] === 'start';

export async function run(io: Io, flags: RunFlags): Promise<void> {
  const config = configOf(flags);
  io.catchSignals();
  const scenario = typeof flags.scenario === 'string' ? { scenario: flags.scenario } : {};
  const show = io.isTTY || isNpmStart() ? { show: liveConsole(io, config) } : {};
  await runGateway({ settings: config.settings, appRoot: APP_ROOT, color: allowsColor(process.stderr.isTTY), host: hostOf(io, config), ...scenario, ...show }, io.signal);
}

/** Only who starts the gateway knows whether somebody starts it again, and says so. */
function hostOf(io: Io, { file, settings }: LoadedConfig): CommandHost {
  const restart = (): void => { io.stop(EXIT.restart); };
  return {
    configFile: file ?? join(settings.dataDir, CONFIG_NAME),
    restart: process.env['TENZRO_SUPERVISED'] === '1' ? { kind: 'value', value: restart } : { kind: 'none', reason: 'nobody supervises this process: TENZRO_SUPERVISED is not 1' },
  };
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
