/**
 * Whether a fleet's broker is who it says, without a clock that anybody could set wrong: by pinned authorities, by name, and by the newest time that the fleet
 * itself proved. OpenSSL would ask the wall clock, and a gateway whose clock stands at 1970, or years ahead, could never be told the time. Pure.
 */
import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { equalBytes } from '#runtime/core/bytes.ts';
import { messageOf } from '#runtime/core/errors.ts';
import { dateFault, derOfFile, findPath } from './certificatePath.ts';
import { sha256 } from './hash.ts';
import { parseCertificate, type Certificate } from './x509.ts';

/** RFC 5280 §4.2.1.12. */
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const ANY_PURPOSE = '2.5.29.37.0';
/** The clock of who proved the time may be ahead by this much. */
const TOLERANCE_MS = 86_400_000;
const CHAIN_MAX = 8;
const ROOTS_MAX = 256;

export interface BrokerChain {
  /** What the broker showed, DER, its own certificate first. */
  readonly chain: readonly Uint8Array[];
  /** PEM of the pinned authorities, or of the broker's own certificate. */
  readonly roots: string | readonly string[];
  /** Name or address that was dialled. */
  readonly host: string;
  /**
   * A time that has passed for sure, µs since 1970: signed by the fleet (a receipt), never the own clock. 0: none was proven. What ended before it, with a day
   * of tolerance, is expired; beginnings are not judged, for nobody can prove that it is not later.
   */
  readonly provenMicros: number;
  /** Whether the owner took that key back: SHA-256 of a SubjectPublicKeyInfo. */
  readonly isRevoked?: (spkiDigest: Uint8Array) => boolean;
}

/** What is wrong with it; undefined when it holds. Never throws on hostile bytes. */
export function judgeBrokerChain({ chain, roots, host, provenMicros, isRevoked = () => false }: BrokerChain): string | undefined {
  try {
    const anchors = (typeof roots === 'string' ? [roots] : roots).flatMap((pem) => derOfFile(Buffer.from(pem), ROOTS_MAX) ?? []).map(parseCertificate);
    const [leaf, ...issuers] = chain.slice(0, CHAIN_MAX).map(parseCertificate);
    if (!leaf) return 'the broker showed no certificate';
    const revoked = [leaf, ...issuers].find(({ spki }) => isRevoked(sha256(spki)));
    if (revoked) return `the owner revoked '${revoked.subjectText}'`;
    const during = { fromMs: provenMicros / 1_000 - TOLERANCE_MS, toMs: Number.POSITIVE_INFINITY };
    return leafFault(leaf, host) ?? dateFault(leaf, during) ?? pathFault(leaf, issuers, anchors, during);
  } catch (error) {
    return `the broker's certificates cannot be read: ${messageOf(error)}`;
  }
}

function leafFault({ der, extendedKeyUsage, unknownCritical, subjectText }: Certificate, host: string): string | undefined {
  const certificate = new X509Certificate(der);
  const isNamed = isIP(host) === 0 ? certificate.checkHost(host) : certificate.checkIP(host);
  if (isNamed === undefined) return `the certificate '${subjectText}' is not for ${host}`;
  if (extendedKeyUsage && !extendedKeyUsage.includes(SERVER_AUTH) && !extendedKeyUsage.includes(ANY_PURPOSE)) return `the certificate '${subjectText}' is not for servers`;
  return unknownCritical.length > 0 ? `the certificate '${subjectText}' has a critical extension that is unknown here` : undefined;
}

function pathFault(leaf: Certificate, issuers: readonly Certificate[], anchors: readonly Certificate[], during: Parameters<typeof dateFault>[1]): string | undefined {
  if (anchors.some(({ fingerprint }) => equalBytes(fingerprint, leaf.fingerprint))) return undefined;
  const verdict = findPath({ leaf, issuers, anchors, purpose: SERVER_AUTH, during });
  if (verdict.kind === 'found') return undefined;
  return verdict.kind === 'broken' ? verdict.why : `the certificate '${leaf.subjectText}' does not lead to a pinned authority`;
}
