/**
 * Self-signed X.509 certificates (RFC 5280) for keys of our own: TLS wants one around every key. Nobody trusts the certificate; the peer pins the key
 * that it carries (`spkiPin`). Writes DER (X.690 §10); reading is left to OpenSSL.
 */
import { createPublicKey, randomBytes, sign, X509Certificate, type KeyObject } from 'node:crypto';
import { isIP } from 'node:net';
import { TenzroError, invariant, messageOf } from '#runtime/core/errors.ts';
import { contextTag, DER_TAG, implicitTag } from './der.ts';
import { sha256 } from './hash.ts';

export interface CertificateOptions {
  /** ML-DSA-65 or P-256. */
  readonly privateKey: KeyObject;
  /** At most 64 characters (RFC 5280 appendix A.1, ub-common-name). */
  readonly commonName: string;
  /** Host names and IP addresses under which a server answers; may be empty. */
  readonly hosts: readonly string[];
  /** Whole seconds since 1970 in ms; the rest is cut off. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

const CONTEXT = { version: contextTag(0), extensions: contextTag(3), dnsName: implicitTag(2), ipAddress: implicitTag(7) } as const; // RFC 5280 appendix A
const OID = {
  commonName: '2.5.4.3', // RFC 5280 appendix A.1
  keyUsage: '2.5.29.15', subjectAltName: '2.5.29.17', basicConstraints: '2.5.29.19', extendedKeyUsage: '2.5.29.37', // RFC 5280 §4.2.1
  serverAuth: '1.3.6.1.5.5.7.3.1', clientAuth: '1.3.6.1.5.5.7.3.2', // RFC 5280 §4.2.1.12
  ecdsaWithSha256: '1.2.840.10045.4.3.2', // RFC 5758 §3.2
  mlDsa65: '2.16.840.1.101.3.4.3.18', // RFC 9881 §2
} as const;
/** KeyUsage digitalSignature: the first of its bits, seven unused (RFC 5280 §4.2.1.3). */
const DIGITAL_SIGNATURE = [7, 0x80];
const SERIAL_BYTES = 16;
const COMMON_NAME_MAX = 64;
/** From 2050 on dates are GeneralizedTime (RFC 5280 §4.1.2.5). */
const GENERALIZED_FROM_YEAR = 2050;

/** DER. Throws `core.invariant` for another kind of key, a name that is too long, and dates that end before they begin. */
export function selfSignedCertificate({ privateKey, commonName, hosts, notBeforeMs, notAfterMs }: CertificateOptions): Buffer {
  invariant(commonName !== '' && commonName.length <= COMMON_NAME_MAX, `a common name has 1 to ${COMMON_NAME_MAX} characters`);
  invariant(notAfterMs > notBeforeMs, 'a certificate ends after it begins');
  const isMlDsa = privateKey.asymmetricKeyType === 'ml-dsa-65';
  invariant(isMlDsa || privateKey.asymmetricKeyDetails?.namedCurve === 'prime256v1', 'certificates are made for ML-DSA-65 and P-256 keys');
  const algorithm = sequence(oid(isMlDsa ? OID.mlDsa65 : OID.ecdsaWithSha256)); // parameters absent: RFC 9881 §2, RFC 5758 §3.2
  const name = sequence(tlv(DER_TAG.set, sequence(oid(OID.commonName), tlv(DER_TAG.utf8String, Buffer.from(commonName)))));
  const body = sequence(
    tlv(CONTEXT.version, tlv(DER_TAG.integer, Buffer.of(2))), // v3
    tlv(DER_TAG.integer, serialNumber()),
    algorithm, name, sequence(time(notBeforeMs), time(notAfterMs)), name,
    createPublicKey(privateKey).export({ format: 'der', type: 'spki' }),
    tlv(CONTEXT.extensions, sequence(...extensions(hosts))),
  );
  const signature = sign(isMlDsa ? null : 'sha256', body, privateKey);
  return sequence(body, algorithm, tlv(DER_TAG.bitString, Buffer.of(0), signature));
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

function extensions(hosts: readonly string[]): Buffer[] {
  const extension = (id: string, isCritical: boolean, value: Buffer): Buffer =>
    sequence(oid(id), ...(isCritical ? [tlv(DER_TAG.boolean, Buffer.of(0xff))] : []), tlv(DER_TAG.octetString, value));
  return [
    extension(OID.basicConstraints, true, sequence()), // cA is FALSE by default
    extension(OID.keyUsage, true, tlv(DER_TAG.bitString, Buffer.from(DIGITAL_SIGNATURE))),
    extension(OID.extendedKeyUsage, false, sequence(oid(OID.serverAuth), oid(OID.clientAuth))),
    ...(hosts.length === 0 ? [] : [extension(OID.subjectAltName, false, sequence(...hosts.map(generalName)))]),
  ];
}

function generalName(host: string): Buffer {
  if (isIP(host) === 0) return tlv(CONTEXT.dnsName, Buffer.from(host, 'ascii'));
  return tlv(CONTEXT.ipAddress, isIP(host) === 4 ? Buffer.from(host.split('.').map(Number)) : ipv6Bytes(host));
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

function time(ms: number): Buffer {
  const digits = new Date(ms).toISOString().replaceAll(/[-:T]|\.\d+/g, ''); // YYYYMMDDHHMMSSZ
  return Number(digits.slice(0, 4)) < GENERALIZED_FROM_YEAR ? tlv(DER_TAG.utcTime, Buffer.from(digits.slice(2))) : tlv(DER_TAG.generalizedTime, Buffer.from(digits));
}

/** X.690 §8.19: base 128, high bit on all but the last; the first two arcs share a number. */
function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const bytes = [first * 40 + second, ...rest].flatMap((arc) => {
    const septets = [arc & 0x7f];
    for (let left = arc >>> 7; left > 0; left >>>= 7) septets.unshift((left & 0x7f) | 0x80);
    return septets;
  });
  return tlv(DER_TAG.oid, Buffer.from(bytes));
}

const sequence = (...parts: readonly Uint8Array[]): Buffer => tlv(DER_TAG.sequence, ...parts);

/** Definite length in its shortest form (X.690 §10.1). */
function tlv(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  const head = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : length < 0x1_0000 ? [0x82, length >> 8, length & 0xff] : undefined;
  invariant(head, 'a certificate of ours stays below 64 KiB');
  return Buffer.concat([Buffer.of(tag, ...head), content]);
}
