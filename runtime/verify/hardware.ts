/**
 * What the TPM said: the AK, its quotes and NV certifications. Parsing and comparing come first; the signatures, which cost more, are judged by
 * `checkAttestSignatures` when everything else fits. Structures: TCG TPM 2.0 Library Part 2.
 */
import { asBuffer, equalBytes } from '#runtime/core/bytes.ts';
import { messageOf } from '#runtime/core/errors.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import {
  NV_ATTRIBUTE, OBJECT_ATTRIBUTE, parseAttest, parseNvPublic, parsePublic, publicKeyOf, TPM_ALG, verifyAttestSignature,
  type Attested, type TpmAttest, type TpmNvPublic, type TpmPublic,
} from '#runtime/crypto/tpmEvidence.ts';
import type { TpmEvidence } from '#runtime/ledger/evidence.ts';
import type { CheckBook, CheckCode } from './checks.ts';
import type { OpenedBlock, OpenedBundle } from './opened.ts';

const AK_MUST = ['fixedTpm', 'fixedParent', 'sensitiveDataOrigin', 'restricted', 'sign'] as const;
/** TPM_RH_ENDORSEMENT, Part 2 §7.4; the qualified name of a hierarchy is its handle (Part 1 §16). */
const RH_ENDORSEMENT = Buffer.from('4000000b', 'hex');
const NAME_ALG_BYTES = 2;
/** TPM_NT_COUNTER holds 64 bits, Part 2 §13.2. */
const COUNTER_BYTES = 8;

/** A block's TPM evidence, parsed. */
interface Witness {
  readonly name: string;
  /** The hash that every statement must be about. */
  readonly hash: Uint8Array;
  readonly evidence: TpmEvidence;
  readonly quote: TpmAttest;
  readonly counter?: { readonly attest: TpmAttest; readonly nvPublic: TpmNvPublic };
}

const EVIDENCE_CHECKS = ['ak.attributes', 'quote.signature', 'quote.extradata', 'quote.pcrs', 'counter.name', 'counter.increasing', 'counter.continuous', 'clock.monotone'] as const satisfies readonly CheckCode[];

/** Everything about the evidence but its signatures. */
export function checkEvidence(book: CheckBook, { genesis, blocks }: OpenedBundle): void {
  if (blocks.every(({ evidence }) => evidence.kind === 'none')) {
    for (const code of EVIDENCE_CHECKS) book.skip(code, 'no block of the bundle has TPM evidence');
    return;
  }
  const akPublic = genesis.block.identity?.akPublic;
  if (!akPublic) return book.fail('ak.attributes', 'there is TPM evidence, but the genesis names no attestation key');
  const ak = book.attempt('ak.attributes', () => parsePublic(akPublic));
  const witnesses = blocks.flatMap((opening) => book.attempt('quote.signature', () => witnessOf(opening)) ?? []);
  if (!ak || book.refuted) return;
  checkAk(book, ak);
  checkExtraData(book, witnesses);
  checkPcrs(book, witnesses, ak);
  checkCounters(book, witnesses);
  checkClock(book, witnesses.map(({ name, quote }) => ({ name, ...quote.clockInfo })));
}

function witnessOf({ name, hash, evidence }: OpenedBlock): Witness[] {
  if (evidence.kind === 'none') return [];
  const { counter } = evidence;
  return [{
    name, hash, evidence, quote: parseAttest(evidence.quote.attest),
    ...(counter ? { counter: { attest: parseAttest(counter.attest), nvPublic: parseNvPublic(counter.nvPublic) } } : {}),
  }];
}

/** A restricted key signs what the TPM itself says and nothing that merely looks like it (Part 1, Object Attributes). */
function checkAk(book: CheckBook, ak: TpmPublic): void {
  const missing = AK_MUST.filter((attribute) => (ak.attributes & OBJECT_ATTRIBUTE[attribute]) === 0);
  if (missing.length > 0) book.fail('ak.attributes', `the AK is not ${missing.join(', ')}`);
  else if ((ak.attributes & OBJECT_ATTRIBUTE.decrypt) !== 0 || ak.scheme !== TPM_ALG.ecdsa) book.fail('ak.attributes', 'the AK is not for signing with ECDSA alone');
  else book.pass('ak.attributes', 'fixed to its TPM, made there, restricted to signing what the TPM says');
}

