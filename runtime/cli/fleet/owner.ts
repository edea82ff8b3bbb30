/** The owner's keys of a fleet's folder, at the operator's. */
import { createPublicKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { rawPublicKeyOf, signerOfSeed, type Signer } from '#runtime/crypto/mldsa.ts';
import { decryptOwnerKey } from '#runtime/crypto/ownerKey.ts';
import type { Io } from '../io.ts';
import { readPassphrase } from './passphrase.ts';

export interface OwnerFlags {
  readonly dir: string;
  /** Default: the first owner key of the folder. */
  readonly key?: string;
  readonly passphraseFile?: string;
}

const KEYS = ['owner-1.key', 'owner-2.key'] as const;

/** Throws `fleet.key`. */
export async function openOwnerKey(io: Io, { dir, key = join(dir, KEYS[0]), passphraseFile }: OwnerFlags): Promise<Signer> { return openKeyFile(io, key, passphraseFile); }

/** Of any operator. Throws `fleet.key`. */
export async function openKeyFile(io: Io, path: string, passphraseFile: string | undefined): Promise<Signer> {
  const pem = textOf(path);
  const passphrase = await readPassphrase(io, passphraseFile);
  const seed = decryptOwnerKey(pem, passphrase);
  try {
    return signerOfSeed(seed);
  } finally {
    seed.fill(0);
    passphrase.fill(0);
  }
}

/** The public owner keys of the folder: the private ones may be elsewhere. Throws `fleet.key`. */
const ownerKeysIn = (dir: string): readonly Uint8Array[] => KEYS.map((name) => publicKeyIn(join(dir, `${name}.pub`)));

/** The key beside this one. Throws `fleet.key` where this one is none of the folder's. */
export function otherKeyOf(dir: string, publicKey: Uint8Array): Uint8Array {
  const keys = ownerKeysIn(dir);
  const others = keys.filter((key) => !equalBytes(key, publicKey));
  const [other] = others;
  if (others.length !== 1 || !other) throw new TenzroError('fleet.key', `the key is neither of the two in ${dir} (${KEYS.map((name) => `${name}.pub`).join(', ')})`);
  return other;
}

/** Raw ML-DSA-65, of a PEM file. Throws `fleet.key`. */
export function publicKeyIn(path: string): Uint8Array {
  const pem = textOf(path);
  try {
    const key = rawPublicKeyOf(createPublicKey(pem));
    if (key) return key;
  } catch (cause) {
    throw new TenzroError('fleet.key', `${path}: not a public key: ${messageOf(cause)}`, { cause });
  }
  throw new TenzroError('fleet.key', `${path}: not an ML-DSA-65 key`);
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new TenzroError('fleet.key', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
}
