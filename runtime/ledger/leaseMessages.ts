/** What gateway and verifier say to each other about a lease, over HTTPS. Pure codec of deterministic CBOR; docs/reference/lease.md is its reference. */
import { TenzroError } from '#runtime/core/errors.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { HASH_BYTES } from './block.ts';
import { countItems } from './bundle.ts';
import type { VerdictResult } from './lease.ts';

/** Paths below the verifier's URL. */
export const LEASE_PATH = { challenge: '/v1/challenge', appraise: '/v1/appraise', enrolBegin: '/v1/enrol/begin', enrolFinish: '/v1/enrol/finish', status: '/v1/status' } as const;
export const CBOR_MEDIA_TYPE = 'application/cbor';
export const NONCE_BYTES = 32;

/** Asked for with the chain id; answered with a nonce and what the verifier remembers of the chain. */
export interface Challenge {
  readonly nonce: Uint8Array;
  /** Sequence of the last appraised block; absent at first sight. The answer must show that the chain grew from there. */
  readonly seen?: number;
}

export interface AppraisalRequest {
  readonly nonce: Uint8Array;
  /** A proof bundle whose head was sealed over the nonce. */
  readonly bundle: Uint8Array;
}

export interface CheckLine {
  readonly code: string;
  readonly result: VerdictResult;
  readonly detail: string;
}

/** Why there is no lease: an error's code and message, and after an appraisal every check. */
export interface Refusal {
  readonly code: string;
  readonly message: string;
  readonly checks: readonly CheckLine[];
}

const KEY = { chainId: 1, nonce: 2, seen: 3, bundle: 4, code: 5, message: 6, checks: 7 } as const;
const CHECKS_MAX = 128;
/** CBOR items of the largest message; a bundle is one byte string of it. */
const ITEMS_MAX = 8 + 4 * CHECKS_MAX;
const RESULTS: readonly VerdictResult[] = ['pass', 'fail', 'unknown', 'skipped'];

export const encodeChallengeRequest = (chainId: Uint8Array): Buffer => encodeCbor(new Map<number, Cbor>([[KEY.chainId, chainId]]));
export const decodeChallengeRequest = (bytes: Uint8Array): Uint8Array => hashOf(fieldsOf(bytes, [KEY.chainId]).get(KEY.chainId));

export const encodeChallenge = ({ nonce, seen }: Challenge): Buffer =>
  encodeCbor(new Map<number, Cbor>([[KEY.nonce, nonce], ...(seen === undefined ? [] : [[KEY.seen, seen] as const])]));
export function decodeChallenge(bytes: Uint8Array): Challenge {
  const fields = fieldsOf(bytes, [KEY.nonce], [KEY.seen]);
  const seen = fields.get(KEY.seen);
  if (seen !== undefined && (typeof seen !== 'number' || !Number.isSafeInteger(seen) || seen < 0)) throw malformed('the last block seen is not a sequence');
  return { nonce: bytesOf(fields.get(KEY.nonce), NONCE_BYTES), ...(seen === undefined ? {} : { seen }) };
}

export const encodeAppraisalRequest = ({ nonce, bundle }: AppraisalRequest): Buffer => encodeCbor(new Map<number, Cbor>([[KEY.nonce, nonce], [KEY.bundle, bundle]]));
export function decodeAppraisalRequest(bytes: Uint8Array): AppraisalRequest {
  const fields = fieldsOf(bytes, [KEY.nonce, KEY.bundle]);
  return { nonce: bytesOf(fields.get(KEY.nonce), NONCE_BYTES), bundle: bytesOf(fields.get(KEY.bundle)) };
}

export const encodeRefusal = ({ code, message, checks }: Refusal): Buffer =>
  encodeCbor(new Map<number, Cbor>([[KEY.code, code], [KEY.message, message], [KEY.checks, checks.map((check) => [check.code, RESULTS.indexOf(check.result), check.detail])]]));
export function decodeRefusal(bytes: Uint8Array): Refusal {
  const fields = fieldsOf(bytes, [KEY.code, KEY.message, KEY.checks]);
  const lines = fields.get(KEY.checks);
  if (!Array.isArray(lines) || lines.length > CHECKS_MAX) throw malformed(`not a list of at most ${CHECKS_MAX} checks`);
  return { code: textOf(fields.get(KEY.code)), message: textOf(fields.get(KEY.message)), checks: (lines as readonly Cbor[]).map(decodeLine) };
}

function decodeLine(value: Cbor): CheckLine {
  const [code, number, detail] = Array.isArray(value) ? (value as readonly Cbor[]) : [];
  const result = typeof number === 'number' ? RESULTS[number] : undefined;
  if (!result) throw malformed('a check has no result');
  return { code: textOf(code), result, detail: textOf(detail) };
}

/** Throws `verifier.request` for anything but a map of these keys. */
function fieldsOf(bytes: Uint8Array, keys: readonly number[], optional: readonly number[] = []): ReadonlyMap<number, Cbor> {
  if (countItems([bytes]) > ITEMS_MAX) throw malformed(`more than ${ITEMS_MAX} CBOR items`);
  let map: Cbor;
  try {
    map = decodeCbor(bytes);
  } catch (cause) {
    throw new TenzroError('verifier.request', 'the message is not deterministic CBOR', { cause });
  }
  const fields = map instanceof Map ? (map as ReadonlyMap<number, Cbor>) : new Map<number, Cbor>();
  const known = fields.keys().every((key) => keys.includes(key) || optional.includes(key));
  if (!known || !keys.every((key) => fields.has(key))) throw malformed(`not a map of the keys ${keys.join(', ')}`);
  return fields;
}

const hashOf = (value: Cbor | undefined): Uint8Array => bytesOf(value, HASH_BYTES);
function bytesOf(value: Cbor | undefined, length?: number): Uint8Array {
  if (!(value instanceof Uint8Array) || (length !== undefined && value.length !== length)) throw malformed(`a field is not ${length === undefined ? 'a byte string' : `${length} bytes`}`);
  return value;
}
function textOf(value: Cbor | undefined): string {
  if (typeof value !== 'string') throw malformed('a field is not text');
  return value;
}

const malformed = (why: string): TenzroError => new TenzroError('verifier.request', `lease message: ${why}`);
