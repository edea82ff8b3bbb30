/** What this gateway does on command, type by type (types/). Whoever can do it comes in through ports. */
import type { Clock } from '#runtime/core/clock.ts';
import { COMMAND_TYPES, type CommandHandler, type CommandType } from '#runtime/core/command.ts';
import type { Actuator, Updater } from '#runtime/core/ports.ts';
import type { FleetSettings } from '#runtime/core/settings.ts';
import type { Maybe } from '#runtime/core/types.ts';
import { driverCall } from './types/driverCall.ts';
import { attest, diagnostics, syncTime, type Prove } from './types/inspect.ts';
import { logUpload } from './types/logUpload.ts';
import { modelInstall, type ModelKeeper } from './types/modelInstall.ts';
import { release, type Releaser } from './types/release.ts';
import { shell } from './types/shell.ts';
import { configUpdate, restart, update, type ConfigFile } from './types/upkeep.ts';

export interface HandlerPorts {
  readonly prove: Prove;
  readonly status: () => object;
  /** Ends this run of the gateway in an orderly way, for another one to begin. */
  readonly restart: () => void;
  readonly config: ConfigFile;
  /** Returns the time that can be proved then, µs since 1970. */
  readonly raiseTime: (micros: number) => number;
  /** JSON lines of this run, oldest first, redacted. */
  readonly logLines: () => readonly string[];
  readonly models: Maybe<ModelKeeper>;
  readonly actuator: Actuator;
  readonly updater: Maybe<Updater>;
  readonly releaser: Maybe<Releaser>;
  /** What the owner consents to. */
  readonly consent: Pick<FleetSettings, 'shell' | 'driverCalls'>;
  readonly clock: Clock;
}

export function handlersOf(ports: HandlerPorts): Partial<Record<CommandType, CommandHandler>> {
  return {
    attest: attest(ports.prove), diagnostics: diagnostics(ports.status), sync_time: syncTime(ports.raiseTime, ports.clock), log_upload: logUpload(ports.logLines, ports.clock),
    restart: restart(ports.restart), config_update: configUpdate(ports.config, ports.restart), model_install: modelInstall(ports.models),
    software_update: update('software', ports.updater), firmware_update: update('firmware', ports.updater),
    driver_call: driverCall(ports.actuator, ports.consent.driverCalls), shell: shell(ports.consent.shell), release: release(ports.releaser),
  };
}

/** Types whose topic says that they are there. `cancel` always is. */
export const supportedTypes = (handlers: Partial<Record<CommandType, CommandHandler>>): readonly CommandType[] =>
  COMMAND_TYPES.filter((type) => type === 'cancel' || handlers[type]?.support.kind === 'value');
