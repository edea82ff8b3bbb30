/**
 * What the TPM said: the AK, its quotes and NV certifications. Parsing and comparing come first; the signatures, which cost more, are judged by
 * `checkAttestSignatures` when everything else fits. Structures: TCG TPM 2.0 Library Part 2.
 */
import { equalBytes } from '#runtime/core/bytes.ts';
import { messageOf } from '#runtime/core/errors.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import {
  OBJECT_ATTRIBUTE, parseAttest, parseNvPublic, parsePublic, publicKeyOf, qualifiedNameOf, TPM_ALG, verifyAttestSignature,
  type Attested, type TpmAttest, type TpmPublic,
} from '#runtime/crypto/tpmEvidence.ts';
import type { BlockPayload } from '#runtime/ledger/block.ts';
import type { TpmEvidence } from '#runtime/ledger/evidence.ts';
import type { CheckBook, CheckCode } from './checks.ts';
import { checkCounters, type CounterWitness } from './counters.ts';
import type { OpenedAnchor, OpenedBlock, OpenedBundle } from './opened.ts';

const AK_MUST = ['fixedTpm', 'fixedParent', 'sensitiveDataOrigin', 'restricted', 'sign'] as const;

/** A block's TPM evidence, parsed. */
interface Witness {
  readonly name: string;
  readonly block: BlockPayload;
  /** The hash that every statement must be about. */
  readonly hash: Uint8Array;
  readonly evidence: TpmEvidence;
  readonly quote: TpmAttest;
  readonly counter?: CounterWitness;
}

const EVIDENCE_CHECKS = ['ak.attributes', 'quote.signature', 'quote.extradata', 'quote.pcrs', 'counter.name', 'counter.increasing', 'counter.continuous', 'clock.monotone'] as const satisfies readonly CheckCode[];

/** Everything about the evidence but its signatures. */
export function checkEvidence(book: CheckBook, opened: OpenedBundle): void {
  const { genesis, blocks, anchors } = opened;
  if (blocks.every(({ evidence }) => evidence.kind === 'none')) {
    for (const code of EVIDENCE_CHECKS) book.skip(code, 'no block of the bundle has TPM evidence');
    return;
  }
  const akPublic = genesis.block.identity?.akPublic;
  if (!akPublic) return book.fail('ak.attributes', 'there is TPM evidence, but the genesis names no attestation key');
  const ak = book.attempt('ak.attributes', () => parsePublic(akPublic));
  const witnesses = blocks.flatMap((opening) => book.attempt('quote.signature', () => witnessOf(opening)) ?? []);
  const between = anchors.flatMap((anchor) => book.attempt('quote.signature', () => linkWitness(anchor)) ?? []);
  if (!ak || book.refuted) return;
  const counters = [...witnesses.flatMap(({ counter }) => counter ?? []), ...between].toSorted((a, b) => a.block.sequence - b.block.sequence);
  checkAk(book, ak);
  checkExtraData(book, witnesses, counters);
  checkPcrs(book, witnesses, counters, ak);
  checkCounters(book, opened, counters);
  checkClock(book, witnesses.map(({ name, quote }) => ({ name, ...quote.clockInfo })));
}

function witnessOf({ name, block, hash, evidence }: OpenedBlock): Witness[] {
  if (evidence.kind === 'none') return [];
  const { counter } = evidence;
  return [{
    name, block, hash, evidence, quote: parseAttest(evidence.quote.attest),
    ...(counter ? { counter: { name, block, hash, attest: parseAttest(counter.attest), nvPublic: parseNvPublic(counter.nvPublic) } } : {}),
  }];
}

const linkWitness = ({ block, hash, statement }: OpenedAnchor): CounterWitness => ({ name: `block ${block.sequence}`, block, hash, attest: parseAttest(statement.attest) });

/** A restricted key signs what the TPM itself says and nothing that merely looks like it (Part 1, Object Attributes). */
function checkAk(book: CheckBook, ak: TpmPublic): void {
  const missing = AK_MUST.filter((attribute) => (ak.attributes & OBJECT_ATTRIBUTE[attribute]) === 0);
  if (missing.length > 0) book.fail('ak.attributes', `the AK is not ${missing.join(', ')}`);
  else if ((ak.attributes & OBJECT_ATTRIBUTE.decrypt) !== 0 || ak.scheme !== TPM_ALG.ecdsa) book.fail('ak.attributes', 'the AK is not for signing with ECDSA alone');
  else book.pass('ak.attributes', 'fixed to its TPM, made there, restricted to signing what the TPM says');
}

