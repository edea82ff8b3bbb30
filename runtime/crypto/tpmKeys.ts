/** Whether a public area is that of a key which can play its part. TPMA_OBJECT: TCG TPM 2.0 Library, Part 2 §8.3.2; what they mean: Part 1, Object Attributes. */
import { OBJECT_ATTRIBUTE, TPM_ALG, type TpmPublic } from './tpmEvidence.ts';

/** Fixed to its TPM, made there, and for what the TPM itself says or reads only. */
const MUST = ['fixedTpm', 'fixedParent', 'sensitiveDataOrigin', 'restricted'] as const;

/** What is wrong with an attestation key; undefined when nothing is. A restricted key signs what the TPM says and nothing that merely looks like it. */
export function attestationKeyFault({ attributes, scheme }: TpmPublic): string | undefined {
  const missing = missingIn(attributes, [...MUST, 'sign']);
  if (missing !== '') return `the AK is not ${missing}`;
  return (attributes & OBJECT_ATTRIBUTE.decrypt) !== 0 || scheme !== TPM_ALG.ecdsa ? 'the AK is not for signing with ECDSA alone' : undefined;
}

/** What is wrong with an endorsement key; undefined when nothing is. Credentials are for a storage key that never left its TPM. */
export function endorsementKeyFault({ attributes, key }: TpmPublic): string | undefined {
  const missing = missingIn(attributes, [...MUST, 'decrypt']);
  if (missing !== '') return `the EK is not ${missing}`;
  if ((attributes & OBJECT_ATTRIBUTE.sign) !== 0) return 'the EK can sign: an EK never does';
  return key.kind === 'rsa' && key.modulus.length < RSA_BYTES_MIN ? `an RSA EK of ${key.modulus.length * 8} bits` : undefined;
}

const RSA_BYTES_MIN = 256;

const missingIn = (attributes: number, wanted: readonly (keyof typeof OBJECT_ATTRIBUTE)[]): string =>
  wanted.filter((attribute) => (attributes & OBJECT_ATTRIBUTE[attribute]) === 0).join(', ');
