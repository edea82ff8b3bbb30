/**
 * Writes X.509 certificates (RFC 5280). Those of single services and gateways are self-signed: nobody trusts the certificate, the peer pins the key that it
 * carries (`spkiPin`). A fleet has authorities (P-256, so that every TLS library of today can check its broker), which issue certificates for keys of both
 * kinds. Reading is x509.ts and OpenSSL.
 */
import { createPublicKey, randomBytes, sign, X509Certificate, type KeyObject } from 'node:crypto';
import { isIP } from 'node:net';
import { TenzroError, invariant, messageOf } from '#runtime/core/errors.ts';
import { contextTag, DER_TAG, implicitTag } from './der.ts';
import { derOid, derSequence, derTime, derValue } from './derWriter.ts';
import { sha256 } from './hash.ts';
import { parseCertificate } from './x509.ts';

export interface Validity {
  /** Whole seconds since 1970 in ms; the rest is cut off. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

export interface CertificateOptions extends Validity {
  /** ML-DSA-65 or P-256. */
  readonly privateKey: KeyObject;
  /** At most 64 characters (RFC 5280 appendix A.1, ub-common-name). */
  readonly commonName: string;
  /** Host names and IP addresses under which a server answers; may be empty. */
  readonly hosts: readonly string[];
}

/** What a certificate allows its key: to issue others, `pathLength` authorities below it; to serve on `hosts`; to show itself to a server. */
export type Purpose =
  | { readonly kind: 'authority'; readonly pathLength: number }
  | { readonly kind: 'server'; readonly hosts: readonly string[] }
  | { readonly kind: 'client' };

export interface Issuer {
  /** P-256. */
  readonly privateKey: KeyObject;
  /** DER. */
  readonly certificate: Uint8Array;
}

export interface Issue extends Validity {
  /** ML-DSA-65 or P-256; that its holder has the private half is for the caller to know. */
  readonly publicKey: KeyObject;
  /** At most 64 characters. */
  readonly commonName: string;
  readonly purpose: Purpose;
}

const CONTEXT = { version: contextTag(0), extensions: contextTag(3), keyId: implicitTag(0), dnsName: implicitTag(2), ipAddress: implicitTag(7) } as const; // RFC 5280 appendix A
const OID = {
  commonName: '2.5.4.3', // RFC 5280 appendix A.1
  subjectKeyId: '2.5.29.14', keyUsage: '2.5.29.15', subjectAltName: '2.5.29.17', basicConstraints: '2.5.29.19', authorityKeyId: '2.5.29.35', extendedKeyUsage: '2.5.29.37', // RFC 5280 §4.2.1
  serverAuth: '1.3.6.1.5.5.7.3.1', clientAuth: '1.3.6.1.5.5.7.3.2', // RFC 5280 §4.2.1.12
  ecdsaWithSha256: '1.2.840.10045.4.3.2', // RFC 5758 §3.2
  mlDsa65: '2.16.840.1.101.3.4.3.18', // RFC 9881 §2
} as const;
/** KeyUsage as bytes of its BIT STRING, unused bits first (RFC 5280 §4.2.1.3): bit 0; bits 5 and 6. */
const KEY_USAGE = { digitalSignature: [7, 0x80], keyCertSignAndCrlSign: [1, 0x06] } as const;
const SERIAL_BYTES = 16;
const COMMON_NAME_MAX = 64;

/** For a key of one's own that the peer pins. DER. Throws `core.invariant` for another kind of key, a name that is too long, and dates that end before they begin. */
export function selfSignedCertificate({ privateKey, commonName, hosts, ...validity }: CertificateOptions): Buffer {
  const extensions = [
    extension(OID.basicConstraints, true, derSequence()), // cA is FALSE by default
    extension(OID.keyUsage, true, derValue(DER_TAG.bitString, Buffer.from(KEY_USAGE.digitalSignature))),
    extension(OID.extendedKeyUsage, false, derSequence(derOid(OID.serverAuth), derOid(OID.clientAuth))),
    ...alternativeNames(hosts),
  ];
  const name = nameOf(commonName);
  return signed({ privateKey, publicKey: createPublicKey(privateKey), issuer: name, subject: name, extensions, validity });
}

/** Of a fleet's root, DER. Throws `core.invariant`. */
export function rootCertificate({ privateKey, commonName, pathLength, ...validity }: Validity & { readonly privateKey: KeyObject; readonly commonName: string; readonly pathLength: number }): Buffer {
  const publicKey = createPublicKey(privateKey);
  const name = nameOf(commonName);
  return signed({ privateKey, publicKey, issuer: name, subject: name, extensions: extensionsOf({ kind: 'authority', pathLength }, publicKey), validity });
}

/** DER. A certificate never outlives its issuer's: what goes beyond is cut off. Throws `core.invariant`. */
export function issueCertificate({ privateKey, certificate }: Issuer, { publicKey, commonName, purpose, notBeforeMs, notAfterMs }: Issue): Buffer {
  const { subject, subjectKeyId, isCa, notAfterMs: issuerEndsMs } = parseCertificate(certificate);
  invariant(isCa && subjectKeyId, 'only an authority issues certificates');
  const authority = extension(OID.authorityKeyId, false, derSequence(derValue(CONTEXT.keyId, subjectKeyId)));
  return signed({
    privateKey, publicKey, issuer: subject, subject: nameOf(commonName), extensions: [...extensionsOf(purpose, publicKey), authority],
    validity: { notBeforeMs, notAfterMs: Math.min(notAfterMs, issuerEndsMs) },
  });
}

interface Body {
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
  /** Names, DER. */
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  readonly extensions: readonly Buffer[];
  readonly validity: Validity;
}

