/**
 * X.509 certificates (RFC 5280 §4) as far as judging EK certificates needs them; decision record 0011 says why OpenSSL's view of them is not enough. Reading
 * judges nothing: whether a certificate may issue another is said in certificatePath.ts. Throws `x509.malformed`.
 */
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { contextTag, DER_TAG, DerReader, implicitTag, type DerElement } from './der.ts';
import { sha256 } from './hash.ts';

/** Object identifiers of RFC 5280 §4.2 and §4.1.2.4. */
const OID = {
  subjectKeyId: '2.5.29.14', keyUsage: '2.5.29.15', subjectAltName: '2.5.29.17', basicConstraints: '2.5.29.19', certificatePolicies: '2.5.29.32',
  authorityKeyId: '2.5.29.35', extendedKeyUsage: '2.5.29.37',
} as const;
/** Authority Information Access, where an issuer's certificate can be had: RFC 5280 §4.2.2.1. Never critical. */
const AUTHORITY_INFO = { extension: '1.3.6.1.5.5.7.1.1', caIssuers: '1.3.6.1.5.5.7.48.2' } as const;
/** Short names of RFC 4514 §3 for reports. */
const ATTRIBUTE_NAME: ReadonlyMap<string, string> = new Map([
  ['2.5.4.3', 'CN'], ['2.5.4.5', 'serialNumber'], ['2.5.4.6', 'C'], ['2.5.4.7', 'L'], ['2.5.4.8', 'ST'], ['2.5.4.10', 'O'], ['2.5.4.11', 'OU'],
]);
/** Extensions whose meaning is heeded, or (certificate policies) asks nothing of who wants any policy (RFC 5280 §6.1.1). Others that are critical make a certificate unusable. */
const KNOWN = new Set<string>(Object.values(OID));
const EXTENSIONS_MAX = 32;
const ATTRIBUTES_MAX = 32;
/** GeneralName directoryName, RFC 5280 §4.2.1.6. */
const DIRECTORY_NAME = contextTag(4);
/** GeneralName uniformResourceIdentifier. */
const URI = implicitTag(6);
/** KeyUsage bit 5, RFC 5280 §4.2.1.3. */
const KEY_CERT_SIGN = 0x04;

export interface NameAttribute {
  /** Dotted object identifier. */
  readonly type: string;
  readonly value: string;
}

export interface Certificate {
  /** DER, without anything behind it. */
  readonly der: Uint8Array;
  /** SHA-256 of `der`. */
  readonly fingerprint: Uint8Array;
  /** The part that is signed. */
  readonly tbs: Uint8Array;
  /** AlgorithmIdentifier, DER. */
  readonly signatureAlgorithm: Uint8Array;
  readonly signature: Uint8Array;
  /** Names, DER. */
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  /** For people; may hold anything that its maker wrote. */
  readonly subjectText: string;
  /** Milliseconds since 1970. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** SubjectPublicKeyInfo, DER. */
  readonly spki: Uint8Array;
  readonly isCa: boolean;
  /** How many intermediates may stand below it; absent: any number. */
  readonly pathLength?: number;
  /** May sign certificates, or does not say what its key is for. */
  readonly maySignCertificates: boolean;
  /** Dotted; absent: it does not restrict itself. */
  readonly extendedKeyUsage?: readonly string[];
  /** Attributes of the directory names among its alternative names. */
  readonly directoryNames: readonly NameAttribute[];
  readonly subjectKeyId?: Uint8Array;
  readonly authorityKeyId?: Uint8Array;
  /** Where its issuer's certificate is said to be. */
  readonly issuerUrls: readonly string[];
  /** Critical extensions that nobody here understands, dotted. */
  readonly unknownCritical: readonly string[];
}

/** `bytes`: one certificate and nothing behind it. */
export function parseCertificate(bytes: Uint8Array): Certificate {
  if (bytes.length > LIMITS.certificateBytesMax) throw new TenzroError('x509.malformed', `certificate: ${bytes.length} bytes, more than ${LIMITS.certificateBytesMax}`);
  const file = new DerReader(bytes, 'certificate');
  const outer = file.inside();
  file.end();
  const tbs = outer.take(DER_TAG.sequence);
  const algorithm = outer.take(DER_TAG.sequence);
  const signature = outer.bits();
  outer.end();
  const { inner, ...body } = readBody(tbs.content);
  if (!inner.whole.equals(algorithm.whole)) throw outer.error('it names two different signature algorithms');
  return { der: bytes, fingerprint: sha256(bytes), tbs: tbs.whole, signatureAlgorithm: algorithm.whole, signature, ...body };
}

