/**
 * Which TPM: the EK certificate, and the pair of EK and AK that an enroller saw. A certificate is public, so that alone it proves nothing about
 * the AK that quotes: anybody could paste a genuine one beside a key of their own (Keylime GHSA-jf66-3q76-h5p5). Only credential activation
 * binds the two, it is interactive, and so its result reaches an offline verifier as a pair in the policy.
 */
import { X509Certificate } from 'node:crypto';
import { toHex } from '#runtime/core/bytes.ts';
import { publicKeyOf } from '#runtime/crypto/tpmEvidence.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import type { Identity } from '#runtime/ledger/block.ts';
import type { CheckBook } from './checks.ts';
import type { Policy, TrustLevel } from './policy.ts';

/** tcg-kp-EKCertificate, TCG EK Credential Profile for TPM Family 2.0, "Extended Key Usage". */
const EKU_EK_CERTIFICATE = '2.23.133.8.1';

export interface Endorsement {
  /** The EK certificate is of the policy's roots and for the EK of the genesis. */
  readonly certified: boolean;
  /** The policy says that this AK lives with this EK. */
  readonly enrolled: boolean;
}

export function checkEndorsement(book: CheckBook, identity: Identity, policy: Policy): Endorsement {
  return { certified: checkCertificate(book, identity, policy), enrolled: checkEnrolment(book, identity, policy) };
}

/** Validity dates are not judged: there is no clock to trust offline, and EK certificates outlive their issuers' plans. */
function checkCertificate(book: CheckBook, { ekPublic, ekCertificate }: Identity, policy: Policy): boolean {
  const open = (why: string): boolean => { book.unknown('ek.chain', why); return false; };
  const broken = (why: string): boolean => { book.fail('ek.chain', why); return false; };
  if (!ekPublic) return open('the genesis names no EK');
  if (!ekCertificate) return open('the TPM holds no EK certificate');
  const verdict = book.attempt('ek.chain', () => {
    const certificate = new X509Certificate(ekCertificate);
    if (!certificate.publicKey.equals(publicKeyOf(ekPublic))) return broken('the EK certificate is for another key than the EK of the genesis');
    if (!certificate.keyUsage?.includes(EKU_EK_CERTIFICATE)) return broken(`the certificate is not for an EK (extended key usage ${EKU_EK_CERTIFICATE} is missing)`);
    if (policy.ekRoots.length === 0) return open('an EK certificate is there, but the policy names no ekRoots');
    const issuer = policy.ekRoots.find((root) => root.ca && certificate.checkIssued(root) && certificate.verify(root.publicKey));
    if (!issuer) return open('none of the policy\'s ekRoots issued the EK certificate');
    book.pass('ek.chain', `issued by ${issuer.subject.replaceAll('\n', ', ')}`);
    return true;
  });
  return verdict ?? false;
}

function checkEnrolment(book: CheckBook, { ekPublic, akPublic }: Identity, policy: Policy): boolean {
  if (!ekPublic || !akPublic) {
    book.unknown('ek.enrolment', 'the genesis names no EK, or no AK');
    return false;
  }
  const ek = toHex(sha256(ekPublic));
  const ak = toHex(sha256(akPublic));
  const known = policy.enrolled.filter((pair) => pair.ek === ek);
  const enrolled = known.some((pair) => pair.ak === ak);
  if (enrolled) book.pass('ek.enrolment', 'the policy enrols this AK with this EK');
  else if (known.length > 0) book.fail('ek.enrolment', 'the policy enrols this EK with another AK: these quotes were made by a key that the enroller did not see in that TPM');
  else book.unknown('ek.enrolment', `the policy enrols nobody with ek ${ek}, ak ${ak}`);
  return enrolled;
}

export interface Trust {
  readonly level: TrustLevel;
  readonly reason: string;
}

/** What consistent TPM evidence is worth. */
export function trustOf({ certified, enrolled }: Endorsement): Trust {
  if (certified && enrolled) return { level: 'dtpm', reason: 'the EK certificate chains to a root of the policy, and the policy enrols the AK with that EK' };
  if (enrolled) return { level: 'enrolled', reason: 'the policy enrols the AK with this EK, which has no certificate of a root that the policy names' };
  const why = certified ? 'the EK certificate is genuine, but nothing binds the quoting AK to that EK (enrol the pair in the policy)' : 'neither a certificate nor an enrolment in the policy vouches for this TPM';
  return { level: 'emulated', reason: `the TPM evidence is consistent, but nothing proves that hardware made it: ${why}` };
}
