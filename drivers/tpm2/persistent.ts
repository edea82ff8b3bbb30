/** Our keys at persistent handles, told from strangers': by what they are, and where it is known, by name. */
import { asBuffer, equalBytes } from '#runtime/core/bytes.ts';
import { TPM_ALG } from '#runtime/crypto/tpmEvidence.ts';
import { RC_FORMAT_1, TpmRefusal } from './errors.ts';
import type { TpmObject } from './keys.ts';
import type { Tpm } from './tpm.ts';

/** Undefined where nothing lies. */
export async function atHandle(tpm: Tpm, handle: number, signal: AbortSignal): Promise<TpmObject | undefined> {
  try {
    return await tpm.keys.readPublic(handle, signal);
  } catch (error) {
    if (error instanceof TpmRefusal && error.base === RC_FORMAT_1.handle) return undefined;
    throw error;
  }
}

/** Bytes of a public area's unique part: TPMS_ECC_POINT of P-256 with its two sizes (Part 2 §11.2.5.2), or an RSA 2048 modulus with its size. */
const UNIQUE_BYTES = { ecc: 2 + 32 + 2 + 32, rsa: 2 + 256 } as const;

/**
 * The area says what the template says but for the key itself. With fixedTPM and sensitiveDataOrigin among that, no one outside of this TPM knows
 * its private part, whoever had it made.
 */
export function isMadeFrom(area: Uint8Array, template: Uint8Array): boolean {
  const known = area.length - (asBuffer(area).readUInt16BE() === TPM_ALG.rsa ? UNIQUE_BYTES.rsa : UNIQUE_BYTES.ecc);
  return known > 0 && equalBytes(area.subarray(0, known), template.subarray(0, known));
}