type Body = Omit<Certificate, 'der' | 'fingerprint' | 'tbs' | 'signatureAlgorithm' | 'signature'>;

/** TBSCertificate, RFC 5280 §4.1.2. */
function readBody(content: Uint8Array): Body & { readonly inner: DerElement } {
  const reader = new DerReader(content, 'certificate');
  const version = reader.tag === contextTag(0) ? reader.inside(contextTag(0)).count() : 0;
  reader.take(DER_TAG.integer); // serial number: some vendors' are negative or long, and nobody here asks for it
  const inner = reader.take(DER_TAG.sequence);
  const issuer = reader.take(DER_TAG.sequence);
  const validity = reader.inside();
  const [notBeforeMs, notAfterMs] = [readTime(validity), readTime(validity)];
  validity.end();
  const subject = reader.take(DER_TAG.sequence);
  const spki = reader.take(DER_TAG.sequence);
  reader.optional(implicitTag(1)); // unique identifiers, RFC 5280 §4.1.2.8: not for use
  reader.optional(implicitTag(2));
  const extensions = reader.tag === contextTag(3) ? readExtensions(reader.inside(contextTag(3))) : new Map<string, Extension>();
  reader.end();
  if (version !== 2 && extensions.size > 0) throw reader.error('it has extensions and is not of version 3');
  return {
    inner, issuer: issuer.whole, subject: subject.whole, subjectText: textOf(readName(subject.content)), notBeforeMs, notAfterMs, spki: spki.whole,
    ...meaningOf(extensions),
  };
}

interface Extension {
  readonly isCritical: boolean;
  readonly value: Buffer;
}

function readExtensions(explicit: DerReader): ReadonlyMap<string, Extension> {
  const list = explicit.inside();
  explicit.end();
  const extensions = new Map<string, Extension>();
  while (list.left > 0) {
    const item = list.inside();
    const id = item.oid();
    const isCritical = item.tag === DER_TAG.boolean && item.boolean();
    const value = item.take(DER_TAG.octetString).content;
    item.end();
    if (extensions.has(id)) throw list.error(`two extensions ${id}`);
    if (extensions.size >= EXTENSIONS_MAX) throw list.error(`more than ${EXTENSIONS_MAX} extensions`);
    extensions.set(id, { isCritical, value });
  }
  return extensions;
}

function meaningOf(extensions: ReadonlyMap<string, Extension>): Omit<Body, 'issuer' | 'subject' | 'subjectText' | 'notBeforeMs' | 'notAfterMs' | 'spki'> {
  const read = <T>(id: string, parse: (reader: DerReader) => T): T | undefined => {
    const extension = extensions.get(id);
    if (!extension) return undefined;
    const reader = new DerReader(extension.value, `certificate extension ${id}`);
    const value = parse(reader);
    reader.end();
    return value;
  };
  const constraints = read(OID.basicConstraints, readConstraints);
  const keyUsage = read(OID.keyUsage, (reader) => reader.take(DER_TAG.bitString).content);
  const extendedKeyUsage = read(OID.extendedKeyUsage, readPurposes);
  const subjectKeyId = read(OID.subjectKeyId, (reader) => reader.take(DER_TAG.octetString).content);
  const authorityKeyId = read(OID.authorityKeyId, (reader) => reader.inside().optional(implicitTag(0))?.content);
  return {
    isCa: constraints?.isCa ?? false,
    ...(constraints?.pathLength === undefined ? {} : { pathLength: constraints.pathLength }),
    maySignCertificates: keyUsage === undefined || ((keyUsage[1] ?? 0) & KEY_CERT_SIGN) !== 0,
    ...(extendedKeyUsage ? { extendedKeyUsage } : {}),
    directoryNames: read(OID.subjectAltName, readDirectoryNames) ?? [],
    ...(subjectKeyId ? { subjectKeyId } : {}), ...(authorityKeyId ? { authorityKeyId } : {}),
    issuerUrls: read(AUTHORITY_INFO.extension, readIssuerUrls) ?? [],
    unknownCritical: [...extensions].filter(([id, { isCritical }]) => isCritical && !KNOWN.has(id)).map(([id]) => id),
  };
}

