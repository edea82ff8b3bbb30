/**
 * Whether a certificate that a fleet's broker delivers is one to show from now on: around the gateway's own identity key, under the pinned authority of the
 * fleet, and ending later than the one that is held. Needs no network and no clock that anybody could set. Pure.
 */
import { equalBytes } from '#runtime/core/bytes.ts';
import { messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { dateFault, derOfFile, findPath } from './certificatePath.ts';
import { sha256 } from './hash.ts';
import { parseCertificate, type Certificate } from './x509.ts';

/** RFC 5280 §4.2.1.12. */
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
const ROOTS_MAX = 256;
/** The clock of who proved the time may be ahead by this much. */
const TOLERANCE_MS = 86_400_000;

export interface CertificateOffer {
  /** PEM, the gateway's own first, its issuers behind it. Hostile. */
  readonly pem: Uint8Array;
  /** PEM of the fleet's pinned authority. */
  readonly roots: string | readonly string[];
  /** SubjectPublicKeyInfo of the identity key, DER. */
  readonly spki: Uint8Array;
  /** As `judgeBrokerChain` has it. */
  readonly provenMicros: number;
  /** Whether the owner took that key away: SHA-256 of a SubjectPublicKeyInfo. */
  readonly isRevoked: (spkiDigest: Uint8Array) => boolean;
}

export type OfferVerdict = { readonly kind: 'good'; /** Milliseconds since 1970. */ readonly endsMs: number } | { readonly kind: 'bad'; readonly why: string };

/** Never throws on hostile bytes. */
export function judgeOffer(offer: CertificateOffer): OfferVerdict {
  try {
    const chain = offer.pem.length > LIMITS.certificateChainBytesMax ? undefined : derOfFile(offer.pem, LIMITS.certificateChainMax);
    const [leaf, ...issuers] = chain?.map(parseCertificate) ?? [];
    if (!leaf) return { kind: 'bad', why: `no PEM of 1 to ${LIMITS.certificateChainMax} certificates` };
    const why = leafFault(leaf, offer) ?? pathFault(leaf, issuers, offer);
    return why === undefined ? { kind: 'good', endsMs: leaf.notAfterMs } : { kind: 'bad', why };
  } catch (error) {
    return { kind: 'bad', why: messageOf(error) };
  }
}

function leafFault({ spki, isCa, extendedKeyUsage, unknownCritical }: Certificate, offer: CertificateOffer): string | undefined {
  if (!equalBytes(spki, offer.spki)) return 'it is around another key than this gateway\'s';
  if (isCa) return 'it is an authority\'s';
  if (extendedKeyUsage && !extendedKeyUsage.includes(CLIENT_AUTH)) return 'it is not for clients';
  return unknownCritical.length > 0 ? 'it has a critical extension that is unknown here' : undefined;
}

function pathFault(leaf: Certificate, issuers: readonly Certificate[], { roots, provenMicros, isRevoked }: CertificateOffer): string | undefined {
  const during = { fromMs: provenMicros / 1_000 - TOLERANCE_MS, toMs: Number.POSITIVE_INFINITY };
  const anchors = (typeof roots === 'string' ? [roots] : roots).flatMap((pem) => derOfFile(Buffer.from(pem), ROOTS_MAX) ?? []).map(parseCertificate);
  const revoked = issuers.find(({ spki }) => isRevoked(sha256(spki)));
  if (revoked) return `the owner revoked '${revoked.subjectText}'`;
  const verdict = findPath({ leaf, issuers, anchors, purpose: CLIENT_AUTH, during });
  if (verdict.kind === 'none') return 'it does not lead to the pinned authority of the fleet';
  return verdict.kind === 'broken' ? verdict.why : dateFault(leaf, during);
}
