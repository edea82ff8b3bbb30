/** `tenzro run`: hands the effective settings to the composition root and waits until it has shut down. */
import { join } from 'node:path';
import type { LoadedConfig } from '#runtime/config/load.ts';
import { runGateway } from '#runtime/main.ts';
import { LiveConsole } from './console.ts';
import { APP_ROOT, configOf, type CommonFlags, type Io } from './io.ts';

export interface RunOptions {
  readonly config: LoadedConfig;
  readonly appRoot: string;
  /** Name of the scenario to play, if any. */
  readonly scenario?: string;
  /** What people see; absent where nobody looks (then the log says it in JSON lines). */
  readonly console?: LiveConsole;
}

/** npm sets it for `npm start`, whose output people read even through a pipe. */
const isNpmStart = (): boolean => process.env['npm_lifecycle_event'] === 'start';

export async function run(io: Io, flags: CommonFlags & { readonly mqttPort?: string; readonly scenario?: string | boolean }): Promise<void> {
  const config = configOf(flags);
  io.catchSignals();
  const scenario = typeof flags.scenario === 'string' ? { scenario: flags.scenario } : {};
  const live = io.isTTY || isNpmStart() ? { console: liveConsole(io, config) } : {};
  await runGateway({ config, appRoot: APP_ROOT, ...scenario, ...live }, io.signal);
}

/** The commands that it prints work as printed: they name the data directory where it is not the default, and paths where people stand elsewhere. */
function liveConsole(io: Io, { settings, originOf }: LoadedConfig): LiveConsole {
  const isAtHome = process.cwd() === APP_ROOT;
  const environment = originOf('dataDir').from === 'default' ? '' : `TENZRO_DATA=${shellWord(settings.dataDir)} `;
  return new LiveConsole({
    write: (line) => { io.line(line); },
    color: io.color,
    command: `${environment}${isAtHome ? 'npx tenzro' : shellWord(join(APP_ROOT, 'runtime/cli/tenzro.js'))}`,
    policies: isAtHome ? 'docs/policies' : shellWord(join(APP_ROOT, 'docs/policies')),
  });
}

const shellWord = (text: string): string => (/^[\w./@%+=:-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`);