/** §4.2.1.9. */
function readConstraints(reader: DerReader): { readonly isCa: boolean; readonly pathLength: number | undefined } {
  const inner = reader.inside();
  const isCa = inner.tag === DER_TAG.boolean && inner.boolean();
  const pathLength = inner.tag === DER_TAG.integer ? inner.count() : undefined;
  inner.end();
  return { isCa, pathLength };
}

/** §4.2.1.12. */
function readPurposes(reader: DerReader): readonly string[] {
  const list = reader.inside();
  const purposes: string[] = [];
  while (list.left > 0) {
    if (purposes.length >= EXTENSIONS_MAX) throw list.error(`more than ${EXTENSIONS_MAX} purposes`);
    purposes.push(list.oid());
  }
  return purposes;
}

/** §4.2.1.6: of the general names, those that are directory names. */
function readDirectoryNames(reader: DerReader): readonly NameAttribute[] {
  const names = reader.inside();
  const attributes: NameAttribute[] = [];
  while (names.left > 0) {
    const name = names.next();
    if (name.tag === DIRECTORY_NAME) attributes.push(...readName(new DerReader(name.content, 'certificate').take(DER_TAG.sequence).content));
    if (attributes.length > ATTRIBUTES_MAX) throw names.error(`more than ${ATTRIBUTES_MAX} name attributes`);
  }
  return attributes;
}

function readIssuerUrls(reader: DerReader): readonly string[] {
  const list = reader.inside();
  const urls: string[] = [];
  while (list.left > 0) {
    const access = list.inside();
    const method = access.oid();
    const { tag, content } = access.next();
    if (method === AUTHORITY_INFO.caIssuers && tag === URI && urls.length < EXTENSIONS_MAX) urls.push(content.toString('latin1'));
  }
  return urls;
}

/** RDNSequence: one attribute per set, or several in one: makers do either. */
function readName(content: Uint8Array): readonly NameAttribute[] {
  const reader = new DerReader(content, 'certificate name');
  const attributes: NameAttribute[] = [];
  while (reader.left > 0) {
    const set = reader.inside(DER_TAG.set);
    while (set.left > 0) {
      const pair = set.inside();
      const type = pair.oid();
      attributes.push({ type, value: stringOf(pair.next()) });
      pair.end();
      if (attributes.length > ATTRIBUTES_MAX) throw reader.error(`more than ${ATTRIBUTES_MAX} name attributes`);
    }
  }
  return attributes;
}

function stringOf({ tag, content }: DerElement): string {
  if (tag === DER_TAG.bmpString) return Buffer.from(content).subarray(0, content.length & ~1).swap16().toString('utf16le');
  return content.toString(tag === DER_TAG.utf8String ? 'utf8' : 'latin1');
}

const textOf = (name: readonly NameAttribute[]): string => name.map(({ type, value }) => `${ATTRIBUTE_NAME.get(type) ?? type}=${value}`).join(', ');

/** UTCTime or GeneralizedTime in the form of §4.1.2.5; the latter's year 9999 means for ever. */
function readTime(reader: DerReader): number {
  const { tag, content } = reader.next();
  const text = content.toString('latin1');
  const digits = /^(\d{2}|\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z$/.exec(text);
  const [, year = '', month = '', day = '', hour = '', minute = '', second = ''] = digits ?? [];
  const isUtc = tag === DER_TAG.utcTime;
  if (!digits || (!isUtc && tag !== DER_TAG.generalizedTime) || year.length !== (isUtc ? 2 : 4)) throw reader.error('a date that is none');
  const century = Number(year) < 50 ? '20' : '19'; // §4.1.2.5.1
  const ms = Date.parse(`${isUtc ? century : ''}${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  if (Number.isNaN(ms)) throw reader.error(`a date that does not exist: ${text}`);
  return ms;
}
