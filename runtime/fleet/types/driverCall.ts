/** `driver_call`: one value for one operation of a device, where the owner's configuration consents to that operation. */
import type { CommandClaims, CommandHandler } from '#runtime/core/command.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Actuator, DriverCall } from '#runtime/core/ports.ts';
import { ABLE, onlyKnown, textIn, wrong, type Parameters } from './parameters.ts';

export const driverCall = (actuator: Actuator, allowed: readonly string[]): CommandHandler => ({
  support: allowed.length > 0 ? ABLE : { kind: 'none', reason: 'fleet.driverCalls of this gateway is empty' },
  isUnstoppable: true, // it has left: a cancel that says otherwise would mislead
  async run(command, signal) {
    const call = callOf(command);
    const name = `${call.driver}.${call.operation}`;
    if (!allowed.includes(name)) throw new TenzroError('command.consent', `fleet.driverCalls does not name ${name}`);
    actuator.check(call);
    return command.isDryRun ? { dry_run: true } : actuator.call(call, signal);
  },
});

function callOf({ id, parameters }: CommandClaims): DriverCall {
  onlyKnown(parameters, ['driver', 'operation', 'parameters']);
  const { parameters: inner } = parameters;
  if (typeof inner !== 'object' || inner === null || Array.isArray(inner)) throw wrong('parameters is not an object with value');
  onlyKnown(inner as Parameters, ['value']);
  const { value } = inner as Parameters;
  if (typeof value !== 'number' || !Number.isFinite(value)) throw wrong('value is no number');
  return { id, driver: textIn(parameters, 'driver', LIMITS.commandIdCharsMax), operation: textIn(parameters, 'operation', LIMITS.commandIdCharsMax), value };
}
