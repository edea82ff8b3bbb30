/** Owner and operator keys at rest: the ML-DSA-65 seed under a passphrase; the public half beside it as PEM. */
import { createPublicKey } from 'node:crypto';
import { TenzroError, invariant } from '#runtime/core/errors.ts';
import { MLDSA65, newSeed, signerOfSeed } from './mldsa.ts';
import { openUnderPassphrase, sealUnderPassphrase } from './passphraseBox.ts';

const LABEL = 'TENZRO ENCRYPTED OWNER KEY';

export interface OwnerKeyFiles {
  /** PEM, encrypted. */
  readonly privatePem: string;
  /** PEM, SubjectPublicKeyInfo. */
  readonly publicPem: string;
  /** Raw FIPS 204 key, 1952 bytes. */
  readonly publicKey: Uint8Array;
}

/** A new key. The caller zeroes the passphrase. */
export function newOwnerKey(passphrase: Uint8Array): OwnerKeyFiles {
  const seed = newSeed();
  try {
    const { publicKey, privateKey } = signerOfSeed(seed);
    invariant(privateKey, 'writing an ML-DSA key needs a Node that has ML-DSA');
    return { privatePem: encryptOwnerKey(seed, passphrase), publicPem: createPublicKey(privateKey).export({ format: 'pem', type: 'spki' }).toString(), publicKey };
  } finally {
    seed.fill(0);
  }
}

/** PEM text. The caller zeroes seed and passphrase. */
export const encryptOwnerKey = (seed: Uint8Array, passphrase: Uint8Array): string => sealUnderPassphrase(LABEL, seed, passphrase);

/** The 32-byte seed; the caller zeroes it. Throws `fleet.key`. */
export function decryptOwnerKey(pem: string, passphrase: Uint8Array): Buffer {
  const seed = openUnderPassphrase(LABEL, pem, passphrase);
  if (seed.length === MLDSA65.seedBytes) return seed;
  seed.fill(0);
  throw new TenzroError('fleet.key', 'not an owner key of ours');
}
