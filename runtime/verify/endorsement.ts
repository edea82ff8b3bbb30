/**
 * Which TPM: the EK certificate, and who saw the quoting AK in that TPM. A certificate is public, so that alone it proves nothing about the AK that quotes:
 * anybody could paste a genuine one beside a key of their own (Keylime GHSA-jf66-3q76-h5p5). Only credential activation binds the two, it is interactive,
 * and so its result reaches an offline verifier as a pair in the policy, or as the statement of an enroller that the policy pins.
 */
import { toHex } from '#runtime/core/bytes.ts';
import { isoOfMicros } from '#runtime/core/clock.ts';
import { ENROLMENT_BODY, KIND } from '#runtime/core/types.ts';
import { describeTpm, judgeEkCertificates } from '#runtime/crypto/ekCertificate.ts';
import { parseAttest, parsePublic } from '#runtime/crypto/tpmEvidence.ts';
import { chainIdOf, type Identity } from '#runtime/ledger/block.ts';
import { decodeBlockHeader } from '#runtime/ledger/blockHeader.ts';
import { parseEnrolment, tupleDifference, tupleOf, type EnrolmentStatement, type TupleField } from '#runtime/ledger/enrolment.ts';
import { decodeEntry } from '#runtime/ledger/entry.ts';
import type { CheckBook } from './checks.ts';
import type { OpenedBundle } from './opened.ts';
import { ekAnchorsOf, type Policy, type TrustLevel } from './policy.ts';

export interface Endorsement {
  /** The EK certificate leads to a root of the policy, and is for the EK of the genesis. */
  readonly certified: boolean;
  /** Somebody whom the policy believes saw this AK with this EK. */
  readonly enrolled: boolean;
}

export function checkEndorsement(book: CheckBook, opened: OpenedBundle, policy: Policy): Endorsement {
  const { identity } = opened.genesis.block;
  if (!identity?.ekPublic || !identity.akPublic) {
    for (const code of ['ek.chain', 'ek.enrolment'] as const) book.unknown(code, 'the genesis names no EK, or no AK');
    return { certified: false, enrolled: false };
  }
  return { certified: checkCertificate(book, opened, identity, identity.ekPublic, policy), enrolled: checkEnrolment(book, opened, identity, policy) };
}

/**
 * Dates: there is no clock to trust offline. A certificate must have been in force at some moment between the genesis, which bound the EK, and the head, by
 * the blocks' own times. What expired since then still says who made the TPM.
 */
function checkCertificate(book: CheckBook, { genesis, head }: OpenedBundle, { ekCertificate, ekChain = [] }: Identity, ekPublic: Uint8Array, policy: Policy): boolean {
  const verdict = book.attempt('ek.chain', () => judgeEkCertificates(parsePublic(ekPublic), ekCertificate ? [ekCertificate, ...ekChain] : [], ekAnchorsOf(policy), {
    fromMs: genesis.block.wallMicros / 1_000, toMs: Math.max(genesis.block.wallMicros, head.block.wallMicros) / 1_000,
  }));
  if (!verdict) return false;
  if (verdict.kind === 'broken') book.fail('ek.chain', verdict.why);
  if (verdict.kind === 'unchained') book.unknown('ek.chain', verdict.tpm ? `${verdict.why}; it speaks of ${describeTpm(verdict.tpm)}` : verdict.why);
  if (verdict.kind !== 'chained') return false;
  const { tpm, root, vendor, intermediates, expiresMs } = verdict;
  const [quoted] = [head.evidence].flatMap((evidence) => (evidence.kind === 'tpm2' ? [parseAttest(evidence.quote.attest).firmwareVersion] : []));
  const firmware = quoted === undefined ? '' : ` (quoted: ${quoted.toString(16).padStart(16, '0')})`;
  const expired = expiresMs < head.block.wallMicros / 1_000 ? `; expired on ${isoOfMicros(expiresMs * 1_000).slice(0, 10)}, was in force when the chain began` : '';
  book.pass('ek.chain', `${describeTpm(tpm)}${firmware}: over ${intermediates} intermediates to '${root.subjectText}', ${vendor ? `a bundled root of ${vendor.name}` : 'a root of the policy'}${expired}`);
  return true;
}

