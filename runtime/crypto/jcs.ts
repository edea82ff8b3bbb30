/**
 * JSON Canonicalization Scheme (RFC 8785): one text for one value, so that a signature can cover JSON that people write by hand. ECMAScript's own
 * serialisation of numbers and strings is the scheme's (§3.2.2); what is left is the order of names, by UTF-16 code units (§3.2.3), and no whitespace.
 */
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';

export type Json = string | number | boolean | null | readonly Json[] | { readonly [name: string]: Json };

/** Throws `jws.malformed` for what no I-JSON text holds (RFC 7493): infinite numbers, lone surrogates; and for values nested deeper than `jsonDepthMax`. */
export const canonicalJson = (value: Json): string => write(value, 0);

function write(value: Json, depth: number): string {
  if (depth > LIMITS.jsonDepthMax) throw new TenzroError('jws.malformed', `the JSON nests deeper than ${LIMITS.jsonDepthMax}`);
  if (typeof value === 'number' && !Number.isFinite(value)) throw new TenzroError('jws.malformed', 'a number is not finite');
  if (typeof value === 'string') return text(value);
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${(value as readonly Json[]).map((item) => write(item, depth + 1)).join(',')}]`;
  const members = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([name, member]) => `${text(name)}:${write(member, depth + 1)}`).join(',')}}`;
}

function text(value: string): string {
  if (!value.isWellFormed()) throw new TenzroError('jws.malformed', 'a text holds a lone surrogate');
  return JSON.stringify(value);
}
