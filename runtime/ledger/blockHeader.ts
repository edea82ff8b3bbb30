/** The protected header of a block's COSE_Sign1, written by the sealer and read by the verifier. Pure codec; reference: docs/reference/block-format.md. */
import { TenzroError } from '#runtime/core/errors.ts';
import { toHex } from '#runtime/core/bytes.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { ALG_ML_DSA_65, COSE_HEADER, CWT_CLAIM } from '#runtime/crypto/cose.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { HASH_BYTES } from './block.ts';

export interface BlockHeader {
  /** `keyIdOf` the signing key. */
  readonly keyId: Uint8Array;
  /** Gateway id: CWT claim `iss`. */
  readonly device: string;
  /** CWT claim `sub`, where it stands as lower-case hex. */
  readonly chainId: Uint8Array;
  /** SHA-256 of the evidence bytes. */
  readonly evidenceDigest: Uint8Array;
}

/** `kid`: SHA-256 of the raw ML-DSA public key. */
export const keyIdOf = (signingKey: Uint8Array): Buffer => sha256(signingKey);

/** For `sign1`, which adds `alg`. */
export function encodeBlockHeader(header: BlockHeader): ReadonlyMap<number, Cbor> {
  return new Map<number, Cbor>([
    [COSE_HEADER.kid, header.keyId],
    [COSE_HEADER.cwtClaims, new Map<number, Cbor>([[CWT_CLAIM.iss, header.device], [CWT_CLAIM.sub, toHex(header.chainId)]])],
    [COSE_HEADER.evidenceDigest, header.evidenceDigest],
  ]);
}

/** Throws `block.malformed`; exactly the parameters and claims above are accepted. */
export function decodeBlockHeader(header: ReadonlyMap<number, Cbor>): BlockHeader {
  const keyId = header.get(COSE_HEADER.kid);
  const claims = header.get(COSE_HEADER.cwtClaims);
  const evidenceDigest = header.get(COSE_HEADER.evidenceDigest);
  if (header.size !== 4 || header.get(COSE_HEADER.alg) !== ALG_ML_DSA_65) throw malformed('its parameters are not alg ML-DSA-65, kid, CWT claims and evidence digest');
  if (!(keyId instanceof Uint8Array) || keyId.length !== HASH_BYTES) throw malformed('kid is not a SHA-256');
  if (!(evidenceDigest instanceof Uint8Array) || evidenceDigest.length !== HASH_BYTES) throw malformed('the evidence digest is not a SHA-256');
  if (!(claims instanceof Map) || claims.size !== 2) throw malformed('the CWT claims are not iss and sub');
  const device = (claims as ReadonlyMap<number, Cbor>).get(CWT_CLAIM.iss);
  const subject = (claims as ReadonlyMap<number, Cbor>).get(CWT_CLAIM.sub);
  if (typeof device !== 'string' || typeof subject !== 'string' || !/^[0-9a-f]{64}$/.test(subject)) throw malformed('iss is not text, or sub is not a chain id in hex');
  return { keyId, device, chainId: Buffer.from(subject, 'hex'), evidenceDigest };
}

const malformed = (why: string): TenzroError => new TenzroError('block.malformed', `block header: ${why}`);
