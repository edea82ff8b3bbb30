/**
 * The enroller's word on this gateway: fetched once per chain, kept, and recorded as an entry that blocks name, so that every proof can carry it along.
 * A verifier that enrols nobody is no fault here: its policy may accept the gateway all the same.
 */
import { equalBytes } from '#runtime/core/bytes.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { Counters, KeyValueStore, LedgerWriter, Log } from '#runtime/core/ports.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { ENROLMENT_BODY, KIND, type Cbor, type Maybe } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import { parseEnrolment } from '#runtime/ledger/enrolment.ts';
import { decodeEntry } from '#runtime/ledger/entry.ts';
import { LEASE_PATH } from '#runtime/ledger/leaseMessages.ts';

/** `provisioning/enrolment/gateway.ts` with this gateway's TPM and identity. */
export interface Enrollee {
  request(): Promise<Uint8Array>;
  /** Rejects with `enrol.challenge` and `tpm.*`. */
  answer(request: Uint8Array, challenge: Uint8Array, signer: Signer, signal: AbortSignal): Promise<Uint8Array>;
}

export interface EnrolmentOptions {
  /** None: why this gateway cannot be enrolled. */
  readonly enrollee: Maybe<Enrollee>;
  /** SHA-256 of the verifier's key: it is the enroller too. */
  readonly verifierKey: Uint8Array;
  readonly store: KeyValueStore;
  /** Bytes of an entry; throws where it is not there (any more). */
  readonly entry: (index: number) => Uint8Array;
  readonly writer: Pick<LedgerWriter, 'append'>;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
}

interface Kept {
  readonly chainId: Uint8Array;
  readonly index: number;
  readonly statement: Uint8Array;
}

type Post = (path: string, body: Uint8Array) => Promise<Uint8Array>;

const KEY = 'lease/enrolment';

export class EnrolmentRecord {
  readonly #options: EnrolmentOptions;
  #kept: Kept | undefined;

  constructor(options: EnrolmentOptions) { this.#options = options; }

  /** The entry that holds the statement; undefined while there is none. */
  get index(): number | undefined { return this.#kept?.index; }

  /** Resolves also where the enroller says no. Rejects with `lease.unreachable`, `tpm.*`, `ledger.*`: try again. */
  async obtain(chainId: Uint8Array, signer: Signer, post: Post, signal: AbortSignal): Promise<void> {
    if (this.#kept && equalBytes(this.#kept.chainId, chainId)) return;
    const known = this.#read(chainId);
    if (known) await this.#keep(chainId, known.statement, this.#isRecorded(known) ? known.index : undefined);
    else {
      const statement = await this.#ask(chainId, signer, post, signal);
      if (statement) await this.#keep(chainId, statement, undefined);
    }
  }

  async #ask(chainId: Uint8Array, signer: Signer, post: Post, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const { enrollee, counters, log } = this.#options;
    if (enrollee.kind === 'none') return undefined;
    try {
      const request = await enrollee.value.request();
      const challenge = await post(LEASE_PATH.enrolBegin, request);
      const statement = await post(LEASE_PATH.enrolFinish, await enrollee.value.answer(request, challenge, signer, signal));
      this.#check(statement, chainId, signer);
      counters.add('lease.enrolled');
      return statement;
    } catch (error) {
      if (!(error instanceof TenzroError) || !/^(?:enrol|verifier\.device|lease\.enrolment)/.test(error.code)) throw error;
      counters.add(`lease.error.${error.code}`);
      log.warn({ code: error.code, hint: error.hint }, `not enrolled: ${error.message}`);
      return undefined;
    }
  }

  #check(statement: Uint8Array, chainId: Uint8Array, signer: Signer): void {
    const parsed = parseEnrolment(statement);
    const { tuple } = parsed.enrolment;
    const isOurs = equalBytes(tuple.chainId, chainId) && equalBytes(tuple.signingKey, sha256(signer.publicKey));
    if (!equalBytes(parsed.keyDigest, this.#options.verifierKey) || !parsed.isSigned()) throw new TenzroError('lease.enrolment', 'the enrolment statement is not by the verifier\'s key');
    if (!isOurs) throw new TenzroError('lease.enrolment', 'the enrolment statement is about another gateway');
  }

  async #keep(chainId: Uint8Array, statement: Uint8Array, index: number | undefined): Promise<void> {
    const { store, writer, clock } = this.#options;
    const place = index ?? await writer.append({
      kind: KIND.enrolment, source: MAIN_ENTITY, wallMicros: clock.wallMicros(), monoMicros: clock.monoMicros(), body: new Map([[ENROLMENT_BODY.statement, statement]]),
    });
    store.put(KEY, encodeCbor([chainId, place, statement]));
    this.#kept = { chainId, index: place, statement };
  }

  /** What was kept for this chain; undefined for another, and for bytes that are not ours. */
  #read(chainId: Uint8Array): Kept | undefined {
    for (const { key, value } of this.#options.store.range(KEY)) {
      const [chain, index, statement] = key === KEY ? (decodeCbor(value) as readonly Cbor[]) : [];
      if (chain instanceof Uint8Array && equalBytes(chain, chainId) && typeof index === 'number' && statement instanceof Uint8Array) return { chainId, index, statement };
    }
    return undefined;
  }

  /** Its entry may have been pruned since: then it is recorded again. */
  #isRecorded({ index, statement }: Kept): boolean {
    try {
      const { body } = decodeEntry(this.#options.entry(index));
      const there = body instanceof Map ? (body as ReadonlyMap<number, Cbor>).get(ENROLMENT_BODY.statement) : undefined;
      return there instanceof Uint8Array && equalBytes(there, statement);
    } catch (error) {
      if (error instanceof TenzroError) return false;
      throw error;
    }
  }
}
