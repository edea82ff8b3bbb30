/**
 * ML-KEM-768 (FIPS 203). Node's OpenSSL 3.5 does the work; @noble/post-quantum stands in where Node was built without it, and cross-checks it in the
 * tests. The persisted form of a key is its 64-byte seed d ‖ z.
 */
import { createPrivateKey, createPublicKey, decapsulate, encapsulate, type KeyObject } from 'node:crypto';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { nobleMlKem768 } from './noble.ts';

export const MLKEM768 = { seedBytes: 64, publicKeyBytes: 1184, ciphertextBytes: 1088, sharedSecretBytes: 32 } as const; // FIPS 203 tables 2 and 3, §7.1

export interface Encapsulated {
  /** 32 bytes; whoever is done with it zeroes it. */
  readonly sharedSecret: Uint8Array;
  readonly ciphertext: Uint8Array;
}

export interface MlKem768Key {
  /** FIPS 203 encapsulation key, 1184 bytes. */
  readonly publicKey: Uint8Array;
  /** Shared secret of 32 bytes. An altered ciphertext of the right length gives another secret, not an error (FIPS 203 §6.3). Throws `hpke.malformed`. */
  decapsulate(ciphertext: Uint8Array): Uint8Array;
}

/** PKCS#8 that holds only the seed: RFC 9935 §6, `[0] IMPLICIT OCTET STRING (SIZE (64))`. */
const PKCS8_SEED_PREFIX = Buffer.from('3054020100300b060960864801650304040204428040', 'hex');
/** SubjectPublicKeyInfo header for id-alg-ml-kem-768 (2.16.840.1.101.3.4.4.2), RFC 9935 §4. */
const SPKI_PREFIX = Buffer.from('308204b2300b0609608648016503040402038204a100', 'hex');

/** Throws `hpke.malformed` for a seed of another length. */
export function mlKem768OfSeed(seed: Uint8Array): MlKem768Key {
  expectLength('ML-KEM-768 seed', seed, MLKEM768.seedBytes);
  return nativeKey(seed) ?? nobleMlKem768OfSeed(seed);
}

/** Throws `hpke.malformed` for a wrong length and for a key that fails FIPS 203 §7.2's modulus check. */
export function encapsulateMlKem768(publicKey: Uint8Array): Encapsulated {
  expectLength('ML-KEM-768 public key', publicKey, MLKEM768.publicKeyBytes);
  if (!hasNative()) return nobleEncapsulateMlKem768(publicKey);
  try {
    const key = createPublicKey({ key: Buffer.concat([SPKI_PREFIX, publicKey]), format: 'der', type: 'spki' });
    const { sharedKey, ciphertext } = encapsulate(key);
    return { sharedSecret: sharedKey, ciphertext };
  } catch (cause) {
    throw malformed(`ML-KEM-768 public key: ${messageOf(cause)}`, cause);
  }
}

function nativeKey(seed: Uint8Array): MlKem768Key | undefined {
  const key = nativePrivateKey(seed);
  if (!key) return undefined;
  const publicKey = Buffer.from(createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(SPKI_PREFIX.length));
  return { publicKey, decapsulate: (ciphertext) => decapsulate(key, expectLength('ML-KEM-768 ciphertext', ciphertext, MLKEM768.ciphertextBytes)) };
}

/** Undefined where this Node's OpenSSL lacks ML-KEM. */
function nativePrivateKey(seed: Uint8Array): KeyObject | undefined {
  const der = Buffer.concat([PKCS8_SEED_PREFIX, seed]);
  try {
    return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  } catch {
    return undefined; // any 64 bytes are a seed: only the algorithm can be missing
  } finally {
    der.fill(0);
  }
}

let native: boolean | undefined;
const hasNative = (): boolean => (native ??= nativePrivateKey(new Uint8Array(MLKEM768.seedBytes)) !== undefined);

/** Without OpenSSL: some twenty times slower. Throws as `mlKem768OfSeed` does. */
export function nobleMlKem768OfSeed(seed: Uint8Array): MlKem768Key {
  expectLength('ML-KEM-768 seed', seed, MLKEM768.seedBytes);
  const kem = nobleMlKem768();
  const { publicKey, secretKey } = kem.keygen(Uint8Array.from(seed));
  return {
    publicKey,
    decapsulate: (ciphertext) => kem.decapsulate(Uint8Array.from(expectLength('ML-KEM-768 ciphertext', ciphertext, MLKEM768.ciphertextBytes)), secretKey),
  };
}

/** Without OpenSSL. Throws as `encapsulateMlKem768` does. */
export function nobleEncapsulateMlKem768(publicKey: Uint8Array): Encapsulated {
  expectLength('ML-KEM-768 public key', publicKey, MLKEM768.publicKeyBytes);
  try {
    const { sharedSecret, cipherText } = nobleMlKem768().encapsulate(Uint8Array.from(publicKey));
    return { sharedSecret, ciphertext: cipherText };
  } catch (cause) {
    throw malformed(`ML-KEM-768 public key: ${messageOf(cause)}`, cause);
  }
}

/** The same bytes, when there are as many as there must be. Throws `hpke.malformed`. */
export function expectLength(what: string, bytes: Uint8Array, sizeBytes: number): Uint8Array {
  if (bytes.length !== sizeBytes) throw malformed(`${what}: ${bytes.length} bytes, not ${sizeBytes}`);
  return bytes;
}

const malformed = (message: string, cause?: unknown): TenzroError => new TenzroError('hpke.malformed', message, { cause });
