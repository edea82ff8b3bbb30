/** TPMT_PUBLIC templates (Part 2 §12.2.4) of primary keys: the same template in the same hierarchy gives the same key for as long as
 * the hierarchy's seed lasts (the endorsement seed outlives TPM2_Clear). */
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
