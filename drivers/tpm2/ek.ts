/**
 * The endorsement key, with its certificate and those of its issuers where the vendor left them: TCG EK Credential Profile for TPM 2.0. The EK says which
 * TPM this is; it never signs.
 */
import { readFileSync } from 'node:fs';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { derOfFile } from '#runtime/crypto/certificatePath.ts';
import { derSize } from '#runtime/crypto/der.ts';
import { ekKindOf, isCertificateOf } from '#runtime/crypto/ekCertificate.ts';
import { NV_ATTRIBUTE, parsePublic } from '#runtime/crypto/tpmEvidence.ts';
import { parseCertificate } from '#runtime/crypto/x509.ts';
import { EK_CERTIFICATE_INDEX, EK_CHAIN_INDEX, HANDLE, HANDLE_RANGE, PERSISTENT } from './constants.ts';
import { RC_FORMAT_1, TpmRefusal } from './errors.ts';
import { atHandle, isMadeFrom } from './persistent.ts';
import { ekEccP256, ekRsa2048 } from './templates.ts';
import type { Tpm } from './tpm.ts';

export interface Endorsement {
  /** TPMT_PUBLIC. */
  readonly ekPublic: Uint8Array;
  /** X.509 DER. */
  readonly ekCertificate?: Uint8Array;
  /** X.509 DER of its issuers, as far as they are known here, in any order. */
  readonly ekChain?: readonly Uint8Array[];
}

export interface EndorsementOptions {
  /** X.509 DER from a file, the EK's first, then issuers: they go before what the TPM holds, for TPMs that hold none. Default: none. */
  readonly certificates?: readonly Uint8Array[];
}

/** What `attest.tpm.ekCertificateFile` names, PEM or DER; none for the empty path. Throws `attest.ek_certificate`. */
export function readCertificateFile(path: string): readonly Uint8Array[] {
  if (path === '') return [];
  const wrong = (why: string, cause?: unknown): TenzroError => new TenzroError('attest.ek_certificate', `${path}: ${why}`, cause === undefined ? {} : { cause });
  let certificates: readonly Uint8Array[] | undefined;
  try {
    certificates = derOfFile(readFileSync(path), LIMITS.ekCertificatesMax);
    certificates?.forEach((der) => { parseCertificate(der); });
  } catch (cause) {
    throw wrong(messageOf(cause), cause);
  }
  if (!certificates) throw wrong(`it holds no certificate, or more than ${LIMITS.ekCertificatesMax}`);
  return certificates;
}

/**
 * The key that has a certificate, P-256 before RSA (which takes a hardware TPM many seconds); without any certificate the P-256 key. The persistent one where
 * there is one. Throws `attest.ek_certificate` when the certificates given are for another TPM.
 */
export async function readEndorsement(tpm: Tpm, signal: AbortSignal, options: EndorsementOptions = {}): Promise<Endorsement> {
  const { template, certificates } = await choose(tpm, options, signal);
  const ekPublic = await publicOf(tpm, template, signal);
  const [ekCertificate, ...ekChain] = certificates;
  if (options.certificates?.length && ekCertificate && !isCertificateOf(parseCertificate(ekCertificate), parsePublic(ekPublic))) throw notOfThisTpm('it is for the key of another TPM');
  return { ekPublic, ...(ekCertificate ? { ekCertificate } : {}), ...(ekChain.length > 0 ? { ekChain } : {}) };
}

/** Of the same key, for CreatePrimary in the endorsement hierarchy. */
export const endorsementTemplate = async (tpm: Tpm, signal: AbortSignal, options: EndorsementOptions = {}): Promise<Buffer> => (await choose(tpm, options, signal)).template;

async function publicOf(tpm: Tpm, template: Buffer, signal: AbortSignal): Promise<Uint8Array> {
  const persistent = await atHandle(tpm, PERSISTENT.endorsementKey, signal);
  if (persistent && isMadeFrom(persistent.public.area, template)) return persistent.public.area;
  await using key = await tpm.keys.createPrimary(HANDLE.endorsement, template, signal);
  return key.public.area;
}

async function choose(tpm: Tpm, { certificates = [] }: EndorsementOptions, signal: AbortSignal): Promise<{ readonly template: Buffer; readonly certificates: readonly Uint8Array[] }> {
  const [given] = certificates;
  if (given) {
    const kind = ekKindOf(parseCertificate(given));
    if (!kind) throw notOfThisTpm('its key is neither P-256 nor RSA');
    return { template: kind === 'rsa' ? ekRsa2048() : ekEccP256(), certificates };
  }
  const ecc = await readEkCertificate(tpm, EK_CERTIFICATE_INDEX.eccP256, signal);
  const rsa = ecc ? undefined : await readEkCertificate(tpm, EK_CERTIFICATE_INDEX.rsa2048, signal);
  const found = ecc ?? rsa;
  return { template: rsa ? ekRsa2048() : ekEccP256(), certificates: found ? [found, ...await readEkChain(tpm, signal)] : [] };
}

/** Undefined when the index is not there or does not hold a DER certificate. */
export async function readEkCertificate(tpm: Tpm, index: number, signal: AbortSignal): Promise<Uint8Array | undefined> {
  const bytes = await readIndex(tpm, index, signal);
  const size = derSize(bytes, LIMITS.certificateBytesMax); // the index may be larger than the certificate, and padded with anything
  return size === undefined ? undefined : bytes.subarray(0, size);
}

/**
 * Certificates of issuers, from the NV indices that the profile sets apart for them: one after another, and where one index is too small, on into the next.
 * What is no certificate ends the list.
 */
export async function readEkChain(tpm: Tpm, signal: AbortSignal): Promise<readonly Uint8Array[]> {
  const handles = await tpm.info.handles(HANDLE_RANGE.nvIndex, signal);
  const parts: Buffer[] = [];
  for (const index of handles.filter((handle) => handle >= EK_CHAIN_INDEX.first && handle <= EK_CHAIN_INDEX.last).slice(0, LIMITS.ekCertificatesMax)) parts.push(await readIndex(tpm, index, signal));
  let rest = Buffer.concat(parts);
  const certificates: Uint8Array[] = [];
  while (certificates.length < LIMITS.ekCertificatesMax - 1) {
    const size = derSize(rest, LIMITS.certificateBytesMax);
    if (size === undefined) break;
    certificates.push(Buffer.from(rest.subarray(0, size)));
    const behind = rest.subarray(size);
    const next = behind.findIndex((byte) => byte !== 0x00 && byte !== 0xff);
    rest = next < 0 ? Buffer.alloc(0) : behind.subarray(next);
  }
  return certificates;
}

/** Empty when the index is not there or was never written. */
async function readIndex(tpm: Tpm, index: number, signal: AbortSignal): Promise<Buffer> {
  try {
    const nv = await tpm.nv.readPublic(index, signal);
    return (nv.public.attributes & NV_ATTRIBUTE.written) === 0 ? Buffer.alloc(0) : await tpm.nv.readAll(nv, signal);
  } catch (error) {
    if (error instanceof TpmRefusal && error.base === RC_FORMAT_1.handle) return Buffer.alloc(0);
    throw error;
  }
}

const notOfThisTpm = (why: string): TenzroError => new TenzroError('attest.ek_certificate', `the EK certificate that was given is not of this TPM: ${why}`);
