/**
 * What could have been cut from a chain, and what cannot: from the chain itself, and held against its TPM where that is at hand. Pure.
 *
 * Cutting back before an anchor shows in the TPM's counter, for ever. Cutting blocks after the last anchor shows in PCR 14 until the TPM is reset; after
 * that in nothing. So an orderly shutdown, whose last block is an anchor, leaves nothing to cut, and any other end of a boot at most the blocks since
 * the anchor before it (attest.anchorIntervalMs).
 */
import { equalBytes, toHex } from '#runtime/core/bytes.ts';
import { isoOfMicros } from '#runtime/core/clock.ts';
import type { AnchorLook } from '#runtime/core/ports.ts';
import { parseNvPublic } from '#runtime/crypto/tpmEvidence.ts';
import { anchorStatement, readCounter } from './anchors.ts';
import { blockHash, type BlockPayload } from './block.ts';
import { withFold, type AnchorWalk, type Gap } from './fsckAnchors.ts';
import type { PendingBlock } from './pending.ts';

/** As `tenzro fsck --json` prints it; 64-bit numbers are decimal text. */
export interface ChainTail {
  readonly lastBlock: { readonly sequence: number; readonly treeSize: number; readonly at: string } | null;
  readonly lastAnchor: { readonly sequence: number; readonly counter: string } | null;
  /** Entries that no block covers yet. */
  readonly uncovered: number;
  /** The chain ends with the anchor of an orderly shutdown. */
  readonly orderly: boolean;
  readonly anchors: number;
  /** Increments of the counter that no block names, and where. */
  readonly missing: string;
  readonly gaps: readonly { readonly after: number; readonly at: number; readonly missing: string }[];
  /** Blocks that found PCR 14 extended, within one boot of the TPM, by what is no block. */
  readonly moves: readonly number[];
  /** Last blocks of earlier boots of the TPM that did not end in order: blocks after them may have been cut. */
  readonly openEnds: readonly number[];
}

/** The chain against its TPM now. */
export interface LiveTail {
  /** Nothing that the TPM can still show is missing. */
  readonly ok: boolean;
  readonly counter: string | null;
  readonly findings: readonly string[];
}

export interface TailFacts {
  readonly walk: AnchorWalk;
  readonly last: BlockPayload | undefined;
  readonly size: number;
  /** Tree sizes right behind a `shutdown` entry. */
  readonly shutdownSizes: ReadonlySet<number>;
  readonly pending: PendingBlock | undefined;
  /** TPMT_PUBLIC of the genesis' attestation key. */
  readonly akPublic: Uint8Array | undefined;
}

export function tailOf({ walk, last, size, shutdownSizes }: TailFacts): ChainTail {
  const { mark, gaps, moves, ends, anchors } = walk;
  const isClosed = ({ treeSize }: Pick<BlockPayload, 'treeSize'>): boolean => shutdownSizes.has(treeSize);
  return {
    lastBlock: last ? { sequence: last.sequence, treeSize: last.treeSize, at: isoOfMicros(last.wallMicros) } : null,
    lastAnchor: mark ? { sequence: mark.sequence, counter: String(mark.counter) } : null,
    uncovered: size - (last?.treeSize ?? 0), anchors, moves: [...moves],
    orderly: last !== undefined && isClosed(last) && last.treeSize === size && mark?.sequence === last.sequence,
    missing: String(gaps.reduce((sum, { missing }) => sum + missing, 0n)), gaps: gaps.map(gapOf), openEnds: ends.filter((end) => !isClosed(end)).map(({ sequence }) => sequence),
  };
}

const gapOf = ({ after, at, missing }: Gap): ChainTail['gaps'][number] => ({ after, at, missing: String(missing) });
const CAUSES = 'blocks were cut, an older disk image was restored, two chains share the TPM, or another program uses it';

export function compareLive({ walk, pending, akPublic }: TailFacts, look: AnchorLook, liveAk: Uint8Array): LiveTail {
  const counter = look.counter.kind === 'value' ? String(look.counter.value.value) : null;
  if (!akPublic || !equalBytes(akPublic, liveAk)) return { ok: true, counter, findings: ['this is not the TPM that the genesis names: nothing to compare'] };
  const judged = [judgeCounter(walk, pending, look), judgePcr(walk, pending, look)];
  return { ok: judged.every(({ ok }) => ok), counter, findings: judged.map(({ text }) => text) };
}

