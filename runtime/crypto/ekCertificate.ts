/** Whether an EK certificate is what it should be, and what its maker says of the TPM: TCG EK Credential Profile for TPM Family 2.0. */
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { dateFault, findPath, type TimeSpan } from './certificatePath.ts';
import { DER_TAG, DerReader } from './der.ts';
import type { TpmPublic } from './tpmEvidence.ts';
import { parseCertificate, type Certificate } from './x509.ts';

/** tcg-kp-EKCertificate, "Extended Key Usage". */
const EKU_EK_CERTIFICATE = '2.23.133.8.1';
/** "Subject Alternative Name": what the TPM is, in a directory name. */
const TPM_ATTRIBUTE = { manufacturer: '2.23.133.2.1', model: '2.23.133.2.2', version: '2.23.133.2.3' } as const;
/** SubjectPublicKeyInfo: RFC 3279 §2.3.1 and §2.3.5, RFC 5480 §2.1.1.1; some makers mark an EK as one for OAEP (RFC 4055 §4.1), which OpenSSL refuses. */
const KEY_TYPE = { rsa: '1.2.840.113549.1.1.1', rsaOaep: '1.2.840.113549.1.1.7', ec: '1.2.840.10045.2.1', p256: '1.2.840.10045.3.1.7' } as const;
const P256_BYTES = 32;
const UNCOMPRESSED_POINT = 4;

/** Certificates that are trusted, as policies and programs name them. */
export interface EkAnchors {
  readonly trusted: readonly Certificate[];
  /** Trusted only when `vendorOf` knows them; else they help to build a path. */
  readonly others: readonly Certificate[];
  /** The maker that a certificate is the root of; undefined for any other certificate. */
  readonly vendorOf: (fingerprint: Uint8Array) => TpmVendor | undefined;
}

export interface TpmVendor {
  readonly name: string;
  /** TCG vendor IDs of the TPMs that its roots certify, e.g. `IFX`. */
  readonly manufacturers: readonly string[];
}

/** What the maker says about the TPM. */
export interface TpmDescription {
  /** TCG vendor ID, as text where it is text: `IFX`. */
  readonly manufacturer: string;
  readonly model: string;
  /** Version of the TPM's firmware when it was certified, as the maker writes it: hexadecimal digits. */
  readonly version: string;
}

export type EkVerdict =
  /** The path ends in an anchor, and everything on it holds. */
  | {
    readonly kind: 'chained';
    /** SHA-256 of the EK certificate. */
    readonly certificate: Uint8Array;
    readonly root: Certificate;
    readonly vendor?: TpmVendor;
    readonly tpm: TpmDescription;
    /** Between the two. */
    readonly intermediates: number;
    /** The first end of a certificate on the path. */
    readonly expiresMs: number;
  }
  /** There is no certificate, or its path leads to none of the anchors: nothing was learnt. */
  | { readonly kind: 'unchained'; readonly why: string; readonly tpm?: TpmDescription }
  /** The certificate, or a path to an anchor, is not what it must be. */
  | { readonly kind: 'broken'; readonly why: string };

/** `certificates`: DER, the EK's first, then issuers in any order. Never throws on hostile bytes. */
export function judgeEkCertificates(ek: TpmPublic, certificates: readonly Uint8Array[], anchors: EkAnchors, during: TimeSpan): EkVerdict {
  const [first, ...presented] = certificates;
  if (!first) return { kind: 'unchained', why: 'there is no EK certificate' };
  try {
    const leaf = parseCertificate(first);
    const fault = leafFault(leaf, ek) ?? dateFault(leaf, during);
    if (fault !== undefined) return { kind: 'broken', why: fault };
    const tpm = descriptionOf(leaf);
    if (!tpm) return { kind: 'broken', why: 'the EK certificate does not name the TPM\'s manufacturer, model and version' };
    return judgePath(leaf, tpm, presented.map(parseCertificate), anchors, during);
  } catch (error) {
    if (error instanceof TenzroError && error.code === 'x509.malformed') return { kind: 'broken', why: error.message };
    throw error;
  }
}

