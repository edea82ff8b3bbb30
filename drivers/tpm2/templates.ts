/** TPMT_PUBLIC templates (Part 2 §12.2.4) of primary keys: the same template in the same hierarchy gives the same key for as long as
 * the hierarchy's seed lasts (the endorsement seed outlives TPM2_Clear). */
import type { KeyObject } from 'node:crypto';
import { TenzroError } from '#runtime/core/errors.ts';
import { OBJECT_ATTRIBUTE, TPM_ALG, TPM_ECC_NIST_P256 } from '#runtime/crypto/tpmEvidence.ts';
import { EMPTY, TpmWriter } from './codec.ts';

const { fixedTpm, fixedParent, sensitiveDataOrigin, userWithAuth, adminWithPolicy, noDa, restricted, decrypt, sign } = OBJECT_ATTRIBUTE;

/** PolicySecret(TPM_RH_ENDORSEMENT): PolicyA with SHA-256 of the TCG EK Credential Profile for TPM 2.0. */
const EK_POLICY = Buffer.from('837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa', 'hex');
const EK_ATTRIBUTES = fixedTpm | fixedParent | sensitiveDataOrigin | adminWithPolicy | restricted | decrypt;
const RSA_2048_BYTES = 256;
const P256_BYTES = 32;

/** Template L-1 of the EK Credential Profile, annex B.3.3: RSA 2048. */
export const ekRsa2048 = (): Buffer => new TpmWriter().u16(TPM_ALG.rsa).u16(TPM_ALG.sha256).u32(EK_ATTRIBUTES).sized(EK_POLICY)
  .u16(TPM_ALG.aes).u16(128).u16(TPM_ALG.cfb).u16(TPM_ALG.null).u16(2048).u32(0).sized(new Uint8Array(RSA_2048_BYTES)).done();

/** Template L-2, annex B.3.4: NIST P-256. */
export const ekEccP256 = (): Buffer => new TpmWriter().u16(TPM_ALG.ecc).u16(TPM_ALG.sha256).u32(EK_ATTRIBUTES).sized(EK_POLICY)
  .u16(TPM_ALG.aes).u16(128).u16(TPM_ALG.cfb).u16(TPM_ALG.null).u16(TPM_ECC_NIST_P256).u16(TPM_ALG.null)
  .sized(new Uint8Array(P256_BYTES)).sized(new Uint8Array(P256_BYTES)).done();

/** Restricted, so that it signs only what the TPM itself says. Make it in the endorsement hierarchy: elsewhere quotes show obfuscated reset counts. */
export const akP256 = (): Buffer => new TpmWriter().u16(TPM_ALG.ecc).u16(TPM_ALG.sha256)
  .u32(fixedTpm | fixedParent | sensitiveDataOrigin | userWithAuth | noDa | restricted | sign).sized(EMPTY)
  .u16(TPM_ALG.null).u16(TPM_ALG.ecdsa).u16(TPM_ALG.sha256).u16(TPM_ECC_NIST_P256).u16(TPM_ALG.null).sized(EMPTY).sized(EMPTY).done();

/** Storage: the parent of what the TPM shall keep. Attributes as in the TCG TPM v2.0 Provisioning Guidance, so that others know the key. */
const SRK_ATTRIBUTES = fixedTpm | fixedParent | sensitiveDataOrigin | userWithAuth | noDa | restricted | decrypt;

/** Storage root key, P-256. Make it in the owner hierarchy. */
export const srkP256 = (): Buffer => new TpmWriter().u16(TPM_ALG.ecc).u16(TPM_ALG.sha256).u32(SRK_ATTRIBUTES).sized(EMPTY)
  .u16(TPM_ALG.aes).u16(128).u16(TPM_ALG.cfb).u16(TPM_ALG.null).u16(TPM_ECC_NIST_P256).u16(TPM_ALG.null)
  .sized(new Uint8Array(P256_BYTES)).sized(new Uint8Array(P256_BYTES)).done();

/** Storage root key, RSA 2048. */
export const srkRsa2048 = (): Buffer => new TpmWriter().u16(TPM_ALG.rsa).u16(TPM_ALG.sha256).u32(SRK_ATTRIBUTES).sized(EMPTY)
  .u16(TPM_ALG.aes).u16(128).u16(TPM_ALG.cfb).u16(TPM_ALG.null).u16(2048).u32(0).sized(new Uint8Array(RSA_2048_BYTES)).done();

/** An ordinary signing key, for digests that come from outside. */
export const signingP256 = (authPolicy: Uint8Array = EMPTY): Buffer => new TpmWriter().u16(TPM_ALG.ecc).u16(TPM_ALG.sha256)
  .u32(fixedTpm | fixedParent | sensitiveDataOrigin | userWithAuth | noDa | sign).sized(authPolicy)
  .u16(TPM_ALG.null).u16(TPM_ALG.ecdsa).u16(TPM_ALG.sha256).u16(TPM_ECC_NIST_P256).u16(TPM_ALG.null).sized(EMPTY).sized(EMPTY).done();

/** Who may unseal: whoever satisfies a policy, or whoever knows the authValue. */
export interface SealedAccess {
  /** Digest (policyDigest.ts). With one, the authValue alone does not unseal. */
  readonly authPolicy?: Uint8Array;
  /** Failed authorisations count towards the lockout of the TPM: for an authValue that could be guessed. */
  readonly limitGuesses?: boolean;
}

/** Sealed data: a keyed hash without a scheme, its contents come from outside. */
export const sealedData = ({ authPolicy, limitGuesses = false }: SealedAccess = {}): Buffer => new TpmWriter().u16(TPM_ALG.keyedHash).u16(TPM_ALG.sha256)
  .u32(fixedTpm | fixedParent | (authPolicy ? 0 : userWithAuth) | (limitGuesses ? 0 : noDa)).sized(authPolicy ?? EMPTY).u16(TPM_ALG.null).sized(EMPTY).done();

/** Somebody else's P-256 key, to verify with: for TPM2_LoadExternal. Its name is what TPM2_PolicyAuthorize fixes. Throws `tpm.usage` for another key. */
export function externalP256(key: KeyObject): Buffer {
  const { crv, x, y } = key.export({ format: 'jwk' });
  if (crv !== 'P-256' || x === undefined || y === undefined) throw new TenzroError('tpm.usage', 'only a P-256 key can be loaded to verify with');
  return new TpmWriter().u16(TPM_ALG.ecc).u16(TPM_ALG.sha256).u32(userWithAuth | sign).sized(EMPTY)
    .u16(TPM_ALG.null).u16(TPM_ALG.ecdsa).u16(TPM_ALG.sha256).u16(TPM_ECC_NIST_P256).u16(TPM_ALG.null)
    .sized(Buffer.from(x, 'base64url')).sized(Buffer.from(y, 'base64url')).done();
}
