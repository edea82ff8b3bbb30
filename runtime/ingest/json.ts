/** Hostile bytes to JSON: encoding and depth are judged before `JSON.parse` sees them. */
import { isAscii, isUtf8 } from 'node:buffer';
import { asBuffer } from '#runtime/core/bytes.ts';
import { messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { Rejection } from './rejection.ts';

export type JsonObject = Readonly<Record<string, unknown>>;

const CHAR = { quote: 0x22, backslash: 0x5c, openBracket: 0x5b, closeBracket: 0x5d, openBrace: 0x7b, closeBrace: 0x7d } as const;

/** Text of a payload; `ingest.utf8`. */
export function textOf(payload: Uint8Array): string | Rejection {
  const bytes = Buffer.isBuffer(payload) ? payload : asBuffer(payload);
  if (isAscii(bytes)) return bytes.toString('latin1');
  return isUtf8(bytes) ? bytes.toString('utf8') : new Rejection('ingest.utf8', `${bytes.length} bytes are not valid UTF-8`);
}

/** Any JSON value; `ingest.utf8`, `ingest.depth`, `ingest.json`. Of duplicate keys the last counts, as ECMA-404 readers commonly do. */
export function parseJson(payload: Uint8Array): { readonly value: unknown } | Rejection {
  const text = textOf(payload);
  if (text instanceof Rejection) return text;
  if (nestsDeeper(text, LIMITS.jsonDepthMax)) return new Rejection('ingest.depth', `nests deeper than ${LIMITS.jsonDepthMax} levels`);
  try {
    return { value: JSON.parse(text) as unknown };
  } catch (cause) {
    return new Rejection('ingest.json', messageOf(cause).slice(0, 200));
  }
}

/** A JSON object, as thin-edge's formats all are; adds `ingest.shape`. */
export function parseObject(payload: Uint8Array): JsonObject | Rejection {
  const parsed = parseJson(payload);
  if (parsed instanceof Rejection) return parsed;
  return isObject(parsed.value) ? parsed.value : new Rejection('ingest.shape', 'the payload is not a JSON object');
}

export const isObject = (value: unknown): value is JsonObject => typeof value === 'object' && value !== null && !Array.isArray(value);

/** Brackets outside strings; what is no JSON at all is left to the parser. Most texts have too few of them anywhere to be deep. */
function nestsDeeper(text: string, max: number): boolean {
  return hasMore(text, max) && scansDeeper(text, max);
}

function hasMore(text: string, max: number): boolean {
  let left = max;
  for (const open of ['{', '['] as const) {
    for (let at = text.indexOf(open); at >= 0; at = text.indexOf(open, at + 1)) if (--left < 0) return true;
  }
  return false;
}

function scansDeeper(text: string, max: number): boolean {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < text.length; i++) {
    const char = text.charCodeAt(i);
    if (inString) {
      if (char === CHAR.backslash) i++;
      else if (char === CHAR.quote) inString = false;
    } else if (char === CHAR.quote) inString = true;
    else if (char === CHAR.openBrace || char === CHAR.openBracket) {
      if (++depth > max) return true;
    } else if (char === CHAR.closeBrace || char === CHAR.closeBracket) depth--;
  }
  return false;
}
