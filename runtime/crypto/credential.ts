/**
 * MakeCredential in software, so that an enroller needs no TPM: TCG TPM 2.0 Library, Part 1 §24 (Credential Protection). The TPM that holds the EK
 * gives the credential back only when an object of that very name is loaded in it (TPM2_ActivateCredential, Part 3 §12.5).
 */
import { createCipheriv } from 'node:crypto';
import { invariant } from '#runtime/core/errors.ts';
import type { TpmPublic } from './tpmEvidence.ts';
import { hmacSha256, kdfa } from './tpmKdf.ts';
import { shareSecret, sized } from './tpmSecret.ts';

/** A credential is at most as long as the EK's name digest (Part 2 §12.4.3 TPM2B_ID_OBJECT, with Part 3 §12.6). */
export const CREDENTIAL_BYTES_MAX = 32;
const NO_CONTEXT = new Uint8Array(0);
const AES_128_BITS = 128;
const HMAC_BITS = 256;

/** What TPM2_ActivateCredential takes. */
export interface ProtectedCredential {
  /** Contents of the TPM2B_ID_OBJECT: integrity HMAC, then the encrypted credential. */
  readonly blob: Uint8Array;
  /** Contents of the TPM2B_ENCRYPTED_SECRET. */
  readonly secret: Uint8Array;
}

/**
 * Protects `credential` (1 to 32 bytes) for the TPM that holds `ek`, a SHA-256 storage key with AES-128-CFB as the EK templates have, and that has the
 * object of `name` loaded. Throws `tpm.structure` for an EK that is no key.
 */
export function makeCredential(ek: TpmPublic, name: Uint8Array, credential: Uint8Array): ProtectedCredential {
  invariant(credential.length > 0 && credential.length <= CREDENTIAL_BYTES_MAX, `a credential of ${credential.length} bytes`);
  const { secret: seed, encrypted } = shareSecret(ek, 'IDENTITY');
  const cipherKey = kdfa(seed, 'STORAGE', name, NO_CONTEXT, AES_128_BITS); // §24.4
  const cipher = createCipheriv('aes-128-cfb', cipherKey, Buffer.alloc(16));
  const identity = Buffer.concat([cipher.update(sized(credential)), cipher.final()]);
  const hmacKey = kdfa(seed, 'INTEGRITY', NO_CONTEXT, NO_CONTEXT, HMAC_BITS); // §24.5
  const blob = Buffer.concat([sized(hmacSha256(hmacKey, identity, name)), identity]);
  for (const key of [seed, cipherKey, hmacKey]) key.fill(0);
  return { blob, secret: encrypted };
}
