/**
 * X-Wing (draft-connolly-cfrg-xwing-kem): X25519 and ML-KEM-768 in one key encapsulation, secure as long as either holds. Sections are those of the draft.
 * The private key is its 32-byte seed.
 */
import { createHash, createPrivateKey, createPublicKey, diffieHellman, generateKeyPairSync, randomBytes, type KeyObject } from 'node:crypto';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { encapsulateMlKem768, expectLength, MLKEM768, mlKem768OfSeed, type Encapsulated } from './mlkem.ts';

export const XWING = { seedBytes: 32, publicKeyBytes: 1216, ciphertextBytes: 1120 } as const; // §5.3

export interface ExchangeKey {
  /** ML-KEM-768 key ‖ X25519 key, 1216 bytes. */
  readonly publicKey: Uint8Array;
  /** Shared secret of 32 bytes; an altered ciphertext gives another one. Throws `hpke.malformed` for a wrong length and for an X25519 point of low order. */
  decapsulate(ciphertext: Uint8Array): Uint8Array;
}

/** §5.3: `\./` over `/^\`. */
const LABEL = Buffer.from('5c2e2f2f5e5c', 'hex');
const X25519_BYTES = 32;
/** RFC 8410 §7 and §4: PKCS#8 and SubjectPublicKeyInfo around 32 raw bytes. */
const X25519_PKCS8_PREFIX = Buffer.from('302e020100300506032b656e04220420', 'hex');
const X25519_SPKI_PREFIX = Buffer.from('302a300506032b656e032100', 'hex');

export const newExchangeSeed = (): Buffer => randomBytes(XWING.seedBytes);

/** §5.2. `seed` may be zeroed after the call. Throws `hpke.malformed` for a seed of another length. */
export function exchangeKeyOfSeed(seed: Uint8Array): ExchangeKey {
  expectLength('X-Wing seed', seed, XWING.seedBytes);
  const expanded = createHash('shake256', { outputLength: MLKEM768.seedBytes + X25519_BYTES }).update(seed).digest();
  const mlkem = mlKem768OfSeed(expanded.subarray(0, MLKEM768.seedBytes));
  const x25519 = x25519PrivateKey(expanded.subarray(MLKEM768.seedBytes));
  expanded.fill(0);
  const x25519Public = rawX25519(createPublicKey(x25519));
  return {
    publicKey: Buffer.concat([mlkem.publicKey, x25519Public]),
    decapsulate: (ciphertext) => {
      expectLength('X-Wing ciphertext', ciphertext, XWING.ciphertextBytes);
      const [mlkemPart, x25519Part] = split(ciphertext, MLKEM768.ciphertextBytes);
      return combine(mlkem.decapsulate(mlkemPart), agree(x25519, x25519Part), x25519Part, x25519Public);
    },
  };
}

/** §5.4. Throws `hpke.malformed` for a wrong length, and for a key whose parts are none. */
export function encapsulateXWing(publicKey: Uint8Array): Encapsulated {
  expectLength('X-Wing public key', publicKey, XWING.publicKeyBytes);
  const [mlkemKey, x25519Key] = split(publicKey, MLKEM768.publicKeyBytes);
  const mlkem = encapsulateMlKem768(mlkemKey);
  const ephemeral = generateKeyPairSync('x25519');
  const x25519Part = rawX25519(ephemeral.publicKey);
  return { sharedSecret: combine(mlkem.sharedSecret, agree(ephemeral.privateKey, x25519Key), x25519Part, x25519Key), ciphertext: Buffer.concat([mlkem.ciphertext, x25519Part]) };
}

/** §5.3, Combiner. Zeroes both secrets. */
function combine(mlkemSecret: Uint8Array, x25519Secret: Uint8Array, x25519Ciphertext: Uint8Array, x25519Public: Uint8Array): Buffer {
  const secret = createHash('sha3-256').update(mlkemSecret).update(x25519Secret).update(x25519Ciphertext).update(x25519Public).update(LABEL).digest();
  mlkemSecret.fill(0);
  x25519Secret.fill(0);
  return secret;
}

/** OpenSSL refuses the points of low order, where the result would be zero (RFC 7748 §6.1). */
function agree(privateKey: KeyObject, publicKey: Uint8Array): Buffer {
  try {
    return diffieHellman({ privateKey, publicKey: createPublicKey({ key: Buffer.concat([X25519_SPKI_PREFIX, publicKey]), format: 'der', type: 'spki' }) });
  } catch (cause) {
    throw new TenzroError('hpke.malformed', `X25519: ${messageOf(cause)}`, { cause });
  }
}

function x25519PrivateKey(scalar: Uint8Array): KeyObject {
  const der = Buffer.concat([X25519_PKCS8_PREFIX, scalar]);
  try {
    return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  } finally {
    der.fill(0);
  }
}

const rawX25519 = (key: KeyObject): Buffer => Buffer.from(key.export({ format: 'der', type: 'spki' }).subarray(X25519_SPKI_PREFIX.length));
const split = (bytes: Uint8Array, at: number): readonly [Uint8Array, Uint8Array] => [bytes.subarray(0, at), bytes.subarray(at)];
