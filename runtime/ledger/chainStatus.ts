/** What a chain holds, from a reader of it: for `tenzro status`, and for the running gateway's own status. */
import { toHex } from '#runtime/core/bytes.ts';
import { isoOfMicros } from '#runtime/core/clock.ts';
import { chainIdOf, decodeBlock } from './block.ts';
import type { ChainReader } from './reader.ts';
import type { ChainStatus } from '#runtime/core/types.ts';

export const NO_CHAIN: ChainStatus = { id: null, entries: 0, blocks: 0, attestedEntries: 0, lastBlockAt: null };

/** Throws `ledger.corrupt` or `block.malformed` where the store contradicts itself. */
export function chainStatusOf(reader: ChainReader): ChainStatus {
  const entries = reader.size();
  const blocks = reader.blockCount();
  if (blocks === 0) return { ...NO_CHAIN, entries };
  const last = decodeBlock(reader.block(blocks - 1).payload);
  return { id: toHex(chainIdOf(reader.block(0).payload)), entries, blocks, attestedEntries: last.treeSize, lastBlockAt: isoOfMicros(last.wallMicros) };
}
