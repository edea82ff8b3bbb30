/**
 * What the controller did, for whom and when: append-only, each act signed and chained to the one before it. INVARIANT: `note` and the writes of the effect
 * stand in one turn, so that the store takes both in one transaction: whoever kills the controller finds both or neither.
 */
import { equalBytes } from '#runtime/core/bytes.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import { ZERO_HASH } from '#runtime/ledger/block.ts';
import { fieldReaders } from '#runtime/ledger/fields.ts';
import { digestOfAct, signAct, type Act } from './actsCodec.ts';

export { CONTROLLER, type Act } from './actsCodec.ts';

/** Where the other parts of the controller say what they do. */
export interface ActBook {
  /** Beside the writes of its effect, in the same turn; on disk with them after the store's `flushed`. */
  note(act: Act): void;
  /** For what has no effect in the store. Resolves when it is on disk. */
  record(act: Act): Promise<void>;
}

const HEAD_KEY = 'acts/head';
const SIGNER_KEY = 'acts/key';
const DIGITS = 16;
const keyOf = (index: number): string => `act/${index.toString(16).padStart(DIGITS, '0')}`;

export class Acts implements ActBook {
  readonly #store: KeyValueStore;
  readonly #signer: Signer;
  readonly #clock: Clock;
  #count: number;
  #head: Uint8Array;

  /** Throws `ledger.corrupt` where the newest act is not the one that the store names, and `controller.key` for another key than the log began with. */
  constructor(store: KeyValueStore, signer: Signer, clock: Clock) {
    const { count, head, publicKey } = openActs(store);
    if (publicKey && !equalBytes(publicKey, signer.publicKey)) throw new TenzroError('controller.key', 'the acts were signed with another key: the receipt key of this folder was replaced');
    if (!publicKey) store.put(SIGNER_KEY, signer.publicKey);
    [this.#store, this.#signer, this.#clock, this.#count, this.#head] = [store, signer, clock, count, head];
  }

  get count(): number { return this.#count; }

  note({ who, what, about, detail = '' }: Act): void {
    const cose = signAct(this.#signer, { index: this.#count, micros: Math.max(0, this.#clock.wallMicros()), who, what, about, detail, previous: this.#head });
    this.#store.put(keyOf(this.#count), cose);
    [this.#count, this.#head] = [this.#count + 1, digestOfAct(cose)];
    this.#store.put(HEAD_KEY, encodeCbor([this.#count, this.#head]));
  }

  async record(act: Act): Promise<void> {
    this.note(act);
    await this.#store.flushed();
  }
}

export interface ActsView {
  readonly count: number;
  readonly head: Uint8Array;
  /** The controller's; absent where it never did anything. */
  readonly publicKey?: Uint8Array;
}

/** What is on disk, unjudged but for its end. Throws `ledger.corrupt`. */
export function openActs(store: KeyValueStore): ActsView {
  const [publicKey, head] = [valueOf(store, SIGNER_KEY), valueOf(store, HEAD_KEY)];
  if (!head) return { count: 0, head: ZERO_HASH, ...(publicKey ? { publicKey } : {}) };
  const [count, digest] = listOf(decodeCbor(head));
  const view = { count: countOf(count), head: hashOf(digest), ...(publicKey ? { publicKey } : {}) };
  const last = valueOf(store, keyOf(view.count - 1));
  if (!last || !equalBytes(digestOfAct(last), view.head)) throw corrupt();
  return view;
}

/** Of the acts on disk, those from `first` on, as they were signed; ends where one is missing. */
export function* readActs(store: KeyValueStore, first = 0): Generator<Uint8Array> {
  for (let index = first; ; index++) {
    const cose = valueOf(store, keyOf(index));
    if (!cose) return;
    yield cose;
  }
}

function valueOf(store: KeyValueStore, name: string): Uint8Array | undefined {
  for (const { key, value } of store.range(name)) return key === name ? value : undefined;
  return undefined;
}

const corrupt = (): TenzroError => new TenzroError('ledger.corrupt', 'the newest act of the controller is not the one that its store names');
const { listOf, hashOf, countOf } = fieldReaders(corrupt);
