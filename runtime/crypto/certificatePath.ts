/**
 * Paths of certificates to a trust anchor, judged as RFC 5280 §6.1 asks: names chain, signatures verify, every issuer may issue, lengths hold, nothing
 * critical is left aside. Names are compared byte by byte; revocation is not looked up, for there is no network here.
 */
import { createPublicKey, verify, type KeyObject } from 'node:crypto';
import { equalBytes, toHex } from '#runtime/core/bytes.ts';
import { DER_TAG, DerReader } from './der.ts';
import type { Certificate } from './x509.ts';

/** Below the anchor: EK certificate and intermediates. Real paths have two or three. */
const PATH_MAX = 6;
/** Signatures that one judgement may cost: hostile names could otherwise ask for all of them. */
const SIGNATURES_MAX = 64;
const RSA_BITS_MIN = 2_048;
const CURVES: ReadonlySet<string | undefined> = new Set(['prime256v1', 'secp384r1', 'secp521r1']);
/** anyExtendedKeyUsage, RFC 5280 §4.2.1.12. */
const ANY_PURPOSE = '2.5.29.37.0';

/** AlgorithmIdentifiers that count: RFC 8017 appendix A.2.4, RFC 5758 §3.2. SHA-1 does not; makers last used it for parts of before 2016. */
const SIGNATURE: ReadonlyMap<string, { readonly key: 'rsa' | 'ec'; readonly hash: string }> = new Map([
  ['1.2.840.113549.1.1.11', { key: 'rsa', hash: 'sha256' }], ['1.2.840.113549.1.1.12', { key: 'rsa', hash: 'sha384' }], ['1.2.840.113549.1.1.13', { key: 'rsa', hash: 'sha512' }],
  ['1.2.840.10045.4.3.2', { key: 'ec', hash: 'sha256' }], ['1.2.840.10045.4.3.3', { key: 'ec', hash: 'sha384' }], ['1.2.840.10045.4.3.4', { key: 'ec', hash: 'sha512' }],
]);

/** Wall time in ms: a certificate must have been in force at some moment of it. */
export interface TimeSpan {
  readonly fromMs: number;
  readonly toMs: number;
}

export interface PathRequest {
  readonly leaf: Certificate;
  /** Any certificates, in any order: issuers are looked for among them and the anchors. */
  readonly issuers: readonly Certificate[];
  /** Trusted as they are, root or intermediate: neither their own signature nor their dates are judged. */
  readonly anchors: readonly Certificate[];
  /** What every certificate that restricts its use must allow; dotted. */
  readonly purpose: string;
  readonly during: TimeSpan;
}

export type PathVerdict =
  /** From the leaf, the anchor not included. */
  | { readonly kind: 'found'; readonly path: readonly Certificate[]; readonly anchor: Certificate }
  /** By their names, no certificates lead from the leaf to an anchor. */
  | { readonly kind: 'none' }
  /** By their names some do, and something on the way does not hold. */
  | { readonly kind: 'broken'; readonly why: string };

export function findPath({ leaf, issuers, anchors, purpose, during }: PathRequest): PathVerdict {
  const trusted = new Set(anchors.map(({ fingerprint }) => toHex(fingerprint)));
  const pool = unique([...anchors, ...issuers]);
  const seen = new Set<Certificate>([leaf]);
  let signatures = 0;
  let why: string | undefined;

  /** Each certificate is tried once, in the place where it is met first: hostile names cannot make the search explode. */
  const climb = (path: readonly Certificate[], current: Certificate): Extract<PathVerdict, { kind: 'found' }> | undefined => {
    for (const issuer of pool.filter((candidate) => isNamedIssuer(candidate, current) && !seen.has(candidate))) {
      const isAnchor = trusted.has(toHex(issuer.fingerprint));
      if (!isAnchor) seen.add(issuer);
      const further = isAnchor || path.length >= PATH_MAX ? undefined : climb([...path, issuer], issuer);
      if (!isAnchor && !further) continue;
      const fault = issuerFault(issuer, path.length - 1, purpose) ?? (isAnchor ? undefined : dateFault(issuer, during))
        ?? (++signatures > SIGNATURES_MAX ? `more than ${SIGNATURES_MAX} signatures to check` : signatureFault(current, issuer));
      if (fault === undefined) return further ?? { kind: 'found', path, anchor: issuer };
      why ??= fault;
    }
    return undefined;
  };
  return climb([leaf], leaf) ?? (why === undefined ? { kind: 'none' } : { kind: 'broken', why });
}