/** RFC 5280 §4.1. */
function signed({ privateKey, publicKey, issuer, subject, extensions, validity: { notBeforeMs, notAfterMs } }: Body): Buffer {
  invariant(notAfterMs > notBeforeMs, 'a certificate ends after it begins');
  invariant(isOurs(privateKey) && isOurs(publicKey), 'certificates are made for ML-DSA-65 and P-256 keys');
  const isMlDsa = privateKey.asymmetricKeyType === 'ml-dsa-65';
  const algorithm = derSequence(derOid(isMlDsa ? OID.mlDsa65 : OID.ecdsaWithSha256)); // parameters absent: RFC 9881 §2, RFC 5758 §3.2
  const body = derSequence(
    derValue(CONTEXT.version, derValue(DER_TAG.integer, Buffer.of(2))), // v3
    derValue(DER_TAG.integer, serialNumber()),
    algorithm, issuer, derSequence(derTime(notBeforeMs), derTime(notAfterMs)), subject,
    publicKey.export({ format: 'der', type: 'spki' }),
    derValue(CONTEXT.extensions, derSequence(...extensions)),
  );
  const signature = sign(isMlDsa ? null : 'sha256', body, privateKey);
  return derSequence(body, algorithm, derValue(DER_TAG.bitString, Buffer.of(0), signature));
}

const isOurs = ({ asymmetricKeyType, asymmetricKeyDetails }: KeyObject): boolean => asymmetricKeyType === 'ml-dsa-65' || asymmetricKeyDetails?.namedCurve === 'prime256v1';

function nameOf(commonName: string): Buffer {
  invariant(commonName !== '' && commonName.length <= COMMON_NAME_MAX, `a common name has 1 to ${COMMON_NAME_MAX} characters`);
  return derSequence(derValue(DER_TAG.set, derSequence(derOid(OID.commonName), derValue(DER_TAG.utf8String, Buffer.from(commonName)))));
}

/** RFC 7468. */
export const pemOf = (der: Uint8Array): string => `-----BEGIN CERTIFICATE-----\n${Buffer.from(der).toString('base64').replaceAll(/.{64}(?=.)/g, '$&\n')}\n-----END CERTIFICATE-----\n`;

/** SHA-256 of a key's SubjectPublicKeyInfo: what a peer pins, the same over every renewal of the certificate (RFC 7469 §2.4). */
export const spkiPin = (publicKey: KeyObject): Buffer => sha256(publicKey.export({ format: 'der', type: 'spki' }));

/** The same of a certificate's key. Throws `tls.certificate` for what is no certificate. */
export function spkiPinOfCertificate(certificate: Uint8Array): Buffer {
  try {
    return spkiPin(new X509Certificate(certificate).publicKey);
  } catch (cause) {
    throw new TenzroError('tls.certificate', `the peer's certificate cannot be read: ${messageOf(cause)}`, { cause });
  }
}

function extensionsOf(purpose: Purpose, publicKey: KeyObject): Buffer[] {
  const isAuthority = purpose.kind === 'authority';
  const constraints = isAuthority ? derSequence(derValue(DER_TAG.boolean, Buffer.of(0xff)), derValue(DER_TAG.integer, Buffer.of(purpose.pathLength))) : derSequence();
  const common = [
    extension(OID.basicConstraints, true, constraints),
    extension(OID.keyUsage, true, derValue(DER_TAG.bitString, Buffer.from(isAuthority ? KEY_USAGE.keyCertSignAndCrlSign : KEY_USAGE.digitalSignature))),
    // RFC 5280 §4.2.1.2 asks for any name that is unique to the key
    extension(OID.subjectKeyId, false, derValue(DER_TAG.octetString, spkiPin(publicKey))),
  ];
  if (isAuthority) return common;
  return [...common, extension(OID.extendedKeyUsage, false, derSequence(derOid(purpose.kind === 'server' ? OID.serverAuth : OID.clientAuth))), ...alternativeNames(purpose.kind === 'server' ? purpose.hosts : [])];
}

const extension = (id: string, isCritical: boolean, value: Buffer): Buffer =>
  derSequence(derOid(id), ...(isCritical ? [derValue(DER_TAG.boolean, Buffer.of(0xff))] : []), derValue(DER_TAG.octetString, value));
const alternativeNames = (hosts: readonly string[]): Buffer[] => (hosts.length === 0 ? [] : [extension(OID.subjectAltName, false, derSequence(...hosts.map(generalName)))]);

function generalName(host: string): Buffer {
  if (isIP(host) === 0) return derValue(CONTEXT.dnsName, Buffer.from(host, 'ascii'));
  return derValue(CONTEXT.ipAddress, isIP(host) === 4 ? Buffer.from(host.split('.').map(Number)) : ipv6Bytes(host));
}

/** RFC 4291 §2.2, with the two colons that stand for zeros, and a dotted IPv4 tail. */
function ipv6Bytes(host: string): Buffer {
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(host);
  const plain = dotted ? `${dotted[1]}${hex16(dotted[2], dotted[3])}:${hex16(dotted[4], dotted[5])}` : host;
  const [left = '', right] = plain.split('::');
  const groups = (text: string): number[] => (text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16)));
  const [head, tail] = [groups(left), groups(right ?? '')];
  const all = [...head, ...Array<number>(8 - head.length - tail.length).fill(0), ...tail];
  return Buffer.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}
const hex16 = (high = '0', low = '0'): string => (Number(high) * 256 + Number(low)).toString(16);

/** Positive and without a leading zero (RFC 5280 §4.1.2.2). */
function serialNumber(): Buffer {
  const serial = randomBytes(SERIAL_BYTES);
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40;
  return serial;
}