export const notAsked = (reason: string): LiveTail => ({ ok: true, counter: null, findings: [`the TPM was not asked (${reason}): whether the chain goes on where its counter stands is not known here`] });

interface Judged { readonly ok: boolean; readonly text: string }

function judgeCounter({ mark, counterName }: AnchorWalk, pending: PendingBlock | undefined, { counter }: AnchorLook): Judged {
  if (!mark || !counterName) return { ok: true, text: 'the chain has no anchor: the counter says nothing about it' };
  if (counter.kind === 'none') return { ok: false, text: `${counter.reason}: it was deleted` };
  const { value, nvPublic } = counter.value;
  if (!equalBytes(parseNvPublic(nvPublic).name, counterName)) return { ok: false, text: 'the NV counter was deleted and defined anew with other attributes' };
  const statement = pending?.evidence && anchorStatement(pending.block, pending.evidence);
  const named = statement ? readCounter(statement).value : mark.counter;
  if (value < mark.counter) return { ok: false, text: `the TPM's counter is ${value}, below ${mark.counter} of block ${mark.sequence}: an older state of the TPM was restored` };
  const missing = value - named - 1n;
  if (missing > 0n) return { ok: false, text: `the TPM's counter is ${value}: ${missing} increments since block ${mark.sequence} are not in the chain: ${CAUSES}` };
  return { ok: true, text: `nothing anchored is missing: the TPM's counter is ${value}, which the chain accounts for` };
}

function judgePcr({ pcrs, resetCount }: AnchorWalk, pending: PendingBlock | undefined, look: AnchorLook): Judged {
  if (resetCount === undefined || resetCount !== look.resetCount) return { ok: true, text: 'the TPM was reset since the last block: PCR 14 says nothing about blocks that came after the last anchor' };
  const possible = pending ? withFold(pcrs, blockHash(pending.payload)) : pcrs;
  if (possible.some((pcr) => equalBytes(pcr, look.pcr14))) return { ok: true, text: 'no block of this boot of the TPM is missing: PCR 14 is what the last block left' };
  return { ok: false, text: `PCR 14 has moved beyond the last block (it is ${toHex(look.pcr14)}): ${CAUSES}` };
}

/** For people: what is known, then what could have been cut. */
export function tailWords(tail: ChainTail, live: LiveTail | undefined): readonly string[] {
  const { lastBlock, lastAnchor, uncovered, orderly, anchors, missing, gaps, moves, openEnds } = tail;
  if (!lastBlock) return ['no block yet: everything could have been cut'];
  const lines = [`last block ${lastBlock.sequence} of ${lastBlock.at} over ${lastBlock.treeSize} entries; ${uncovered} entries after it are under no block and could be cut or altered unseen`];
  if (!lastAnchor) return [...lines, 'no block is anchored in a TPM counter: whoever holds the signing key can cut the chain anywhere'];
  lines.push(`${anchors} anchors, the last is block ${lastAnchor.sequence} at counter ${lastAnchor.counter}: ${missing === '0' ? 'none is missing among them' : `${missing} increments are in no block`}`);
  for (const gap of gaps) lines.push(`between blocks ${gap.after} and ${gap.at}: ${gap.missing} increments in no block: ${CAUSES}`);
  for (const at of moves) lines.push(`before block ${at}: PCR 14 was extended by what is no block, in the same boot of the TPM: ${CAUSES}`);
  if (openEnds.length > 0) lines.push(`${openEnds.length} boots of the TPM did not end with an orderly shutdown (last blocks ${openEnds.slice(0, 8).join(', ')}${openEnds.length > 8 ? ' …' : ''}): blocks sealed after those, and before the next anchor was due, could have been cut unseen`);
  lines.push(orderly ? 'the chain ends with the anchor of an orderly shutdown: whatever came later shows in the TPM\'s counter'
    : `the chain does not end with an orderly shutdown: blocks after ${lastBlock.sequence} could have been cut unseen once the TPM was reset, until the next anchor was due; a cut before block ${lastAnchor.sequence} shows in the TPM's counter`);
  return [...lines, ...(live ?? notAsked('a chain by itself')).findings];
}
