/** What the hardware said about one block. Pure codec; the digest of these bytes stands in the block's protected header. */
import { TenzroError } from '#runtime/core/errors.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { HASH_BYTES } from './block.ts';

/** A TPM's statement: the attestation exactly as it came, and its TPMT_SIGNATURE. */
export interface Attestation {
  /** TPMS_ATTEST, raw. */
  readonly attest: Uint8Array;
  /** TPMT_SIGNATURE, raw. */
  readonly signature: Uint8Array;
}

export interface TpmEvidence {
  readonly kind: 'tpm2';
  readonly quote: Attestation;
  /** The quoted SHA-256 PCRs, ascending: [index, value]. The quote's digest covers them. */
  readonly pcrs: readonly (readonly [number, Uint8Array])[];
  /** NV counter under the same `h`: at a boot's first block, at orderly shutdown and every ten minutes. */
  readonly counter?: Attestation & { /** TPMS_NV_PUBLIC, raw: pins the counter's name. */ readonly nvPublic: Uint8Array };
}

export interface NoEvidence {
  readonly kind: 'none';
  readonly reason: string;
}

export type Evidence = TpmEvidence | NoEvidence;

const KEY = { kind: 1, quote: 2, quoteSignature: 3, pcrs: 4, counter: 5, counterSignature: 6, counterPublic: 7, reason: 8 } as const;
const KIND_NUMBER = { none: 0, tpm2: 1 } as const;

export function encodeEvidence(evidence: Evidence): Buffer {
  if (evidence.kind === 'none') return encodeCbor(new Map<number, Cbor>([[KEY.kind, KIND_NUMBER.none], [KEY.reason, evidence.reason]]));
  const map = new Map<number, Cbor>([
    [KEY.kind, KIND_NUMBER.tpm2], [KEY.quote, evidence.quote.attest], [KEY.quoteSignature, evidence.quote.signature],
    [KEY.pcrs, evidence.pcrs.map(([index, value]) => [index, value])],
  ]);
  if (evidence.counter) {
    map.set(KEY.counter, evidence.counter.attest);
    map.set(KEY.counterSignature, evidence.counter.signature);
    map.set(KEY.counterPublic, evidence.counter.nvPublic);
  }
  return encodeCbor(map);
}

/** Throws `block.malformed` or `cbor.malformed`; unknown keys and unsorted PCRs are refused. */
export function decodeEvidence(bytes: Uint8Array): Evidence {
  const map = decodeCbor(bytes);
  if (!(map instanceof Map)) throw malformed('not a map');
  const fields = map as ReadonlyMap<number, Cbor>;
  const expect = (keys: readonly number[]): void => {
    if (fields.size !== keys.length || !keys.every((key) => fields.has(key))) throw malformed('keys do not fit the kind');
  };
  if (fields.get(KEY.kind) === KIND_NUMBER.none) {
    expect([KEY.kind, KEY.reason]);
    const reason = fields.get(KEY.reason);
    if (typeof reason !== 'string') throw malformed('the reason is not text');
    return { kind: 'none', reason };
  }
  if (fields.get(KEY.kind) !== KIND_NUMBER.tpm2) throw malformed('unknown kind');
  const base = [KEY.kind, KEY.quote, KEY.quoteSignature, KEY.pcrs];
  const hasCounter = fields.has(KEY.counter);
  expect(hasCounter ? [...base, KEY.counter, KEY.counterSignature, KEY.counterPublic] : base);
  const bytesOf = (key: number): Uint8Array => {
    const value = fields.get(key);
    if (!(value instanceof Uint8Array)) throw malformed(`field ${key} is not a byte string`);
    return value;
  };
  return {
    kind: 'tpm2',
    quote: { attest: bytesOf(KEY.quote), signature: bytesOf(KEY.quoteSignature) },
    pcrs: decodePcrs(fields.get(KEY.pcrs)),
    ...(hasCounter ? { counter: { attest: bytesOf(KEY.counter), signature: bytesOf(KEY.counterSignature), nvPublic: bytesOf(KEY.counterPublic) } } : {}),
  };
}

function decodePcrs(value: Cbor | undefined): readonly (readonly [number, Uint8Array])[] {
  if (!Array.isArray(value)) throw malformed('PCRs are not a list');
  let last = -1;
  return (value as readonly Cbor[]).map((pair) => {
    const [index, pcr] = Array.isArray(pair) ? (pair as readonly Cbor[]) : [];
    if (typeof index !== 'number' || index <= last || !(pcr instanceof Uint8Array) || pcr.length !== HASH_BYTES || (pair as readonly Cbor[]).length !== 2) {
      throw malformed('PCRs must be ascending pairs of index and 32 bytes');
    }
    last = index;
    return [index, pcr] as const;
  });
}

const malformed = (why: string): TenzroError => new TenzroError('block.malformed', `evidence: ${why}`);
