/**
 * The NV counter over all anchors that the bundle holds: genesis, start and head with their evidence, those between by their certifications. How the
 * values must follow one another stands in ledger/anchors.ts. Parsing and comparing only; signatures are judged in hardware.ts.
 */
import { asBuffer, equalBytes } from '#runtime/core/bytes.ts';
import { NV_ATTRIBUTE, type TpmAttest, type TpmNvPublic } from '#runtime/crypto/tpmEvidence.ts';
import { anchorAfter, missingSince } from '#runtime/ledger/anchors.ts';
import type { AnchorMark, BlockPayload } from '#runtime/ledger/block.ts';
import type { CheckBook } from './checks.ts';
import type { OpenedBundle } from './opened.ts';

/** TPM_NT_COUNTER holds 64 bits, Part 2 §13.2. */
const COUNTER_BYTES = 8;

/** A block's certification of the counter. */
export interface CounterWitness {
  /** As the report calls the block. */
  readonly name: string;
  readonly block: BlockPayload;
  /** The hash that the certification must be about. */
  readonly hash: Uint8Array;
  readonly attest: TpmAttest;
  /** The index; links carry none, and must be of the same. */
  readonly nvPublic?: TpmNvPublic;
}

interface Count {
  readonly name: string;
  readonly block: BlockPayload;
  readonly value: bigint;
}

/** `witnesses` in the order of the chain. */
export function checkCounters(book: CheckBook, opened: OpenedBundle, witnesses: readonly CounterWitness[]): void {
  const counts: Count[] = [];
  const pinned = witnesses.find(({ nvPublic }) => nvPublic)?.nvPublic;
  if (!pinned) {
    for (const code of ['counter.name', 'counter.increasing', 'counter.continuous'] as const) book.unknown(code, 'no block of the bundle carries a counter');
    return;
  }
  for (const { name, block, attest: { attested }, nvPublic = pinned } of witnesses) {
    const fault = counterFault(attested, nvPublic, pinned);
    if (fault !== undefined) return book.fail('counter.name', `${name}: ${fault}`);
    if (attested.kind === 'nv') counts.push({ name, block, value: asBuffer(attested.contents).readBigUInt64BE() });
  }
  book.pass('counter.name', `NV index 0x${pinned.index.toString(16).padStart(8, '0')}, a counter that never goes back`);
  checkIncreasing(book, counts);
  checkContinuous(book, opened, counts);
}

function counterFault(attested: TpmAttest['attested'], nvPublic: TpmNvPublic, pinned: TpmNvPublic): string | undefined {
  if (attested.kind !== 'nv') return 'not an NV certification';
  if (!equalBytes(pinned.name, nvPublic.name)) return 'another NV index than in the block before';
  if (!equalBytes(attested.name, nvPublic.name)) return 'the certified name is not that of the NV index in the evidence';
  if ((nvPublic.attributes & NV_ATTRIBUTE.typeMask) !== NV_ATTRIBUTE.typeCounter) return 'the NV index is not a counter';
  if (attested.offset !== 0 || attested.contents.length !== COUNTER_BYTES) return 'not the whole counter was certified';
  return undefined;
}

/** Above the last anchor's value, which was incremented; not below the last challenge's, which was not. */
function checkIncreasing(book: CheckBook, counts: readonly Count[]): void {
  const [first, ...rest] = counts;
  const text = rest.length > 1 && first ? `${first.name} ${first.value}, then ${rest.length} more up to ${rest.at(-1)?.value ?? ''}` : counts.map(({ name, value }) => `${name} ${value}`).join(', ');
  if (rest.length === 0) return book.unknown('counter.increasing', `one value only (${text}): nothing to compare it with`);
  let least = 0n;
  for (const { name, block, value } of counts) {
    if (value < least) return book.fail('counter.increasing', `${name}: the counter did not rise (${text})`);
    least = block.challenge ? value : value + 1n;
  }
  book.pass('counter.increasing', text);
}

/** The gateway states in every block where the counter stood; what the bundle holds of the TPM's own words must bear that out. */
function checkContinuous(book: CheckBook, { start, segment, head }: OpenedBundle, counts: readonly Count[]): void {
  const certified = new Map(counts.filter(({ block }) => !block.challenge).map(({ block, value }) => [block.sequence, value]));
  const stated = segment.flatMap(({ block }) => (block.anchor ? [{ by: block.sequence, mark: block.anchor }] : []));
  const lie = stated.find(({ by, mark }) => mark.sequence >= by || (certified.has(mark.sequence) && certified.get(mark.sequence) !== mark.counter));
  if (lie) return book.fail('counter.continuous', `block ${lie.by} states that the counter was ${lie.mark.counter} at block ${lie.mark.sequence}: the TPM said otherwise there`);
  const mark = anchorAfter(head.block, head.evidence);
  if (!mark) return book.unknown('counter.continuous', 'the blocks do not state where the counter stood');
  const look = counts.find(({ block }) => block === head.block && block.challenge);
  const missing = mark.missing + (look ? missingSince(mark, look.value) : 0n);
  if (missing < 0n) return book.fail('counter.continuous', `the counter is below what it was at block ${mark.sequence}`);
  if (missing > 0n) return book.unknown('counter.continuous', `${missing} increments of the counter are in no block of this chain: anchored blocks were cut from it, an older disk image was restored, two chains share the TPM, or another program increments the counter`);
  const unseen = stated.find(({ mark: { sequence } }) => sequence > start.block.sequence && !certified.has(sequence));
  if (unseen) return book.unknown('counter.continuous', `block ${unseen.mark.sequence} is an anchor, and its certification is not in the bundle`);
  book.pass('counter.continuous', continuousText(start.block, mark, certified));
}

function continuousText(start: BlockPayload, last: AnchorMark, certified: ReadonlyMap<number, bigint>): string {
  const within = [...certified.keys()].filter((sequence) => sequence >= start.sequence).length;
  const before = start.sequence === 0 ? '' : `; before block ${start.sequence} it is the gateway's own count that none is missing (tenzro fsck reads the whole chain)`;
  return `${within} anchors from block ${start.sequence} on, without a gap up to ${last.counter} at block ${last.sequence}${before}`;
}
