/** The endorsement key, and its certificate where the vendor left one: TCG EK Credential Profile for TPM 2.0. The EK says which TPM this is; it never signs. */
import { NV_ATTRIBUTE } from '#runtime/crypto/tpmEvidence.ts';
import { EK_CERTIFICATE_INDEX, HANDLE, PERSISTENT } from './constants.ts';
import { RC_FORMAT_1, TpmRefusal } from './errors.ts';
import { atHandle, isMadeFrom } from './persistent.ts';
import { ekEccP256, ekRsa2048 } from './templates.ts';
import type { Tpm } from './tpm.ts';

export interface Endorsement {
  /** TPMT_PUBLIC. */
  readonly ekPublic: Uint8Array;
  /** X.509 DER. */
  readonly ekCertificate?: Uint8Array;
}

/** The key that has a certificate, P-256 before RSA (which takes a hardware TPM many seconds); without any certificate the P-256 key. The persistent one where there is one. */
export async function readEndorsement(tpm: Tpm, signal: AbortSignal): Promise<Endorsement> {
  const { template, certificate } = await choose(tpm, signal);
  const persistent = await atHandle(tpm, PERSISTENT.endorsementKey, signal);
  if (persistent && isMadeFrom(persistent.public.area, template)) return { ekPublic: persistent.public.area, ...(certificate ? { ekCertificate: certificate } : {}) };
  await using key = await tpm.keys.createPrimary(HANDLE.endorsement, template, signal);
  return { ekPublic: key.public.area, ...(certificate ? { ekCertificate: certificate } : {}) };
}

/** Of the same key, for CreatePrimary in the endorsement hierarchy. */
export const endorsementTemplate = async (tpm: Tpm, signal: AbortSignal): Promise<Buffer> => (await choose(tpm, signal)).template;

async function choose(tpm: Tpm, signal: AbortSignal): Promise<{ readonly template: Buffer; readonly certificate: Uint8Array | undefined }> {
  const ecc = await readEkCertificate(tpm, EK_CERTIFICATE_INDEX.eccP256, signal);
  const rsa = ecc ? undefined : await readEkCertificate(tpm, EK_CERTIFICATE_INDEX.rsa2048, signal);
  return { template: rsa ? ekRsa2048() : ekEccP256(), certificate: ecc ?? rsa };
}

/** Undefined when the index is not there or does not hold a DER certificate. */
export async function readEkCertificate(tpm: Tpm, index: number, signal: AbortSignal): Promise<Uint8Array | undefined> {
  try {
    const nv = await tpm.nv.readPublic(index, signal);
    if ((nv.public.attributes & NV_ATTRIBUTE.written) === 0) return undefined;
    return withoutPadding(await tpm.nv.readAll(nv, signal));
  } catch (error) {
    if (error instanceof TpmRefusal && error.base === RC_FORMAT_1.handle) return undefined;
    throw error;
  }
}

/** The index may be larger than the certificate: a DER SEQUENCE with a two-byte length (X.690 §8.1.3) says where it ends. */
function withoutPadding(bytes: Buffer): Uint8Array | undefined {
  if (bytes.length < 4 || bytes.readUInt16BE(0) !== 0x3082) return undefined;
  const size = 4 + bytes.readUInt16BE(2);
  return size <= bytes.length ? bytes.subarray(0, size) : undefined;
}
