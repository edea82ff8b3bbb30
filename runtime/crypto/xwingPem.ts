/** X-Wing keys as files: PEM (RFC 7468) around PKCS#8 and SubjectPublicKeyInfo, as draft-connolly-cfrg-xwing-kem says under "Use in X.509" (OID 1.3.6.1.4.1.62253.25722). */
import { TenzroError } from '#runtime/core/errors.ts';
import { equalBytes } from '#runtime/core/bytes.ts';
import { XWING } from './xwing.ts';

interface Form {
  readonly label: string;
  /** Everything before the raw key: both have one length, so the DER around them never differs. */
  readonly prefix: Buffer;
  readonly keyBytes: number;
}

const PRIVATE: Form = { label: 'PRIVATE KEY', prefix: Buffer.from('3034020100300d060b2b0601040183e62d81c87a0420', 'hex'), keyBytes: XWING.seedBytes };
const PUBLIC: Form = { label: 'PUBLIC KEY', prefix: Buffer.from('308204d4300d060b2b0601040183e62d81c87a038204c100', 'hex'), keyBytes: XWING.publicKeyBytes };
/** A public key takes 1,750 characters; what is much longer is another file. */
const PEM_CHARS_MAX = 8_192;

export const privateKeyPem = (seed: Uint8Array): string => pemOf(PRIVATE, seed);
export const publicKeyPem = (publicKey: Uint8Array): string => pemOf(PUBLIC, publicKey);

/** The 32-byte seed. Throws `confidential.key`. */
export const seedOfPem = (pem: string): Buffer => keyOf(PRIVATE, pem);
/** 1216 bytes. Throws `confidential.key`. */
export const publicKeyOfPem = (pem: string): Buffer => keyOf(PUBLIC, pem);

function pemOf({ label, prefix }: Form, key: Uint8Array): string {
  const base64 = Buffer.concat([prefix, key]).toString('base64').replaceAll(/.{64}(?=.)/g, '$&\n');
  return `-----BEGIN ${label}-----\n${base64}\n-----END ${label}-----\n`;
}

function keyOf({ label, prefix, keyBytes }: Form, pem: string): Buffer {
  const [, base64] = pem.length > PEM_CHARS_MAX ? [] : (new RegExp(`^\\s*-----BEGIN ${label}-----\\s([A-Za-z0-9+/=\\s]+)-----END ${label}-----\\s*$`).exec(pem) ?? []);
  const der = Buffer.from(base64 ?? '', 'base64');
  if (der.length !== prefix.length + keyBytes || !equalBytes(der.subarray(0, prefix.length), prefix)) {
    throw new TenzroError('confidential.key', `not the PEM file of an X-Wing ${label.toLowerCase()}`);
  }
  return der.subarray(prefix.length);
}