function checkEnrolment(book: CheckBook, opened: OpenedBundle, identity: Identity, policy: Policy): boolean {
  const tuple = tupleOf(identity, decodeBlockHeader(opened.genesis.message.header).device, chainIdOf(opened.genesis.message.payload));
  if (!tuple) return false;
  const [ek, ak] = [toHex(tuple.ek), toHex(tuple.ak)];
  const known = policy.enrolled.filter((pair) => pair.ek === ek);
  if (known.some((pair) => pair.ak === ak)) {
    book.pass('ek.enrolment', 'the policy enrols this AK with this EK');
    return true;
  }
  if (known.length > 0) book.fail('ek.enrolment', `the policy enrols this EK with another AK${STRANGER}`);
  const statement = book.attempt('ek.enrolment', () => statementIn(opened));
  if (statement) return judgeStatement(book, statement, tupleDifference(statement.enrolment.tuple, tuple), policy);
  book.unknown('ek.enrolment', `the policy enrols nobody with ek ${ek}, ak ${ak}, and the bundle holds no statement of an enroller`);
  return false;
}

const STRANGER = ': these quotes were made by a key that the enroller did not see in that TPM';

/** Who says so comes before what is said: the word of a stranger is worth nothing, right or wrong. */
function judgeStatement(book: CheckBook, { enrolment, keyDigest, isSigned }: EnrolmentStatement, difference: TupleField | undefined, { enrollers }: Policy): boolean {
  const { enroller, issuedAt, binding } = enrolment;
  const key = toHex(keyDigest);
  const broken = (why: string): boolean => { book.fail('ek.enrolment', why); return false; };
  if (!enrollers.includes(key)) {
    book.unknown('ek.enrolment', `enrolled by '${enroller}' with key ${key}, which is not among the policy's enrollers`);
    return false;
  }
  if (!isSigned()) return broken('the enrolment statement is not signed by the key that it names');
  if (difference === 'ak') return broken(`'${enroller}' enrolled this EK with another AK${STRANGER}`);
  if (difference !== undefined) return broken(`the enrolment statement is for another identity: its ${difference} is not that of the genesis`);
  const how = binding.kind === 'certified' ? 'after checking the EK certificate' : 'on first use, without an EK certificate that led to a root of its own';
  book.pass('ek.enrolment', `'${enroller}' activated this AK in the TPM of this EK on ${isoOfMicros(issuedAt * 1_000_000)}, ${how}`);
  return true;
}

/** The statement that the head names, where the bundle carries its entry. */
function statementIn({ bundle, head }: OpenedBundle): EnrolmentStatement | undefined {
  const index = head.block.support?.enrolment;
  const bytes = index === undefined ? undefined : bundle.entries.find((entry) => entry.index === index)?.bytes;
  if (!bytes) return undefined;
  const { kind, body } = decodeEntry(bytes);
  const statement = body instanceof Map ? (body as ReadonlyMap<number, unknown>).get(ENROLMENT_BODY.statement) : undefined;
  return parseEnrolment(kind === KIND.enrolment && statement instanceof Uint8Array ? statement : new Uint8Array(0));
}

export interface Trust {
  readonly level: TrustLevel;
  readonly reason: string;
}

/** What consistent TPM evidence is worth. */
export function trustOf({ certified, enrolled }: Endorsement): Trust {
  if (certified && enrolled) return { level: 'dtpm', reason: 'the EK certificate leads to a root that the policy trusts, and the AK was enrolled with that EK' };
  if (enrolled) return { level: 'enrolled', reason: 'the AK was enrolled with this EK, which has no certificate of a root that the policy trusts' };
  const why = certified ? 'the EK certificate is genuine, but nothing binds the quoting AK to that EK (enrol the gateway, or list the pair in the policy)' : 'neither a certificate nor an enrolment that the policy believes vouches for this TPM';
  return { level: 'emulated', reason: `the TPM evidence is consistent, but nothing proves that hardware made it: ${why}` };
}
