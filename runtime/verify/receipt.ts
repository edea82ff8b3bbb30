/** Receipts in a bundle: a fleet's controller verified the chain up to a block, and kept it. Its key is the policy's to name. Pure. */
import { equalBytes, toHex } from '#runtime/core/bytes.ts';
import { isoOfMicros } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { parseSign1, signingKeyOf } from '#runtime/crypto/cose.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { chainIdOf } from '#runtime/ledger/block.ts';
import { openReceipt, type Receipt } from '#runtime/ledger/receipt.ts';
import type { CheckBook } from './checks.ts';
import type { OpenedBundle } from './opened.ts';
import type { Policy } from './policy.ts';

/** The newest receipt that counts; undefined where none does. Blocks were checked before. */
export function checkReceipt(book: CheckBook, opened: OpenedBundle, { receiptKeys }: Pick<Policy, 'receiptKeys'>): Receipt | undefined {
  const { receipts } = opened.bundle;
  if (!receipts) {
    book.skip('receipt', 'the bundle holds no receipt of a territory');
    return undefined;
  }
  const judged = book.attempt('receipt', () => receipts.map((bytes) => judge(bytes, opened, receiptKeys)));
  if (!judged) return undefined;
  const [counting] = judged.filter(({ receipt }) => receipt !== undefined).toSorted((a, b) => (b.receipt?.sequence ?? 0) - (a.receipt?.sequence ?? 0));
  if (counting?.receipt) book.pass('receipt', `the fleet with receipt key ${counting.key} ${wordsOf(counting.receipt)}`);
  else book.unknown('receipt', `by receipt key ${judged.map(({ key }) => key).join(', ')}, which the policy does not list`);
  return counting?.receipt;
}

/** For people: what a fleet had. */
export const wordsOf = ({ sequence, treeSize, wallMicros }: Receipt): string => `had block ${sequence}, over ${treeSize} entries, on ${isoOfMicros(wallMicros)} by its clock`;

/** Throws `uplink.receipt` for what is none, and where a key that counts says anything else than the bundle. */
function judge(bytes: Uint8Array, { genesis, segment }: OpenedBundle, receiptKeys: readonly string[]): { readonly key: string; readonly receipt?: Receipt } {
  const digest = sha256(signingKeyOf(parseSign1(bytes).header));
  const key = toHex(digest);
  if (!receiptKeys.includes(key)) return { key };
  const receipt = openReceipt(bytes, digest);
  if (!equalBytes(receipt.chainId, chainIdOf(genesis.message.payload))) throw fault(`the receipt is for chain ${toHex(receipt.chainId)}`);
  const link = segment.find(({ block }) => block.sequence === receipt.sequence);
  if (!link) throw fault(`the receipt is about block ${receipt.sequence}, which is not in the bundle`);
  if (!equalBytes(receipt.blockHash, link.hash)) throw fault(`the fleet with receipt key ${key} had another block ${receipt.sequence} of this chain: the chain forked, or was written anew`);
  if (receipt.treeSize !== link.block.treeSize || !equalBytes(receipt.root, link.block.root)) throw fault(`the receipt states another tree than block ${receipt.sequence}`);
  return { key, receipt };
}

const fault = (why: string): TenzroError => new TenzroError('uplink.receipt', why);