function checkExtraData(book: CheckBook, witnesses: readonly Witness[], counters: readonly CounterWitness[]): void {
  for (const { name, hash, quote } of witnesses) if (!equalBytes(quote.extraData, hash)) book.fail('quote.extradata', `${name}: the quote is about something else than this block`);
  for (const { name, hash, attest } of counters) if (!equalBytes(attest.extraData, hash)) book.fail('quote.extradata', `${name}: the counter's certification is about something else than this block`);
  book.pass('quote.extradata', `${namesOf(witnesses)}: made over the hash of the block`);
}

function checkPcrs(book: CheckBook, witnesses: readonly Witness[], counters: readonly CounterWitness[], ak: TpmPublic): void {
  const signer = qualifiedNameOf(ak);
  for (const { name, quote, evidence } of witnesses) {
    const fault = quoteFault(quote.attested, evidence);
    if (fault !== undefined) book.fail('quote.pcrs', `${name}: ${fault}`);
  }
  const strange = [...witnesses.map(({ name, quote }) => ({ name, attest: quote })), ...counters].find(({ attest }) => !equalBytes(attest.qualifiedSigner, signer));
  if (strange) book.fail('quote.pcrs', `${strange.name}: its qualified signer is not the AK as a primary key of the endorsement hierarchy`);
  book.pass('quote.pcrs', `${namesOf(witnesses)}: digest and selection fit the values; signed by the AK in the endorsement hierarchy`);
}

function quoteFault(attested: Attested, { pcrs }: TpmEvidence): string | undefined {
  if (attested.kind !== 'quote') return 'not a quote';
  const [selection, ...others] = attested.selections;
  if (selection?.hash !== TPM_ALG.sha256 || others.length > 0) return 'the quote does not select the SHA-256 bank alone';
  if (selection.pcrs.join() !== pcrs.map(([index]) => index).join()) return 'the quote selects other PCRs than the evidence lists';
  const digest = sha256(...pcrs.map(([, value]) => value));
  return equalBytes(digest, attested.pcrDigest) ? undefined : 'the listed PCR values are not those that were quoted';
}

type Reading = { readonly name: string } & TpmAttest['clockInfo'];

/** Part 1, Timing Components: between resets the clock only rises; after a hard kill it may have lost time, and then says `safe` = no. */
function checkClock(book: CheckBook, readings: readonly Reading[]): void {
  let before: Reading | undefined;
  for (const now of readings) {
    const fault = before && clockFault(before, now);
    if (fault !== undefined) return book.fail('clock.monotone', `${now.name}: ${fault} since ${before?.name ?? ''}`);
    before = now;
  }
  const text = readings.map(({ name, resetCount, restartCount, clock, safe }) => `${name} ${resetCount}.${restartCount} at ${clock} ms${safe ? '' : ' (unsafe)'}`).join(', ');
  if (readings.length === 1) book.unknown('clock.monotone', `one quote only (${text}): nothing to compare it with`);
  else book.pass('clock.monotone', text);
}

function clockFault(before: Reading, now: Reading): string | undefined {
  if (now.resetCount < before.resetCount) return 'the TPM\'s reset count fell';
  const sameBoot = now.resetCount === before.resetCount;
  if (sameBoot && now.restartCount < before.restartCount) return 'the TPM\'s restart count fell';
  if (now.clock >= before.clock) return undefined;
  if (sameBoot) return 'the TPM\'s clock went back without a reset';
  return now.safe ? 'the TPM\'s clock went back although it calls itself safe' : undefined;
}

const namesOf = (witnesses: readonly Witness[]): string => witnesses.map(({ name }) => name).join(', ');

/** The AK's signature over the raw bytes of every quote and certification. */
export function checkAttestSignatures(book: CheckBook, { genesis, blocks, anchors }: OpenedBundle): void {
  const akPublic = genesis.block.identity?.akPublic;
  if (!akPublic || blocks.every(({ evidence }) => evidence.kind === 'none')) return;
  try {
    const key = publicKeyOf(akPublic);
    const statements = [
      ...blocks.flatMap(({ name, evidence }) => (evidence.kind === 'none' ? [] : [evidence.quote, ...(evidence.counter ? [evidence.counter] : [])].map((statement) => ({ name, ...statement })))),
      ...anchors.map(({ statement }) => ({ name: `block ${statement.sequence}`, ...statement })),
    ];
    const forged = statements.find(({ attest, signature }) => !verifyAttestSignature(key, attest, signature));
    if (forged) return book.fail('quote.signature', `${forged.name}: not signed by the AK of the genesis`);
    book.pass('quote.signature', `${statements.length} statements of a TPM, signed by the AK of the genesis`);
  } catch (error) {
    book.fail('quote.signature', messageOf(error));
  }
}
