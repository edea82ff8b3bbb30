/**
 * Seals what policy calls confidential: each run, and then now and again, a new content key, told to the recipients in a `keyEpoch` entry and kept nowhere
 * else. Lives in the decoder, so its order is that of the log. A gateway that was robbed cannot open what it recorded under earlier keys.
 */
import { createSecretKey, randomBytes, type KeyObject } from 'node:crypto';
import { invariant } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { DecodeOutcome, InboundRecord } from '#runtime/core/ports.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { KIND, type Cbor, type Draft } from '#runtime/core/types.ts';
import { AES_256_GCM } from '#runtime/crypto/aead.ts';
import { CborWriter } from '#runtime/crypto/cborWriter.ts';
import { contextOf, keyEpochBody, sealBody, type Place, type Recipient } from '#runtime/ledger/confidential.ts';

/** What a tag is made of, beside the payload. */
export type Tagged = Pick<Place, 'context' | 'sequence'> & { readonly topic: string };

/**
 * Keys of the tags by which this gateway, and nobody who reads the chain, knows the message of a sealed entry again after a restart. One per content key;
 * they outlive it by a few epochs.
 */
export interface TagKeys {
  /** From here on tags are of this context. */
  begin(context: Uint8Array): void;
  /** Undefined before the first `begin`. */
  tag(tagged: Tagged, payload: Uint8Array): Uint8Array | undefined;
  /** False also where the context's key is gone. */
  matches(tagged: Tagged, tag: Uint8Array, payload: Uint8Array): boolean;
}

/** Where nothing is confidential. */
export const NO_TAG_KEYS: TagKeys = { begin: () => undefined, tag: () => undefined, matches: () => false };

/** First size of the buffer in which entries are encoded before they are sealed. */
const SCRATCH_BYTES = 1_024;

interface Epoch {
  readonly context: Uint8Array;
  readonly contentKey: KeyObject;
  readonly endsAtMicros: number;
  sequence: number;
}

type Stamp = Pick<Draft, 'wallMicros' | 'monoMicros'>;
type Recorded = Extract<DecodeOutcome, { kind: 'record' }>;

export class Confidential {
  readonly #recipients: readonly Recipient[];
  readonly #tagKeys: TagKeys;
  readonly #scratch = new CborWriter(SCRATCH_BYTES);
  #epoch: Epoch | undefined;

  constructor(recipients: readonly Recipient[], tagKeys: TagKeys) {
    this.#recipients = recipients;
    this.#tagKeys = tagKeys;
  }

  sealMessage(outcome: Recorded, record: InboundRecord): Recorded {
    const keyEpoch = this.#turn(record);
    const body = this.#seal(outcome.entryKind, outcome.source, outcome.body, record);
    return { ...outcome, body, confidential: keyEpoch ? { keyEpoch } : {} };
  }

  /** The draft sealed; before it, where it is due, the `keyEpoch` entry. */
  sealDraft(draft: Draft): readonly Draft[] {
    const keyEpoch = this.#turn(draft);
    const sealed = { ...draft, body: this.#seal(draft.kind, draft.source, draft.body) };
    return keyEpoch ? [keyEpoch, sealed] : [sealed];
  }

  #seal(kind: Draft['kind'], source: string, body: Cbor, record?: InboundRecord): ReadonlyMap<number, Cbor> {
    const epoch = this.#epoch;
    invariant(epoch && body instanceof Map, 'what is sealed has a key and a map for a body');
    const { context, contentKey, sequence } = epoch;
    epoch.sequence++;
    const tag = record === undefined || record.packetId === 0 ? undefined : this.#tagKeys.tag({ context, sequence, topic: record.topic }, record.payload);
    return sealBody(body as ReadonlyMap<number, Cbor>, { kind, source, context, sequence, tag }, contentKey, this.#scratch);
  }

  /** Begins a new content key where that is due; the entry that says so. */
  #turn({ wallMicros, monoMicros }: Stamp): Draft | undefined {
    const before = this.#epoch;
    if (before && before.sequence < LIMITS.keyEpochEntriesMax && monoMicros < before.endsAtMicros) return undefined;
    const context = contextOf(monoMicros, randomBytes(8));
    const contentKey = randomBytes(AES_256_GCM.keyBytes);
    const body = keyEpochBody(context, contentKey, this.#recipients);
    this.#epoch = { context, contentKey: createSecretKey(contentKey), endsAtMicros: monoMicros + LIMITS.keyEpochMs * 1000, sequence: 0 };
    contentKey.fill(0);
    this.#tagKeys.begin(context);
    return { kind: KIND.keyEpoch, source: MAIN_ENTITY, wallMicros, monoMicros, body };
  }
}
