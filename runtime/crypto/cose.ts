/** COSE_Sign1 (RFC 9052 §4.2), untagged, payload embedded, unprotected header empty: every byte is under the signature or is the signature. */
import { TenzroError } from '#runtime/core/errors.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from './cbor.ts';
import { verifyMlDsa65, type Signer } from './mldsa.ts';

/** COSE header parameters: RFC 9052 table 3; CWT claims is 15 (RFC 9597). `evidenceDigest` is ours, from the private range. */
export const COSE_HEADER = { alg: 1, kid: 4, cwtClaims: 15, evidenceDigest: -65_601 } as const;
/** RFC 9964: ML-DSA-65. */
export const ALG_ML_DSA_65 = -49;
/** CWT claims, RFC 8392 §4. */
export const CWT_CLAIM = { iss: 1, sub: 2 } as const;

export interface Sign1 {
  readonly header: ReadonlyMap<number, Cbor>;
  readonly payload: Uint8Array;
  readonly signature: Uint8Array;
  readonly toBeSigned: Uint8Array;
}

/** `Sig_structure` of RFC 9052 §4.4 with empty external_aad. */
const sigStructure = (protectedBytes: Uint8Array, payload: Uint8Array): Buffer =>
  encodeCbor(['Signature1', protectedBytes, new Uint8Array(0), payload]);

export function sign1(signer: Signer, header: ReadonlyMap<number, Cbor>, payload: Uint8Array): Buffer {
  const protectedBytes = encodeCbor(new Map<number, Cbor>([...header, [COSE_HEADER.alg, ALG_ML_DSA_65]]));
  const signature = signer.sign(sigStructure(protectedBytes, payload));
  return encodeCbor([protectedBytes, new Map(), payload, signature]);
}

/** Parses without judging the signature. Throws `cose.malformed` or `cbor.malformed`. */
export function parseSign1(bytes: Uint8Array): Sign1 {
  const parts = decodeCbor(bytes);
  if (!Array.isArray(parts) || parts.length !== 4) throw malformed('not an array of four');
  const [protectedBytes, unprotected, payload, signature] = parts as readonly Cbor[];
  if (!(protectedBytes instanceof Uint8Array) || !(payload instanceof Uint8Array) || !(signature instanceof Uint8Array)) throw malformed('a field is not a byte string');
  if (!(unprotected instanceof Map) || unprotected.size !== 0) throw malformed('the unprotected header is not empty');
  const header = decodeCbor(protectedBytes);
  if (!(header instanceof Map)) throw malformed('the protected header is not a map');
  return { header: header as ReadonlyMap<number, Cbor>, payload, signature, toBeSigned: sigStructure(protectedBytes, payload) };
}

export function verifySign1(message: Sign1, publicKey: Uint8Array): boolean {
  return message.header.get(COSE_HEADER.alg) === ALG_ML_DSA_65 && verifyMlDsa65(publicKey, message.toBeSigned, message.signature);
}

const malformed = (why: string): TenzroError => new TenzroError('cose.malformed', `COSE_Sign1: ${why}`);
