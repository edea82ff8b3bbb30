/**
 * PCR 14 refolded from the blocks: it cannot be reset by the operating system, so that its quoted value names every block since the TPM's
 * boot, in order. A block that states the value it started from, or whose evidence quotes it, is a sound beginning.
 */
import { equalBytes } from '#runtime/core/bytes.ts';
import { foldPcr, ZERO_HASH } from '#runtime/ledger/block.ts';
import { parseAttest } from '#runtime/crypto/tpmEvidence.ts';
import type { Evidence } from '#runtime/ledger/evidence.ts';
import type { CheckBook } from './checks.ts';
import type { Link, OpenedBlock, OpenedBundle } from './opened.ts';

const LEDGER_PCR = 14;

/** The quoted value of PCR 14; undefined without TPM evidence or where the quote leaves it out. */
const quotedPcr = ({ evidence }: OpenedBlock): Uint8Array | undefined =>
  evidence.kind === 'tpm2' ? evidence.pcrs.find(([index]) => index === LEDGER_PCR)?.[1] : undefined;

const foldStart = ({ block, hash }: Link): Uint8Array | undefined => block.pcrStart && foldPcr(block.pcrStart, hash);

export function checkFold(book: CheckBook, opened: OpenedBundle): void {
  const { head, start, segment, blocks } = opened;
  const quoted = quotedPcr(head);
  if (head.evidence.kind === 'none') return book.skip('pcr14.fold', 'the head has no TPM evidence');
  if (!quoted) return book.fail('pcr14.fold', 'the head\'s quote leaves PCR 14 out');
  const torn = blocks.find((opening) => {
    const [stated, seen] = [foldStart(opening), quotedPcr(opening)];
    return stated !== undefined && seen !== undefined && !equalBytes(stated, seen);
  });
  if (torn) return book.fail('pcr14.fold', `${torn.name}: its start value and its quote of PCR 14 disagree`);

  let begin: Link = start;
  let pcr = foldStart(start) ?? quotedPcr(start);
  for (const link of segment.slice(1)) {
    const restarted = foldStart(link);
    if (restarted) begin = link;
    pcr = restarted ?? (pcr && foldPcr(pcr, link.hash));
  }
  if (!pcr) return book.unknown('pcr14.fold', `block ${start.block.sequence} has no TPM evidence and states no start value: nothing to fold from`);
  if (!equalBytes(pcr, quoted)) return book.fail('pcr14.fold', `PCR 14 as quoted by block ${head.block.sequence} is not what the blocks since ${begin.block.sequence} fold to`);
  if (!book.refuted && begin === start && start !== head && isReset(start.evidence, head.evidence)) return book.fail('pcr14.fold', `the TPM was reset between blocks ${start.block.sequence} and ${head.block.sequence}, and no block states where PCR 14 began anew: its value was replayed`);
  if (begin === head && !begin.block.pcrStart) return book.unknown('pcr14.fold', 'the head is the only block in the bundle and states no start value: nothing to compare its quote with');
  book.pass('pcr14.fold', `${head.block.sequence - begin.block.sequence + 1} blocks from ${begin.block.sequence} fold to the quoted value; ${beginText(begin)}`);
}

function isReset(before: Evidence, now: Evidence): boolean {
  if (before.kind === 'none' || now.kind === 'none') return false;
  return parseAttest(before.quote.attest).clockInfo.resetCount !== parseAttest(now.quote.attest).clockInfo.resetCount;
}

function beginText({ block }: Link): string {
  if (!block.pcrStart) return 'the fold begins there and not at the TPM\'s boot: the segment is longer than a bundle holds';
  return equalBytes(block.pcrStart, ZERO_HASH) ? 'that is the TPM\'s boot' : 'something else had extended PCR 14 before that block: a boot loader does, and blocks cut from this boot would look the same';
}
