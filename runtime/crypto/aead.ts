/** Authenticated encryption with a tag of 16 bytes behind the ciphertext, as HPKE (RFC 9180 §7.3) and the confidential entries use it. */
import { createCipheriv, createDecipheriv, type KeyObject } from 'node:crypto';
import { TenzroError } from '#runtime/core/errors.ts';

export interface Aead {
  /** RFC 9180 table 5. */
  readonly id: number;
  readonly cipher: 'aes-256-gcm' | 'chacha20-poly1305';
  readonly keyBytes: number;
  readonly nonceBytes: number;
}

export const AES_256_GCM: Aead = { id: 0x0002, cipher: 'aes-256-gcm', keyBytes: 32, nonceBytes: 12 };
/** For the published vectors of HPKE with X-Wing. */
export const CHACHA20_POLY1305: Aead = { id: 0x0003, cipher: 'chacha20-poly1305', keyBytes: 32, nonceBytes: 12 };

const TAG_BYTES = 16;
const OPTIONS = { authTagLength: TAG_BYTES } as const;

/** A key and a nonce together MUST be used once. */
export function sealAead({ cipher }: Pick<Aead, 'cipher'>, key: Uint8Array | KeyObject, nonce: Uint8Array, plaintext: Uint8Array, aad: Uint8Array): Buffer {
  const sealing = createCipheriv(cipher as 'aes-256-gcm', key, nonce, OPTIONS);
  sealing.setAAD(aad);
  return Buffer.concat([sealing.update(plaintext), sealing.final(), sealing.getAuthTag()]);
}

/** Throws `hpke.open` for another key, nonce or aad than it was sealed with, and for altered bytes. */
export function openAead({ cipher }: Pick<Aead, 'cipher'>, key: Uint8Array | KeyObject, nonce: Uint8Array, sealed: Uint8Array, aad: Uint8Array): Buffer {
  if (sealed.length < TAG_BYTES) throw new TenzroError('hpke.open', `${sealed.length} bytes are shorter than a tag`);
  const opening = createDecipheriv(cipher as 'aes-256-gcm', key, nonce, OPTIONS);
  const end = sealed.length - TAG_BYTES;
  opening.setAAD(aad);
  opening.setAuthTag(sealed.subarray(end));
  try {
    return Buffer.concat([opening.update(sealed.subarray(0, end)), opening.final()]);
  } catch (cause) {
    throw new TenzroError('hpke.open', 'the tag does not fit key, number and associated data', { cause });
  }
}
