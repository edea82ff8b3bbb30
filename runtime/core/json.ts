/** JSON as the fleet's messages carry it: bounded on the way in, and with one spelling (RFC 8785) for what is signed, stored or compared. */
import { isUtf8 } from 'node:buffer';
import { messageOf } from './errors.ts';

export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export interface JsonObject { readonly [key: string]: Json }

export interface JsonBounds {
  readonly bytesMax: number;
  readonly depthMax: number;
  /** Values of every kind, keys not counted. */
  readonly valuesMax: number;
}

export const isJsonObject = (value: unknown): value is JsonObject => typeof value === 'object' && value !== null && !Array.isArray(value);

/** Of duplicate keys the last counts. Throws what `fault` makes of the reason. */
export function parseBoundedJson(bytes: Uint8Array, bounds: JsonBounds, fault: (why: string) => Error): Json {
  if (bytes.length > bounds.bytesMax) throw fault(`${bytes.length} bytes, more than ${bounds.bytesMax}`);
  if (!isUtf8(bytes)) throw fault('not UTF-8');
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8'));
  } catch (cause) {
    throw fault(`not JSON: ${messageOf(cause).slice(0, 200)}`);
  }
  return boundedJson(value, bounds, fault);
}

/** The same bounds for plain data from elsewhere, as YAML; also refuses what JSON cannot say. */
export function boundedJson(value: unknown, { depthMax, valuesMax }: Omit<JsonBounds, 'bytesMax'>, fault: (why: string) => Error): Json {
  let left = valuesMax;
  const walk = (item: unknown, depth: number): void => {
    if (--left < 0) throw fault(`more than ${valuesMax} values`);
    if (depth > depthMax) throw fault(`nests deeper than ${depthMax} levels`);
    if (typeof item === 'string' && !item.isWellFormed()) throw fault('a text holds half a surrogate pair');
    if (typeof item === 'number' && !Number.isFinite(item)) throw fault('a number is not finite');
    if (Array.isArray(item)) for (const inner of item as readonly unknown[]) walk(inner, depth + 1);
    else if (typeof item === 'object' && item !== null) walkObject(item, depth);
    else if (item !== null && !['string', 'number', 'boolean'].includes(typeof item)) throw fault(`${typeof item} is not JSON`);
  };
  const walkObject = (item: object, depth: number): void => {
    for (const [key, inner] of Object.entries(item)) {
      if (key === '__proto__' || !key.isWellFormed()) throw fault('a key is __proto__ or holds half a surrogate pair');
      walk(inner, depth + 1);
    }
  };
  walk(value, 1);
  return value as Json;
}

/** RFC 8785: keys sorted by UTF-16 code units, numbers as ECMAScript prints them, no spaces. */
export function canonicalJson(value: Json): string {
  if (Array.isArray(value)) return `[${(value as readonly Json[]).map(canonicalJson).join(',')}]`;
  if (!isJsonObject(value)) return JSON.stringify(value);
  const members = Object.keys(value).toSorted(byCodeUnit).map((key) => `${JSON.stringify(key)}:${canonicalJson(value[key] ?? null)}`);
  return `{${members.join(',')}}`;
}

const byCodeUnit = (a: string, b: string): number => (a < b ? -1 : Number(a > b));
