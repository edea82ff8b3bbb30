/** The authority that approves boot states: a P-256 key, as TPM2_PolicyAuthorize takes one. Its public form here is x ‖ y, its private form the scalar. */
import { createECDH, createPrivateKey, createPublicKey, sign, verify, type KeyObject } from 'node:crypto';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';

export const AUTHORITY = { scalarBytes: 32, publicBytes: 64, signatureBytes: 64 } as const;

const CURVE = 'prime256v1';
const COORDINATE_BYTES = 32;

export const newAuthorityScalar = (): Buffer => {
  const pair = createECDH(CURVE);
  pair.generateKeys();
  const scalar = pair.getPrivateKey();
  return Buffer.concat([Buffer.alloc(COORDINATE_BYTES - scalar.length), scalar]); // OpenSSL drops leading zeros
};

/** `scalar` may be zeroed after the call. Throws `identity.authority` for zero and for what exceeds the order of the curve. */
export function authorityOfScalar(scalar: Uint8Array): KeyObject {
  try {
    const pair = createECDH(CURVE);
    pair.setPrivateKey(scalar);
    const point = pair.getPublicKey();
    const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url');
    return createPrivateKey({ format: 'jwk', key: { kty: 'EC', crv: 'P-256', d: text(scalar), x: text(point.subarray(1, 1 + COORDINATE_BYTES)), y: text(point.subarray(1 + COORDINATE_BYTES)) } });
  } catch (cause) {
    throw new TenzroError('identity.authority', 'not a private key of P-256', { cause });
  }
}

/** A key as its owner keeps it. `kind`: the private one signs approvals, the public one goes to the gateway. Throws `identity.authority`. */
export function authorityOfPem(pem: string, kind: 'private' | 'public'): KeyObject {
  let key: KeyObject;
  try {
    key = kind === 'private' ? createPrivateKey(pem) : createPublicKey(pem);
  } catch (cause) {
    throw new TenzroError('identity.authority', `not a ${kind} key in PEM: ${messageOf(cause)}`, { cause });
  }
  if (key.asymmetricKeyType !== 'ec' || key.asymmetricKeyDetails?.namedCurve !== CURVE) throw new TenzroError('identity.authority', 'the key is not of the curve P-256');
  return key;
}

/** x ‖ y of a private or public key. */
export function authorityPoint(key: KeyObject): Buffer {
  const { x = '', y = '' } = (key.type === 'private' ? createPublicKey(key) : key).export({ format: 'jwk' });
  return Buffer.concat([Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]);
}

/** ECDSA with SHA-256: r ‖ s. */
export const signAsAuthority = (key: KeyObject, message: Uint8Array): Buffer => sign('sha256', message, { key, dsaEncoding: 'ieee-p1363' });

/** False also for a point that is not on the curve and a signature of the wrong length. */
export function isAuthoritysWord(point: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (point.length !== AUTHORITY.publicBytes || signature.length !== AUTHORITY.signatureBytes) return false;
  const text = (from: number): string => Buffer.from(point.subarray(from, from + COORDINATE_BYTES)).toString('base64url');
  try {
    const key = createPublicKey({ format: 'jwk', key: { kty: 'EC', crv: 'P-256', x: text(0), y: text(COORDINATE_BYTES) } });
    return verify('sha256', message, { key, dsaEncoding: 'ieee-p1363' }, signature);
  } catch {
    return false; // no such point
  }
}
