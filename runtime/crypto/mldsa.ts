/**
 * ML-DSA-65 (FIPS 204) with an empty context, as COSE alg −49 uses it (RFC 9964). Node's OpenSSL 3.5 does the work; @noble/post-quantum stands in
 * where Node was built without it, and cross-checks it in the tests. The persisted form of a key is its 32-byte seed ξ.
 */
import { createPrivateKey, createPublicKey, randomBytes, sign, verify, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import { invariant } from '#runtime/core/errors.ts';
import { nobleMlDsa65 } from './noble.ts';

export const MLDSA65 = { seedBytes: 32, publicKeyBytes: 1952, signatureBytes: 3309 } as const; // FIPS 204 table 2

export interface Signer {
  /** Raw FIPS 204 public key, 1952 bytes. */
  readonly publicKey: Uint8Array;
  /** The key for TLS and X.509; absent where Node was built without ML-DSA. */
  readonly privateKey?: KeyObject;
  /** Hedged signature over `message`, 3309 bytes. */
  sign(message: Uint8Array): Uint8Array;
  /** The same in another thread, where Node has one: about a millisecond in which this one goes on. `message` must not change meanwhile. */
  signAside(message: Uint8Array): Promise<Uint8Array>;
}

const signInPool = promisify(sign);

export const newSeed = (): Buffer => randomBytes(MLDSA65.seedBytes);

export function signerOfSeed(seed: Uint8Array): Signer {
  invariant(seed.length === MLDSA65.seedBytes, `an ML-DSA seed has ${MLDSA65.seedBytes} bytes, not ${seed.length}`);
  return nativeSigner(seed) ?? nobleSigner(seed);
}

/** PKCS#8 `OneAsymmetricKey` that holds only the seed: RFC 9881 §6, `[0] IMPLICIT OCTET STRING (SIZE (32))`. */
const PKCS8_SEED_PREFIX = Buffer.from('3034020100300b060960864801650304031204228020', 'hex');
/** SubjectPublicKeyInfo header for id-ml-dsa-65 (2.16.840.1.101.3.4.3.18), RFC 9881 §4. */
const SPKI_PREFIX = Buffer.from('308207b2300b0609608648016503040312038207a100', 'hex');

/** SubjectPublicKeyInfo, DER, of a raw public key. */
export const spkiOfMlDsa65 = (publicKey: Uint8Array): Buffer => Buffer.concat([SPKI_PREFIX, publicKey]);

/** The same key for TLS and for certificates; undefined where this Node's OpenSSL lacks ML-DSA. */
export function mlDsa65PrivateKey(seed: Uint8Array): KeyObject | undefined {
  const der = Buffer.concat([PKCS8_SEED_PREFIX, seed]);
  try {
    return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  } catch {
    return undefined; // any 32 bytes are a seed: only the algorithm can be missing
  } finally {
    der.fill(0);
  }
}

function nativeSigner(seed: Uint8Array): Signer | undefined {
  const key = mlDsa65PrivateKey(seed);
  if (!key) return undefined;
  const spki = createPublicKey(key).export({ format: 'der', type: 'spki' });
  const publicKey = Buffer.from(spki.subarray(SPKI_PREFIX.length));
  return { publicKey, privateKey: key, sign: (message) => sign(null, message, key), signAside: (message) => signInPool(null, message, key) };
}

export function nobleSigner(seed: Uint8Array): Signer {
  const mlDsa65 = nobleMlDsa65();
  const pair = mlDsa65.keygen(Uint8Array.from(seed));
  const signNow = (message: Uint8Array): Uint8Array => mlDsa65.sign(Uint8Array.from(message), pair.secretKey);
  return { publicKey: pair.publicKey, sign: signNow, signAside: async (message) => signNow(message) };
}

/** Raw public key of an ML-DSA-65 key, 1952 bytes; undefined for any other key. */
export function rawPublicKeyOf(key: KeyObject): Buffer | undefined {
  if (key.asymmetricKeyType !== 'ml-dsa-65') return undefined;
  return Buffer.from(key.export({ format: 'der', type: 'spki' }).subarray(SPKI_PREFIX.length));
}

/** False for a wrong signature and for keys or signatures of the wrong length; never throws on hostile bytes. */
export function verifyMlDsa65(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (publicKey.length !== MLDSA65.publicKeyBytes || signature.length !== MLDSA65.signatureBytes) return false;
  let key: KeyObject;
  try {
    key = createPublicKey({ key: Buffer.concat([SPKI_PREFIX, publicKey]), format: 'der', type: 'spki' });
  } catch {
    return nobleVerifyMlDsa65(publicKey, message, signature);
  }
  return verify(null, message, key, signature);
}

/** Without OpenSSL: seven times slower, for a Node built without ML-DSA and as a cross-check. False for wrong lengths. */
export function nobleVerifyMlDsa65(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (publicKey.length !== MLDSA65.publicKeyBytes || signature.length !== MLDSA65.signatureBytes) return false;
  return nobleMlDsa65().verify(Uint8Array.from(signature), Uint8Array.from(message), Uint8Array.from(publicKey));
}