function checkExtraData(book: CheckBook, witnesses: readonly Witness[]): void {
  for (const { name, hash, quote, counter } of witnesses) {
    if (!equalBytes(quote.extraData, hash)) book.fail('quote.extradata', `${name}: the quote is about something else than this block`);
    if (counter && !equalBytes(counter.attest.extraData, hash)) book.fail('quote.extradata', `${name}: the counter's certification is about something else than this block`);
  }
  book.pass('quote.extradata', `${namesOf(witnesses)}: made over the hash of the block`);
}

function checkPcrs(book: CheckBook, witnesses: readonly Witness[], ak: TpmPublic): void {
  // The AK is a primary key of the endorsement hierarchy: in another one, reset and restart counts would be obfuscated (Part 1, Timing Components).
  const signer = Buffer.concat([ak.name.subarray(0, NAME_ALG_BYTES), sha256(RH_ENDORSEMENT, ak.name)]);
  for (const { name, quote, counter, evidence } of witnesses) {
    const fault = quoteFault(quote.attested, evidence);
    if (fault !== undefined) book.fail('quote.pcrs', `${name}: ${fault}`);
    const strange = [quote, ...(counter ? [counter.attest] : [])].some(({ qualifiedSigner }) => !equalBytes(qualifiedSigner, signer));
    if (strange) book.fail('quote.pcrs', `${name}: its qualified signer is not the AK as a primary key of the endorsement hierarchy`);
  }
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

function checkCounters(book: CheckBook, witnesses: readonly Witness[]): void {
  const values: { name: string; value: bigint }[] = [];
  let pinned: TpmNvPublic | undefined;
  for (const { name, counter } of witnesses) {
    if (!counter) continue;
    const { attest: { attested }, nvPublic } = counter;
    const fault = counterFault(attested, nvPublic, pinned);
    if (fault !== undefined) return book.fail('counter.name', `${name}: ${fault}`);
    pinned ??= nvPublic;
    if (attested.kind === 'nv') values.push({ name, value: asBuffer(attested.contents).readBigUInt64BE() });
  }
  if (!pinned) {
    book.unknown('counter.name', 'no block of the bundle carries a counter');
    book.unknown('counter.continuous', 'no block of the bundle carries a counter');
    return book.unknown('counter.increasing', 'no block of the bundle carries a counter');
  }
  book.pass('counter.name', `NV index 0x${pinned.index.toString(16).padStart(8, '0')}, a counter that never goes back`);
  const text = values.map(({ name, value }) => `${name} ${value}`).join(', ');
  book.unknown('counter.continuous', 'the bundle holds the evidence of its first and last block only: whether an increment is missing between them does not show');
  const [first, second] = values;
  if (!first || !second) return book.unknown('counter.increasing', `one value only (${text}): nothing to compare it with`);
  const stuck = values.find(({ value }, i) => i > 0 && value <= (values[i - 1]?.value ?? 0n));
  if (stuck) book.fail('counter.increasing', `${stuck.name}: the counter did not rise (${text})`);
  else book.pass('counter.increasing', text);
}

function counterFault(attested: Attested, nvPublic: TpmNvPublic, pinned: TpmNvPublic | undefined): string | undefined {
  if (attested.kind !== 'nv') return 'not an NV certification';
  if (!equalBytes(attested.name, nvPublic.name)) return 'the certified name is not that of the NV index in the evidence';
  if (pinned && !equalBytes(pinned.name, nvPublic.name)) return 'another NV index than in the block before';
  if ((nvPublic.attributes & NV_ATTRIBUTE.typeMask) !== NV_ATTRIBUTE.typeCounter) return 'the NV index is not a counter';
  if (attested.offset !== 0 || attested.contents.length !== COUNTER_BYTES) return 'not the whole counter was certified';
  return undefined;
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
export function checkAttestSignatures(book: CheckBook, { genesis, blocks }: OpenedBundle): void {
  const akPublic = genesis.block.identity?.akPublic;
  if (!akPublic || blocks.every(({ evidence }) => evidence.kind === 'none')) return;
  try {
    const key = publicKeyOf(akPublic);
    let count = 0;
    for (const { name, evidence } of blocks) {
      if (evidence.kind === 'none') continue;
      for (const { attest, signature } of [evidence.quote, ...(evidence.counter ? [evidence.counter] : [])]) {
        if (!verifyAttestSignature(key, attest, signature)) return book.fail('quote.signature', `${name}: not signed by the AK of the genesis`);
        count++;
      }
    }
    book.pass('quote.signature', `${count} statements of a TPM, signed by the AK of the genesis`);
  } catch (error) {
    book.fail('quote.signature', messageOf(error));
  }
}