/** What is wrong with its dates; undefined when it was in force. */
export function dateFault({ subjectText, notBeforeMs, notAfterMs }: Certificate, { fromMs, toMs }: TimeSpan): string | undefined {
  const day = (ms: number): string => new Date(ms).toISOString().slice(0, 10);
  if (notAfterMs < fromMs) return `the certificate '${subjectText}' expired on ${day(notAfterMs)}, before ${day(fromMs)}`;
  return notBeforeMs > toMs ? `the certificate '${subjectText}' is valid from ${day(notBeforeMs)} on only, after ${day(toMs)}` : undefined;
}

/** By name, and by key identifier where both state one: a maker's renewed CA has the same name and another key. */
function isNamedIssuer(issuer: Certificate, subject: Certificate): boolean {
  if (!equalBytes(issuer.subject, subject.issuer)) return false;
  return !issuer.subjectKeyId || !subject.authorityKeyId || equalBytes(issuer.subjectKeyId, subject.authorityKeyId);
}

/** `below`: how many intermediates stand between it and the leaf. */
function issuerFault({ subjectText, isCa, maySignCertificates, pathLength, extendedKeyUsage, unknownCritical }: Certificate, below: number, purpose: string): string | undefined {
  if (!isCa) return `'${subjectText}' is no certificate authority`;
  if (!maySignCertificates) return `the key of '${subjectText}' may not sign certificates`;
  if (pathLength !== undefined && below > pathLength) return `'${subjectText}' allows ${pathLength} authorities below it, there are ${below}`;
  if (extendedKeyUsage && !extendedKeyUsage.includes(purpose) && !extendedKeyUsage.includes(ANY_PURPOSE)) return `'${subjectText}' is not for extended key usage ${purpose}`;
  return unknownCritical.length > 0 ? `'${subjectText}' has a critical extension that is unknown here: ${unknownCritical.join(', ')}` : undefined;
}

function signatureFault(certificate: Certificate, issuer: Certificate): string | undefined {
  const id = new DerReader(certificate.signatureAlgorithm, 'signature algorithm').inside().oid();
  const scheme = SIGNATURE.get(id);
  if (!scheme) return `'${certificate.subjectText}' is signed with algorithm ${id}, which does not count`;
  const key = publicKeyOf(issuer);
  if (key?.asymmetricKeyType !== scheme.key) return `'${certificate.subjectText}' is not signed with the kind of key that '${issuer.subjectText}' has`;
  const { modulusLength, namedCurve } = key.asymmetricKeyDetails ?? {};
  if (scheme.key === 'rsa' ? (modulusLength ?? 0) < RSA_BITS_MIN : !CURVES.has(namedCurve)) return `the key of '${issuer.subjectText}' is too weak, or of an unknown curve`;
  return verify(scheme.hash, certificate.tbs, key, certificate.signature) ? undefined : `'${certificate.subjectText}' is not signed by '${issuer.subjectText}'`;
}

function publicKeyOf({ spki }: Certificate): KeyObject | undefined {
  try {
    return createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
  } catch {
    return undefined; // a kind of key that OpenSSL does not know
  }
}

function unique(certificates: readonly Certificate[]): readonly Certificate[] {
  return [...new Map(certificates.map((certificate) => [toHex(certificate.fingerprint), certificate])).values()];
}

/** Certificates of PEM text (RFC 7468), or of one DER file. Undefined where there is none, or more than `max`. */
export function derOfFile(file: Uint8Array, max: number): readonly Buffer[] | undefined {
  if (file[0] === DER_TAG.sequence) return [Buffer.from(file)];
  const blocks = [...Buffer.from(file).toString('latin1').matchAll(/-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----/g)];
  return blocks.length === 0 || blocks.length > max ? undefined : blocks.map(([, base64 = '']) => Buffer.from(base64, 'base64'));
}
