/**
 * The offline verifier: bytes and a policy in, a report out. Pure: no network, no TPM, no files, no clock. It never throws on hostile bytes.
 * Work goes from cheap to dear, and stops when the outcome is settled; the report keeps the order of `CHECKS`.
 */
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { verifySign1 } from '#runtime/crypto/cose.ts';
import { decodeBundleBody, openBundle, type Bundle } from '#runtime/ledger/bundle.ts';
import { checkBoot } from './boot.ts';
import { checkChain, checkEntries, checkHeaders, checkIdentity, checkInclusion } from './chain.ts';
import { CheckBook } from './checks.ts';
import { checkEndorsement, trustOf, type Trust } from './endorsement.ts';
import { viewEntry } from './entryView.ts';
import { checkFold } from './fold.ts';
import { checkFresh } from './fresh.ts';
import { checkAttestSignatures, checkEvidence } from './hardware.ts';
import { checkLease } from './lease.ts';
import { openBlocks, type OpenedBundle } from './opened.ts';
import type { Policy } from './policy.ts';
import { checkReceipt } from './receipt.ts';
import type { Report } from './report.ts';

type Subject = Report['subject'];

const NO_SUBJECT: Subject = { chainId: '', device: '', entries: [] };

export interface VerifyOptions {
  /** Our challenge: the head must answer it. */
  readonly nonce?: Uint8Array;
}

export function verifyBundle(file: Uint8Array, policy: Policy, { nonce }: VerifyOptions = {}): Report {
  const book = new CheckBook();
  const bundle = readBundle(book, file, policy);
  const opened = bundle && book.attempt('block.format', () => openBlocks(bundle));
  if (!opened) return reportOf(book, NO_SUBJECT);
  book.pass('block.format', `${opened.blocks.length} whole blocks and ${opened.bundle.links.length} payloads between them`);
  const subject = checkHashes(book, opened);
  if (book.settled) return reportOf(book, subject);
  checkEvidence(book, opened);
  checkFold(book, opened);
  if (book.settled) return reportOf(book, subject);
  checkSignatures(book, opened);
  checkAttestSignatures(book, opened);
  if (book.settled) return reportOf(book, subject);
  const trust = judgeTrust(book, opened, policy, subject.chainId);
  checkBoot(book, opened, policy);
  checkLease(book, opened, policy);
  checkFresh(book, opened, nonce, checkReceipt(book, opened, policy));
  return reportOf(book, subject, trust);
}

function reportOf(book: CheckBook, subject: Subject, trust?: Trust): Report {
  const reason = book.refuted ? 'the file was refuted: nothing in it is to be trusted' : 'the file was not judged';
  return { outcome: book.outcome, trust: trust ?? { level: 'none', reason }, subject, checks: book.report() };
}

/** Digest before content: only an intact file may say that it is newer than this program. */
function readBundle(book: CheckBook, file: Uint8Array, policy: Policy): Bundle | undefined {
  const envelope = book.attempt('bundle.format', () => openBundle(file));
  if (!envelope) return undefined;
  if (!envelope.intact) {
    book.fail('bundle.digest', 'the body is not what the file\'s digest says: it was damaged or altered');
    return undefined;
  }
  book.pass('bundle.digest', 'SHA-256 of the body fits');
  try {
    const bundle = decodeBundleBody(envelope.body);
    if (bundle.links.length > policy.maxLinks) {
      book.undecided('bundle.format', `${bundle.links.length} blocks between start and head, more than the policy's maxLinks of ${policy.maxLinks}`);
      return undefined;
    }
    book.pass('bundle.format', `${file.length} bytes, ${bundle.entries.length} ${bundle.entries.length === 1 ? 'entry' : 'entries'}`);
    return bundle;
  } catch (error) {
    if (error instanceof TenzroError && error.code === 'bundle.newer_version') book.undecided('bundle.format', `${error.message}. ${error.hint}`);
    else book.fail('bundle.format', messageOf(error));
    return undefined;
  }
}

function checkHashes(book: CheckBook, opened: OpenedBundle): Subject {
  const chainId = checkIdentity(book, opened);
  checkChain(book, opened);
  checkInclusion(book, opened);
  const entries = checkEntries(book, opened);
  const device = checkHeaders(book, opened, chainId);
  return { chainId: toHex(chainId), device: device ?? '', entries: entries.map(({ index, entry }) => viewEntry(index, entry)) };
}

function checkSignatures(book: CheckBook, { genesis, blocks }: OpenedBundle): void {
  const publicKey = genesis.block.identity?.signingKey ?? new Uint8Array(0);
  const forged = blocks.find(({ message }) => !verifySign1(message, publicKey));
  if (forged) book.fail('signature.mldsa', `${forged.name}: not signed by the ML-DSA key of the genesis`);
  else book.pass('signature.mldsa', `${blocks.length} ML-DSA-65 signatures by the key of the genesis`);
}

/** What the evidence of the head is worth, and whether the policy accepts that. */
export function judgeTrust(book: CheckBook, opened: OpenedBundle, policy: Policy, chainId: string): Trust {
  const trust = trustIn(book, opened, policy);
  const accepted = policy.accept.join(', ') || 'nothing';
  if (policy.device !== undefined && policy.device !== chainId) book.fail('trust.policy', `the policy asks for chain ${policy.device}: this is another one`);
  else if (policy.accept.includes(trust.level)) book.pass('trust.policy', `the policy accepts '${trust.level}'`);
  else book.fail('trust.policy', `the trust level is '${trust.level}' (${trust.reason}), the policy accepts ${accepted}. To accept it, list '${trust.level}' under accept in a policy file and pass it with --policy; docs/policies holds examples`);
  return trust;
}

function trustIn(book: CheckBook, opened: OpenedBundle, policy: Policy): Trust {
  const { evidence } = opened.head;
  if (evidence.kind === 'tpm2' && opened.genesis.block.identity) return trustOf(checkEndorsement(book, opened, policy));
  book.skip('ek.chain', 'the head has no TPM evidence');
  book.skip('ek.enrolment', 'the head has no TPM evidence');
  const why = evidence.kind === 'none' ? ` (${evidence.reason})` : '';
  return { level: 'software', reason: `the head has no TPM evidence${why}: only its signature speaks for it` };
}
