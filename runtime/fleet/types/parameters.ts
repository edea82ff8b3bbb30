/** Parameters of commands, one by one: who signed them may still have mistyped them. All throw `command.parameters`. */
import { TenzroError } from '#runtime/core/errors.ts';

export type Parameters = Readonly<Record<string, unknown>>;
/** JSON of at most `LIMITS.commandResultBytesMax`. */
export type Result = Readonly<Record<string, unknown>>;

export const ABLE = { kind: 'value', value: true } as const;

export const wrong = (why: string): TenzroError => new TenzroError('command.parameters', why);

/** A parameter with another name than these was meant for another version, or is a slip that would change what is done. */
export function onlyKnown(parameters: Parameters, names: readonly string[]): void {
  const unknown = Object.keys(parameters).find((name) => !names.includes(name));
  if (unknown !== undefined) throw wrong(`there is no parameter '${unknown.slice(0, 64)}'; there are: ${names.join(', ')}`);
}

export function textIn(parameters: Parameters, name: string, charactersMax: number): string {
  const value = parameters[name];
  if (typeof value !== 'string' || value === '' || value.length > charactersMax) throw wrong(`${name} is not text of 1 to ${charactersMax} characters`);
  return value;
}

export function wholeIn(parameters: Parameters, name: string, min: number, max: number): number {
  const value = parameters[name];
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < min || value > max) throw wrong(`${name} is not a whole number from ${min} to ${max}`);
  return value;
}
