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
  /** Entries under the last appraised block; 0 at first sight. The answer must prove that the log grew from there. */
  readonly treeSize: number;
}

export interface AppraisalRequest {
  readonly nonce: Uint8Array;
  /** A proof bundle whose head was sealed over the nonce. */
  readonly bundle: Uint8Array;
  /** RFC 9162 §2.1.4.1 proof from the challenge's tree size to the head's. */
  readonly consistency: readonly Uint8Array[];
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

const KEY = { chainId: 1, nonce: 2, treeSize: 3, bundle: 4, consistency: 5, code: 6, message: 7, checks: 8 } as const;
/** RFC 9162 §2.1.4: at most two hashes per level of a tree below 2^53 leaves. */
const CONSISTENCY_HASHES_MAX = 106;
const CHECKS_MAX = 128;
/** CBOR items of the largest message; a bundle is one byte string of it. */
const ITEMS_MAX = 8 + 4 * CHECKS_MAX;
const RESULTS: readonly VerdictResult[] = ['pass', 'fail', 'unknown', 'skipped'];

export const encodeChallengeRequest = (chainId: Uint8Array): Buffer => encodeCbor(new Map<number, Cbor>([[KEY.chainId, chainId]]));
export const decodeChallengeRequest = (bytes: Uint8Array): Uint8Array => hashOf(fieldsOf(bytes, [KEY.chainId]).get(KEY.chainId));

export const encodeChallenge = ({ nonce, treeSize }: Challenge): Buffer => encodeCbor(new Map<number, Cbor>([[KEY.nonce, nonce], [KEY.treeSize, treeSize]]));
export function decodeChallenge(bytes: Uint8Array): Challenge {
  const fields = fieldsOf(bytes, [KEY.nonce, KEY.treeSize]);
  const treeSize = fields.get(KEY.treeSize);
  if (typeof treeSize !== 'number' || !Number.isSafeInteger(treeSize) || treeSize < 0) throw malformed('the tree size is not a count');
  return { nonce: bytesOf(fields.get(KEY.nonce), NONCE_BYTES), treeSize };
}

export const encodeAppraisalRequest = ({ nonce, bundle, consistency }: AppraisalRequest): Buffer =>
  encodeCbor(new Map<number, Cbor>([[KEY.nonce, nonce], [KEY.bundle, bundle], [KEY.consistency, [...consistency]]]));
export function decodeAppraisalRequest(bytes: Uint8Array): AppraisalRequest {
  const fields = fieldsOf(bytes, [KEY.nonce, KEY.bundle, KEY.consistency]);
  const path = fields.get(KEY.consistency);
  if (!Array.isArray(path) || path.length > CONSISTENCY_HASHES_MAX) throw malformed(`the consistency proof is not a list of at most ${CONSISTENCY_HASHES_MAX} hashes`);
  return { nonce: bytesOf(fields.get(KEY.nonce), NONCE_BYTES), bundle: bytesOf(fields.get(KEY.bundle)), consistency: (path as readonly Cbor[]).map(hashOf) };
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

/** Throws `verifier.request` for anything but a map of exactly these keys. */
function fieldsOf(bytes: Uint8Array, keys: readonly number[]): ReadonlyMap<number, Cbor> {
  if (countItems([bytes]) > ITEMS_MAX) throw malformed(`more than ${ITEMS_MAX} CBOR items`);
  let map: Cbor;
  try {
    map = decodeCbor(bytes);
  } catch (cause) {
    throw new TenzroError('verifier.request', 'the message is not deterministic CBOR', { cause });
  }
  if (!(map instanceof Map) || map.size !== keys.length || !keys.every((key) => map.has(key))) throw malformed(`not a map of the keys ${keys.join(', ')}`);
  return map as ReadonlyMap<number, Cbor>;
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
