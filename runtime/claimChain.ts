/**
 * What the chain says about the gateway's owner: each claim, rotation and release is one entry, however often the gateway starts in between. A mark in the
 * store says what was recorded last; where it is lost the log itself is asked.
 */
import { toHex } from '#runtime/core/bytes.ts';
import { messageOf, type ErrorCode } from '#runtime/core/errors.ts';
import type { Clock } from '#runtime/core/clock.ts';
import type { KeyValueStore, LedgerReader, LedgerWriter, Log } from '#runtime/core/ports.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { CLAIM_BODY, ENROLMENT_BODY, KIND, type Cbor, type ClaimEntryState, type KindNumber } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { decodeEntry, peek } from '#runtime/ledger/entry.ts';

export interface ClaimChainOptions {
  readonly reader: Pick<LedgerReader, 'size' | 'oldest' | 'read' | 'seek'>;
  readonly writer: Pick<LedgerWriter, 'append'>;
  readonly store: KeyValueStore;
  readonly clock: Clock;
  readonly log: Log;
}

/** An ownership, as far as it is recorded. */
export interface RecordedOwner {
  readonly claimId: Uint8Array;
  readonly ownerKeys: readonly Uint8Array[];
  readonly words: string;
  /** As its first owner key signed it. */
  readonly handOver: Uint8Array;
  /** X.509 DER. */
  readonly fleetCa: Uint8Array;
  readonly statement: Uint8Array | undefined;
}

type Fields = ReadonlyMap<number, Cbor>;
interface Mark {
  readonly claimId: Uint8Array;
  /** SHA-256 of both owner keys. */
  readonly keys: Uint8Array;
}

const KEY = 'claim/owner';
const READ_MAX = 1_024;

export class ClaimChain {
  readonly #options: ClaimChainOptions;

  constructor(options: ClaimChainOptions) { this.#options = options; }

  /** Idempotent by claim id and owner keys. Rejects with `ledger.*`: try again. */
  async owned({ claimId, ownerKeys, words, handOver, fleetCa, statement }: RecordedOwner): Promise<void> {
    const mark = this.#mark();
    const keys = sha256(...ownerKeys);
    const isSameClaim = mark !== undefined && toHex(mark.claimId) === toHex(claimId);
    if (isSameClaim && toHex(mark.keys) === toHex(keys)) return;
    if (mark && !isSameClaim) await this.released();
    const digests = ownerKeys.map((key) => sha256(key));
    const told: Fields = new Map<number, Cbor>(isSameClaim
      ? [[CLAIM_BODY.state, 'rotated'], [CLAIM_BODY.claimId, claimId], [CLAIM_BODY.ownerKeys, digests]]
      : [[CLAIM_BODY.state, 'owned'], [CLAIM_BODY.claimId, claimId], [CLAIM_BODY.ownerKeys, digests], [CLAIM_BODY.words, words], [CLAIM_BODY.handOver, sha256(handOver)], [CLAIM_BODY.fleetCa, sha256(fleetCa)]]);
    if (statement && !isSameClaim) await this.#once(KIND.enrolment, new Map([[ENROLMENT_BODY.statement, statement]]), statement);
    await this.#once(KIND.claim, told, claimId);
    await this.#setMark({ claimId, keys });
  }

  /** False: nobody owned it, as far as the chain knows. Rejects with `ledger.*`: try again. */
  async released(): Promise<boolean> {
    const mark = this.#mark();
    if (!mark) return false;
    await this.#once(KIND.claim, new Map<number, Cbor>([[CLAIM_BODY.state, 'released' satisfies ClaimEntryState], [CLAIM_BODY.claimId, mark.claimId]]), mark.claimId);
    this.#options.store.remove(KEY);
    await this.#options.store.flushed();
    return true;
  }

  /** Somebody tried, with a wrong secret or with what this gateway may not obey. */
  failed(code: ErrorCode, reason: string): void {
    this.#append(KIND.claim, new Map([[CLAIM_BODY.state, 'failed'], [CLAIM_BODY.code, code], [CLAIM_BODY.reason, reason]]))
      .catch((error: unknown) => { this.#options.log.warn({ error: messageOf(error) }, 'not recorded'); });
  }

  /** `needle`: bytes that the entry holds. Between the entry and the mark the gateway may have been killed. */
  async #once(kind: KindNumber, body: Fields, needle: Uint8Array): Promise<void> {
    if (!this.#isThere(kind, body, needle)) await this.#append(kind, body);
  }

  #isThere(kind: KindNumber, body: Fields, needle: Uint8Array): boolean {
    const { reader } = this.#options;
    const wanted = toHex(encodeCbor(body));
    for (let at = reader.seek(reader.oldest(), [needle]); at < reader.size(); at = reader.seek(at, [needle])) {
      for (const { index, bytes } of reader.read(at, READ_MAX)) {
        if (peek(bytes).kind === kind && toHex(encodeCbor(decodeEntry(bytes).body)) === wanted) return true;
        at = index + 1;
      }
    }
    return false;
  }

  async #append(kind: KindNumber, body: Fields): Promise<void> {
    const { writer, clock } = this.#options;
    await writer.append({ kind, source: MAIN_ENTITY, wallMicros: clock.wallMicros(), monoMicros: clock.monoMicros(), body });
  }

  #mark(): Mark | undefined {
    for (const { key, value } of this.#options.store.range(KEY)) {
      const [claimId, keys] = key === KEY ? (decodeCbor(value) as readonly Cbor[]) : [];
      if (claimId instanceof Uint8Array && keys instanceof Uint8Array) return { claimId, keys };
    }
    return undefined;
  }

  async #setMark({ claimId, keys }: Mark): Promise<void> {
    this.#options.store.put(KEY, encodeCbor([claimId, keys]));
    await this.#options.store.flushed();
  }
}
