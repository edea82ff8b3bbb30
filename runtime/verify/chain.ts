/** The checks that need hashes only: identity, links between blocks, entries under the head's root, headers. Cheap, so they run first. */
import { equalBytes, toHex } from '#runtime/core/bytes.ts';
import { messageOf } from '#runtime/core/errors.ts';
import type { Entry } from '#runtime/core/types.ts';
import { MLDSA65 } from '#runtime/crypto/mldsa.ts';
import { chainIdOf, ZERO_HASH } from '#runtime/ledger/block.ts';
import { decodeBlockHeader, keyIdOf } from '#runtime/ledger/blockHeader.ts';
import { decodeEntry } from '#runtime/ledger/entry.ts';
import { leafHash } from '#runtime/crypto/merkle.ts';
import { verifyInclusion } from '#runtime/ledger/merkle.ts';
import type { CheckBook } from './checks.ts';
import type { Link, OpenedBundle } from './opened.ts';

/** The chain id is what the genesis payload hashes to, and every block names it. Returns the id. */
export function checkIdentity(book: CheckBook, opened: OpenedBundle): Uint8Array {
  const { genesis, segment, head } = opened;
  const chainId = chainIdOf(genesis.message.payload);
  const wrong = identityFault(opened);
  const stranger = [...segment, head].find(({ block }) => block.sequence !== 0 && !(block.chainId && equalBytes(block.chainId, chainId)));
  if (wrong !== undefined) book.fail('identity.genesis', wrong);
  else if (stranger) book.fail('identity.genesis', `block ${stranger.block.sequence} belongs to another chain than this genesis`);
  else book.pass('identity.genesis', `chain ${toHex(chainId)}`);
  return chainId;
}

function identityFault({ genesis, blocks, segment }: OpenedBundle): string | undefined {
  const { block } = genesis;
  if (block.sequence !== 0 || block.chainId || !equalBytes(block.previous, ZERO_HASH)) return 'the first block is not a genesis';
  if (block.identity?.signingKey.length !== MLDSA65.publicKeyBytes) return 'the genesis carries no ML-DSA-65 public key';
  const later = [...blocks, ...segment].filter((other) => other !== genesis);
  const second = later.find((other) => other.block.sequence === 0 || other.block.identity);
  return second && `block ${second.block.sequence} claims to be a genesis too`;
}

/** Every block names the hash of the one before it, numbers rise by one, and the log never shrinks. */
export function checkChain(book: CheckBook, opened: OpenedBundle): void {
  const { genesis, start, segment } = opened;
  const [first, ...rest] = segment;
  if (first === undefined || first !== start) return book.fail('chain.previous', 'the links do not begin at a block of this bundle');
  if (rest.length === 0 && first !== genesis && !first.block.pcrStart) return book.fail('chain.previous', `the blocks before block ${first.block.sequence} are missing`);
  let before: Link = first;
  for (const link of rest) {
    const fault = linkFault(before, link);
    if (fault !== undefined) return book.fail('chain.previous', fault);
    before = link;
  }
  if (start !== genesis) {
    const fault = start.block.sequence === 1 ? linkFault(genesis, start) : undefined;
    if (fault !== undefined) return book.fail('chain.previous', fault);
  }
  book.pass('chain.previous', spanText(opened));
}

function linkFault(before: Link, after: Link): string | undefined {
  const name = `block ${after.block.sequence}`;
  if (after.block.sequence !== before.block.sequence + 1) return `${name} stands after block ${before.block.sequence}: one is missing or out of order`;
  if (!equalBytes(after.block.previous, before.hash)) return `${name} does not continue block ${before.block.sequence} of this bundle`;
  if (after.block.treeSize < before.block.treeSize) return `${name} covers fewer entries than the block before it`;
  return undefined;
}

function spanText({ genesis, start, head, segment }: OpenedBundle): string {
  const from = start.block.sequence;
  const joined = segment.length === 1 ? `block ${from} stands alone` : `blocks ${from} to ${head.block.sequence} follow one another`;
  const gap = from - genesis.block.sequence - 1;
  return gap > 0 ? `${joined}; the ${gap} between genesis and block ${from} are not in the bundle, the chain id ties them` : joined;
}

/** Decodes each entry strictly. Returns those that decode, for the report. */
export function checkEntries(book: CheckBook, { bundle }: OpenedBundle): readonly { readonly index: number; readonly entry: Entry }[] {
  const decoded: { index: number; entry: Entry }[] = [];
  for (const { index, bytes } of bundle.entries) {
    try {
      decoded.push({ index, entry: decodeEntry(bytes) });
    } catch (error) {
      book.fail('entry.format', `entry ${index}: ${messageOf(error)}`);
    }
  }
  book.pass('entry.format', `${decoded.length} of ${bundle.entries.length} decode`);
  return decoded;
}

export function checkInclusion(book: CheckBook, { bundle, head }: OpenedBundle): void {
  const { treeSize, root, sequence } = head.block;
  const missing = bundle.entries.find(({ index, bytes, path }) => !verifyInclusion(leafHash(bytes), index, treeSize, path, root));
  if (missing) book.fail('entry.inclusion', `entry ${missing.index} is not at that place in the log of ${treeSize} entries that block ${sequence} attests`);
  else book.pass('entry.inclusion', `at their places in the log of ${treeSize} entries that block ${sequence} attests`);
}

/** Key id, chain and evidence digest in every signed header. Returns the device's name: the head's, for a gateway may be renamed. */
export function checkHeaders(book: CheckBook, { genesis, blocks }: OpenedBundle, chainId: Uint8Array): string | undefined {
  const keyId = keyIdOf(genesis.block.identity?.signingKey ?? ZERO_HASH);
  const devices: string[] = [];
  for (const { name, message, evidenceDigest } of blocks) {
    const header = book.attempt('signature.header', () => decodeBlockHeader(message.header));
    if (!header) return undefined;
    devices.push(header.device);
    if (!equalBytes(header.keyId, keyId)) book.fail('signature.header', `${name}: kid is not the key of the genesis`);
    if (!equalBytes(header.chainId, chainId)) book.fail('signature.header', `${name}: sub is another chain`);
    if (!equalBytes(header.evidenceDigest, evidenceDigest)) book.fail('signature.header', `${name}: the evidence is not the one that was signed`);
  }
  const names = [...new Set(devices)].map((device) => `'${device}'`).join(', later ');
  book.pass('signature.header', `kid, sub and evidence digest fit; iss is ${names}`);
  return devices.at(-1);
}