function judgePath(leaf: Certificate, tpm: TpmDescription, presented: readonly Certificate[], { trusted, others, vendorOf }: EkAnchors, during: TimeSpan): EkVerdict {
  const issuers = [...presented, ...others];
  const anchors = [...trusted, ...issuers.filter(({ fingerprint }) => vendorOf(fingerprint))];
  const verdict = findPath({ leaf, issuers, anchors, purpose: EKU_EK_CERTIFICATE, during });
  if (verdict.kind === 'broken') return verdict;
  if (verdict.kind === 'none') return { kind: 'unchained', why: anchors.length === 0 ? 'an EK certificate is there, but no root to hold it against' : 'the EK certificate leads to none of the known roots', tpm };
  const { anchor, path } = verdict;
  const isOwnAnchor = trusted.some(({ fingerprint }) => equalBytes(fingerprint, anchor.fingerprint));
  const vendor = isOwnAnchor ? undefined : vendorOf(anchor.fingerprint);
  if (vendor && !vendor.manufacturers.includes(tpm.manufacturer)) return { kind: 'broken', why: `the EK certificate is of a TPM by '${tpm.manufacturer}', its root is one of ${vendor.name}` };
  return { kind: 'chained', certificate: leaf.fingerprint, root: anchor, ...(vendor ? { vendor } : {}), tpm, intermediates: path.length - 1, expiresMs: Math.min(...path.map(({ notAfterMs }) => notAfterMs)) };
}

function leafFault(leaf: Certificate, ek: TpmPublic): string | undefined {
  const { extendedKeyUsage, isCa, unknownCritical } = leaf;
  if (!isCertificateOf(leaf, ek)) return 'the EK certificate is for another key than the EK of the genesis';
  if (!extendedKeyUsage?.includes(EKU_EK_CERTIFICATE)) return `the certificate is not for an EK (extended key usage ${EKU_EK_CERTIFICATE} is missing)`;
  if (isCa) return 'the EK certificate is one of an authority';
  return unknownCritical.length > 0 ? `the EK certificate has a critical extension that is unknown here: ${unknownCritical.join(', ')}` : undefined;
}

/** Which kind of EK a certificate is for; undefined for another. Throws `x509.malformed`. */
export function ekKindOf({ spki }: Certificate): 'rsa' | 'ecc' | undefined {
  const { type, curve } = readKey(spki);
  if (type === KEY_TYPE.rsa || type === KEY_TYPE.rsaOaep) return 'rsa';
  return type === KEY_TYPE.ec && curve === KEY_TYPE.p256 ? 'ecc' : undefined;
}

/** The certificate is for that key. Throws `x509.malformed`. */
export function isCertificateOf(certificate: Certificate, { key }: TpmPublic): boolean {
  if (key.kind !== ekKindOf(certificate)) return false;
  const { bits } = readKey(certificate.spki);
  if (key.kind === 'ecc') return bits.length === 1 + 2 * P256_BYTES && bits[0] === UNCOMPRESSED_POINT && equalBytes(bits.subarray(1), Buffer.concat([key.x, key.y]));
  const numbers = new DerReader(bits, 'public key').inside();
  return key.kind === 'rsa' && equalBytes(numbers.unsigned(), key.modulus) && numbers.count() === key.exponent;
}

function readKey(spki: Uint8Array): { readonly type: string; readonly curve: string | undefined; readonly bits: Buffer } {
  const info = new DerReader(spki, 'public key').inside();
  const algorithm = info.inside();
  const type = algorithm.oid();
  return { type, curve: algorithm.tag === DER_TAG.oid ? algorithm.oid() : undefined, bits: info.bits() };
}

function descriptionOf({ directoryNames }: Certificate): TpmDescription | undefined {
  const value = (type: string): string | undefined => directoryNames.find((attribute) => attribute.type === type)?.value;
  const [manufacturer, model, version] = [value(TPM_ATTRIBUTE.manufacturer), value(TPM_ATTRIBUTE.model), value(TPM_ATTRIBUTE.version)];
  if (manufacturer === undefined || model === undefined || version === undefined) return undefined;
  return { manufacturer: vendorId(manufacturer), model, version: version.replace(/^id:/, '') };
}

/** `id:49465800` is `IFX`, padded to four bytes with zeros or spaces (TCG Vendor ID Registry). */
function vendorId(value: string): string {
  const digits = /^id:([0-9a-fA-F]{8})$/.exec(value)?.[1];
  const text = digits === undefined ? value : Buffer.from(digits, 'hex').toString('latin1').replace(/[\0 ]+$/, '');
  return /^[\x21-\x7e]+$/.test(text) ? text : value;
}

/** One line for reports. */
export function describeTpm({ manufacturer, model, version }: TpmDescription): string { return `${manufacturer} ${model}, firmware ${version}`; }
