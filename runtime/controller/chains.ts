/**
 * What the controller keeps of each chain: its record, leaves, blocks, receipts. Everything of one shipment is one transaction, and the record in memory
 * follows only when it is on disk: whoever is killed in between finds the state before, and the gateway sends again.
 */
import { TenzroError } from '#runtime/core/errors.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import type { BundleBlock } from '#runtime/ledger/bundle.ts';
import { decodeLeaves, encodeLeaves, type Leaf } from '#runtime/ledger/shipment.ts';
import { decodeRecord, encodeRecord, type ChainRecord } from './record.ts';

/** Leaves that are stored together. */
export interface Stretch {
  readonly first: number;
  readonly leaves: readonly Leaf[];
}

export interface SupportEntry {
  readonly index: number;
  readonly bytes: Uint8Array;
}

export interface ChainChange {
  readonly record: ChainRecord;
  readonly stretches?: readonly Stretch[];
  readonly blocks?: readonly { readonly sequence: number; readonly block: BundleBlock }[];
  /** For the record's head. */
  readonly receipt?: Uint8Array;
  /** The other block of a fork. */
  readonly forked?: BundleBlock;
  /** Entries that blocks name: kept by their place too, so that the newest can be looked at without all leaves. */
  readonly support?: readonly SupportEntry[];
  /** Places of such entries that no later block will name. */
  readonly unsupport?: readonly number[];
  /** Leaves from there on are no longer wanted. */
  readonly dropFrom?: number;
}

const DIGITS = 16;
const key = (kind: 'leaf' | 'block' | 'receipt' | 'fork' | 'support', chain: string, number: number): string => `${kind}/${chain}/${number.toString(16).padStart(DIGITS, '0')}`;
const RECORD_PREFIX = 'chain/';

export class Chains {
  readonly #store: KeyValueStore;
  readonly #records = new Map<string, ChainRecord>();

  /** Reads every record. Throws `ledger.corrupt`. */
  constructor(store: KeyValueStore) {
    this.#store = store;
    for (const { key: name, value } of store.range(RECORD_PREFIX)) this.#records.set(name.slice(RECORD_PREFIX.length), decodeRecord(value));
  }

  get size(): number { return this.#records.size; }

  /** By chain id, hexadecimal. */
  record(chain: string): ChainRecord | undefined { return this.#records.get(chain); }

  all(): readonly (readonly [chain: string, record: ChainRecord])[] { return [...this.#records]; }

  /** Throws `ledger.corrupt` where it is not there: who asks has a record that says it is. */
  block(chain: string, sequence: number): BundleBlock {
    const parts = decodeCbor(this.#value(key('block', chain, sequence)));
    const [cose, evidence] = Array.isArray(parts) ? (parts as readonly unknown[]) : [];
    if (!(cose instanceof Uint8Array) || !(evidence instanceof Uint8Array)) throw new TenzroError('ledger.corrupt', `block ${sequence} of chain ${chain} does not decode`);
    return { cose, evidence };
  }

  receipt(chain: string, sequence: number): Uint8Array { return this.#value(key('receipt', chain, sequence)); }

  /** Every stored leaf, in order. */
  *leaves(chain: string): Generator<Leaf> {
    for (const { value } of this.#store.range(`leaf/${chain}/`)) yield* decodeLeaves(decodeCbor(value));
  }

  /** Entries that its blocks name, in order. */
  support(chain: string): readonly SupportEntry[] {
    return Array.from(this.#store.range(`support/${chain}/`), ({ key: name, value }) => ({ index: indexOf(name), bytes: value }));
  }

  /** Resolves when it is on disk, however long that has to wait for space. */
  async commit(chain: string, { record, stretches = [], blocks = [], receipt, forked, support = [], unsupport = [], dropFrom }: ChainChange): Promise<void> {
    if (dropFrom !== undefined) this.#drop(chain, dropFrom);
    for (const { first, leaves } of stretches) if (leaves.length > 0) this.#store.put(key('leaf', chain, first), encodeCbor(encodeLeaves(leaves)));
    for (const { sequence, block } of blocks) this.#store.put(key('block', chain, sequence), pairOf(block));
    if (receipt && record.head) this.#store.put(key('receipt', chain, record.head.sequence), receipt);
    if (forked && record.fork) this.#store.put(key('fork', chain, record.fork.sequence), pairOf(forked));
    for (const { index, bytes } of support) this.#store.put(key('support', chain, index), bytes);
    for (const index of unsupport) this.#store.remove(key('support', chain, index));
    this.#store.put(`${RECORD_PREFIX}${chain}`, encodeRecord(record));
    await this.#store.flushed();
    this.#records.set(chain, record);
  }

  /** All of a chain that no block covers; on disk with the next commit. */
  forget(chain: string): void {
    this.#drop(chain, 0);
    this.#store.remove(`${RECORD_PREFIX}${chain}`);
    this.#records.delete(chain);
  }

  /** Resolves when everything before it is on disk. */
  flushed(): Promise<void> { return this.#store.flushed(); }

  #drop(chain: string, from: number): void {
    for (const kind of ['leaf', 'support'] as const) {
      const start = key(kind, chain, from);
      for (const { key: name } of this.#store.range(`${kind}/${chain}/`)) if (name >= start) this.#store.remove(name);
    }
  }

  #value(name: string): Uint8Array {
    for (const { value } of this.#store.range(name)) return value;
    throw new TenzroError('ledger.corrupt', `${name} is missing in the controller's store`);
  }
}

const indexOf = (name: string): number => Number.parseInt(name.slice(-DIGITS), 16);
const pairOf = ({ cose, evidence }: BundleBlock): Buffer => encodeCbor([cose, evidence]);
