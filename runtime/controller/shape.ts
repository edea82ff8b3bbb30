/** Checks of plain data from a file; each failure is `fleet.file` and names the key. */
import { TenzroError } from '#runtime/core/errors.ts';
import { FLEET_NAME } from '#runtime/core/twin.ts';

export type Fields = Readonly<Record<string, unknown>>;

export const wrong = (why: string): TenzroError => new TenzroError('fleet.file', why);

/** A map with string keys. With `keys` given, others are refused. */
export function asFields(value: unknown, name: string, keys?: readonly string[]): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong(`${name} must be a map`);
  for (const key of keys ? Object.keys(value) : []) if (!keys?.includes(key)) throw wrong(`${name}: unknown key '${key.slice(0, 40)}'; known are ${keys?.join(', ')}`);
  return value as Fields;
}

/** A map of names, as gateways or groups, with at most `max` of them. */
export function asNamed(value: unknown, name: string, max: number): readonly (readonly [string, unknown])[] {
  const members = Object.entries(asFields(value, name));
  if (members.length > max) throw wrong(`${name} holds ${members.length}, more than ${max}`);
  for (const [key] of members) asName(key, name);
  return members;
}

export function asName(value: unknown, name: string): string {
  if (typeof value !== 'string' || !FLEET_NAME.test(value)) throw wrong(`${name}: ${JSON.stringify(value)?.slice(0, 80) ?? 'nothing'} is no name: 1 to 64 letters, digits, _ and -`);
  return value;
}

export function asCount(value: unknown, name: string, min: number, max: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) throw wrong(`${name} must be a whole number from ${min} to ${max}`);
  return value;
}

export function asList(value: unknown, name: string, max: number): readonly unknown[] {
  if (!Array.isArray(value) || value.length === 0 || value.length > max) throw wrong(`${name} must be a list of 1 to ${max}`);
  return value as readonly unknown[];
}

export function asText(value: unknown, name: string): string {
  if (typeof value !== 'string' || value === '') throw wrong(`${name} must be a text`);
  return value;
}
