/** COSE_Sign1 (RFC 9052 §4.2), untagged, payload embedded, unprotected header empty: every byte is under the signature or is the signature. */
import { TenzroError } from '#runtime/core/errors.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from './cbor.ts';
import { MLDSA65, verifyMlDsa65, type Signer } from './mldsa.ts';

/**
 * COSE header parameters: RFC 9052 table 3; `kccs`, a claims set that holds the signer's key, is 14 (RFC 9528 §10.6); CWT claims is 15 (RFC 9597).
 * `evidenceDigest` is ours, from the private range.
 */
export const COSE_HEADER = { alg: 1, kid: 4, kccs: 14, cwtClaims: 15, evidenceDigest: -65_601 } as const;
/** RFC 9964: ML-DSA-65. */
export const ALG_ML_DSA_65 = -49;
/** CWT claims, RFC 8392 §4. */
export const CWT_CLAIM = { iss: 1, sub: 2 } as const;
/** Claim `cnf` and its member COSE_Key: RFC 8747 §3.1. */
const CNF = { claim: 8, coseKey: 1 } as const;
/** COSE_Key of type AKP: RFC 9052 §7.1 table 4 and RFC 9964 §3. */
const KEY_PARAMETER = { kty: 1, alg: 3, pub: -1 } as const;
const KTY_AKP = 7;

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
  const protectedBytes = encodeProtected(header);
  return encodeCbor([protectedBytes, new Map(), payload, signer.sign(sigStructure(protectedBytes, payload))]);
}

/** The same, signed in another thread. */
export async function sign1Aside(signer: Signer, header: ReadonlyMap<number, Cbor>, payload: Uint8Array): Promise<Buffer> {
  const protectedBytes = encodeProtected(header);
  return encodeCbor([protectedBytes, new Map(), payload, await signer.signAside(sigStructure(protectedBytes, payload))]);
}

const encodeProtected = (header: ReadonlyMap<number, Cbor>): Buffer => encodeCbor(new Map<number, Cbor>([...header, [COSE_HEADER.alg, ALG_ML_DSA_65]]));

/** Protected header that carries the signer's ML-DSA-65 key, for a statement that travels without it: whoever pins the key's SHA-256 needs nothing else. */
export const signingKeyHeader = (publicKey: Uint8Array): ReadonlyMap<number, Cbor> => {
  const key = new Map<number, Cbor>([[KEY_PARAMETER.kty, KTY_AKP], [KEY_PARAMETER.alg, ALG_ML_DSA_65], [KEY_PARAMETER.pub, publicKey]]);
  return new Map<number, Cbor>([[COSE_HEADER.kccs, new Map<number, Cbor>([[CNF.claim, new Map<number, Cbor>([[CNF.coseKey, key]])]])]]);
};

/** The key in such a header, unjudged. Throws `cose.malformed` for any other header. */
export function signingKeyOf(header: ReadonlyMap<number, Cbor>): Uint8Array {
  const inner = (map: Cbor | undefined, key: number): Cbor | undefined => (map instanceof Map && map.size === 1 ? (map as ReadonlyMap<number, Cbor>).get(key) : undefined);
  const key = inner(inner(header.get(COSE_HEADER.kccs), CNF.claim), CNF.coseKey);
  const parameters = key instanceof Map && key.size === 3 ? (key as ReadonlyMap<number, Cbor>) : undefined;
  const publicKey = parameters?.get(KEY_PARAMETER.pub);
  const isAkp = parameters?.get(KEY_PARAMETER.kty) === KTY_AKP && parameters.get(KEY_PARAMETER.alg) === ALG_ML_DSA_65;
  if (header.size !== 2 || !isAkp || !(publicKey instanceof Uint8Array) || publicKey.length !== MLDSA65.publicKeyBytes) throw malformed('its protected header is not alg and one ML-DSA-65 key');
  return publicKey;
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
