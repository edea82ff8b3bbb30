/**
 * The newest receipt: held against this chain before it counts, kept on disk, and named by the blocks that follow. Only under it may entries be pruned
 * for their age.
 */
import { equalBytes, toHex } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { blockHash, decodeBlock } from '#runtime/ledger/block.ts';
import { openReceipt, uplinkCursor, type Receipt } from '#runtime/ledger/receipt.ts';
import type { UplinkSource } from './stretch.ts';

export interface HeldReceipt {
  readonly receipt: Receipt;
  /** SHA-256 of its bytes: what blocks name. */
  readonly digest: Uint8Array;
}

export class Receipts {
  readonly #source: UplinkSource;
  readonly #keyDigest: Uint8Array;
  readonly #store: KeyValueStore;
  readonly #name: string;
  #bytes: Uint8Array | undefined;
  #held: HeldReceipt | undefined;

  constructor({ source, keyDigest, store }: { readonly source: UplinkSource; readonly keyDigest: Uint8Array; readonly store: KeyValueStore }) {
    this.#source = source;
    this.#keyDigest = keyDigest;
    this.#store = store;
    this.#name = `uplink/${uplinkCursor(toHex(keyDigest))}`;
  }

  get newest(): HeldReceipt | undefined { return this.#held; }

  /** What an earlier run kept, where it is of this chain. */
  restore(chainId: Uint8Array): void {
    for (const { key, value } of this.#store.range(this.#name)) {
      if (key !== this.#name) continue;
      try {
        this.#hold(value, this.#judge(value, chainId));
      } catch (error) {
        if (!(error instanceof TenzroError) || (error.code !== 'uplink.receipt' && error.code !== 'controller.fork')) throw error;
      }
    }
  }

  /** True when it is newer than what was held. Throws `uplink.receipt` for what does not count, `controller.fork` for one about other blocks of this chain. */
  accept(bytes: Uint8Array, chainId: Uint8Array): boolean {
    if (this.#bytes && equalBytes(bytes, this.#bytes)) return false;
    const receipt = this.#judge(bytes, chainId);
    if (this.#held && receipt.sequence <= this.#held.receipt.sequence) return false;
    this.#hold(bytes, receipt);
    this.#store.put(this.#name, bytes);
    return true;
  }

  #judge(bytes: Uint8Array, chainId: Uint8Array): Receipt {
    const receipt = openReceipt(bytes, this.#keyDigest);
    const { sequence, treeSize, root } = receipt;
    if (!equalBytes(receipt.chainId, chainId)) throw new TenzroError('uplink.receipt', 'the receipt is for another chain');
    if (sequence >= this.#source.blockCount()) throw new TenzroError('controller.fork', `the controller has block ${sequence} of this chain, and this gateway does not`);
    const { payload } = this.#source.block(sequence);
    if (!equalBytes(blockHash(payload), receipt.blockHash)) throw new TenzroError('controller.fork', `the controller has another block ${sequence} of this chain than this gateway`);
    const block = decodeBlock(payload);
    if (block.treeSize !== treeSize || !equalBytes(block.root, root)) throw new TenzroError('uplink.receipt', 'the receipt states another tree than its block');
    return receipt;
  }

  #hold(bytes: Uint8Array, receipt: Receipt): void {
    this.#bytes = bytes;
    this.#held = { receipt, digest: sha256(bytes) };
  }
}
