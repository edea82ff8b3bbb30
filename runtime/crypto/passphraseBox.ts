/**
 * Secrets at rest under a passphrase: scrypt (RFC 7914) and AES-256-GCM, in a PEM envelope of our own. PKCS#8 has names for both, but OpenSSL writes PBES2
 * with CBC only, and reads no other; docs/reference/commands.md gives the bytes.
 */
import { randomBytes, scryptSync } from 'node:crypto';
import { TenzroError } from '#runtime/core/errors.ts';
import { AES_256_GCM, openAead, sealAead } from './aead.ts';

const VERSION = 1;
/** 128 MiB and a third of a second, each time: OWASP's first choice for scrypt. */
const COST = { log2N: 17, r: 8, p: 1 } as const;
/** What a file may ask for: it is not trusted before its tag is checked. */
const LOG2N_MAX = 20;
const R_MAX = 16;
const P_MAX = 4;
const SALT_BYTES = 16;
const TAG_BYTES = 16;
/** version, log2 N, r, p, salt: also the associated data. */
const HEAD_BYTES = 4 + SALT_BYTES;
const SECRET_BYTES_MAX = 8 * 1024;
const PEM_CHARS_MAX = 16 * 1024;

/** PEM text with that label, upper case. The caller zeroes secret and passphrase. */
export function sealUnderPassphrase(label: string, secret: Uint8Array, passphrase: Uint8Array): string {
  const head = Buffer.concat([Buffer.of(VERSION, COST.log2N, COST.r, COST.p), randomBytes(SALT_BYTES)]);
  const nonce = randomBytes(AES_256_GCM.nonceBytes);
  const key = keyOf(head, passphrase);
  const sealed = sealAead(AES_256_GCM, key, nonce, secret, head);
  key.fill(0);
  const base64 = Buffer.concat([head, nonce, sealed]).toString('base64').replaceAll(/.{64}(?=.)/g, '$&\n');
  return `-----BEGIN ${label}-----\n${base64}\n-----END ${label}-----\n`;
}

/** The label of a PEM text that may be one of ours. */
export const labelIn = (pem: string): string | undefined => /^\s*-----BEGIN (TENZRO ENCRYPTED [A-Z ]{1,40})-----\s/.exec(pem)?.[1];

/** The secret; the caller zeroes it. Throws `fleet.key`. */
export function openUnderPassphrase(label: string, pem: string, passphrase: Uint8Array): Buffer {
  const [, base64 = ''] = pem.length > PEM_CHARS_MAX ? [] : (new RegExp(`^\\s*-----BEGIN ${label}-----\\s([A-Za-z0-9+/=\\s]+)-----END ${label}-----\\s*$`).exec(pem) ?? []);
  const bytes = Buffer.from(base64, 'base64');
  const [version, log2N = 0, r = 0, p = 0] = bytes;
  const secretBytes = bytes.length - HEAD_BYTES - AES_256_GCM.nonceBytes - TAG_BYTES;
  const isSound = version === VERSION && log2N >= 14 && log2N <= LOG2N_MAX && r >= 1 && r <= R_MAX && p >= 1 && p <= P_MAX && secretBytes > 0 && secretBytes <= SECRET_BYTES_MAX;
  if (!isSound) throw new TenzroError('fleet.key', `not an ${label.toLowerCase().replaceAll('tenzro', 'Tenzro')} of ours`);
  const head = bytes.subarray(0, HEAD_BYTES);
  const sealedAt = HEAD_BYTES + AES_256_GCM.nonceBytes;
  const key = keyOf(head, passphrase);
  try {
    return openAead(AES_256_GCM, key, bytes.subarray(HEAD_BYTES, sealedAt), bytes.subarray(sealedAt), head);
  } catch (cause) {
    throw new TenzroError('fleet.key', 'the passphrase is wrong, or the file was altered', { cause });
  } finally {
    key.fill(0);
  }
}

/** RFC 7914: 128·N·r bytes, and some. */
function keyOf(head: Uint8Array, passphrase: Uint8Array): Buffer {
  const [, log2N = 0, r = 0, p = 0] = head;
  const N = 2 ** log2N;
  return scryptSync(passphrase, head.subarray(4), AES_256_GCM.keyBytes, { N, r, p, maxmem: 256 * N * r });
}
