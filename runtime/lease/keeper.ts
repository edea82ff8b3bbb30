/**
 * Keeps the gateway's lease: carries out what `step` (machine.ts) says. Recording never waits for it: without a verifier, or with one that says no, blocks
 * state the reason in place of a lease. Invariants: one round at a time; a lease counts only after its statement is flushed as an entry.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { isoOfMicros, type Clock } from '#runtime/core/clock.ts';
import { TenzroError, invariant, messageOf } from '#runtime/core/errors.ts';
import type { Counters, LedgerWriter, Log } from '#runtime/core/ports.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { KIND, LEASE_BODY, type Cbor, type Maybe } from '#runtime/core/types.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import type { Support } from '#runtime/ledger/block.ts';
import { unwrapLease } from '#runtime/ledger/lease.ts';
import { decodeChallenge, encodeAppraisalRequest, encodeChallengeRequest, LEASE_PATH } from '#runtime/ledger/leaseMessages.ts';
import type { VerifierClient } from './client.ts';
import type { EnrolmentRecord } from './enrolment.ts';
import { dueMicros, inForce, phaseOf, reasonOf, startState, step, type Fault, type Held, type Input, type LeaseState, type Phase } from './machine.ts';
import { acceptLease } from './receipt.ts';

/** What receivers on the local broker are told, retained, on te/device/main///twin/trust. */
export interface TrustMessage {
  /** As the verifier computed it; `none` without a lease in force. */
  readonly level: string;
  readonly lease: Phase;
  /** ISO 8601, by the gateway's wall clock. */
  readonly until?: string;
  readonly reason?: string;
}

/** As `tenzro status` says it. */
export interface LeaseStatus extends TrustMessage {
  readonly verifier: string;
  readonly enrolled: boolean;
  /** Key exchange of the last connection; null before it. */
  readonly keyExchange: string | null;
}

export interface KeeperOptions {
  /** `verifier.url`, and `verifier.key` as bytes. */
  readonly url: string;
  readonly verifierKey: Uint8Array;
  /** Gateway id. */
  readonly device: string;
  readonly client: Pick<VerifierClient, 'post'>;
  readonly enrolment: EnrolmentRecord;
  /** Rejects with `identity.*` while the keys are locked. */
  readonly signer: () => Promise<Signer>;
  /** Undefined until the genesis is sealed. */
  readonly chainId: () => Uint8Array | undefined;
  /** A bundle whose head is a block over the nonce; `from`: sequence of a block that the asker knows. */
  readonly freshBundle: (nonce: Uint8Array, options: { readonly from?: number }) => Promise<Uint8Array>;
  readonly writer: Pick<LedgerWriter, 'append'>;
  /** MUST NOT throw. */
  readonly announce: (message: TrustMessage) => void;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
}

/** Refused after a judgement, and until something is changed. */
const JUDGED: ReadonlySet<string> = new Set(['lease.refused', 'verifier.device', 'verifier.client']);
/** Timers hold no more than 2³¹ ms. */
const REST_MS_MAX = 3_600_000;
/** A first start has its genesis within a second or two. */
const GENESIS_POLL_MS = 200;

export class LeaseKeeper {
  readonly #options: KeeperOptions;
  #state: LeaseState;
  #keyExchange: string | undefined;
  #round: Promise<void> | undefined;
  #isOver = true;
  #wake = new AbortController();

  constructor(options: KeeperOptions) {
    this.#options = options;
    this.#state = startState(options.clock.monoMicros());
  }

  /** What the next block says: the lease in force, or why there is none, and where the statements stand. */
  context(): { readonly lease: Maybe<Uint8Array>; readonly support: Pick<Support, 'lease' | 'enrolment'> } {
    const now = this.#options.clock.monoMicros();
    const held = inForce(this.#state, now);
    const { index } = this.#options.enrolment;
    const support = index === undefined ? {} : { enrolment: index };
    if (!held) return { lease: { kind: 'none', reason: `${phaseOf(this.#state, now)}: ${reasonOf(this.#state)}` }, support };
    return { lease: { kind: 'value', value: held.digest }, support: { ...support, lease: held.index } };
  }

  status(): LeaseStatus {
    const { url, enrolment } = this.#options;
    return { verifier: url, ...this.#message(), enrolled: enrolment.index !== undefined, keyExchange: this.#keyExchange ?? null };
  }

  /** Runs until `signal` aborts. */
  async follow(signal: AbortSignal): Promise<void> {
    const { clock, announce, chainId } = this.#options;
    announce(this.#message()); // what an earlier run left retained is over
    while (!chainId() && !signal.aborted) await sleep(GENESIS_POLL_MS, undefined, { signal }).catch(() => undefined); // stopped: the loops end
    while (!signal.aborted) {
      this.#wake = new AbortController();
      if (this.#apply({ kind: 'tick', nowMicros: clock.monoMicros() })) this.#begin(signal);
      const restMs = Math.min(REST_MS_MAX, (dueMicros(this.#state) - clock.monoMicros()) / 1_000);
      await sleep(Math.max(0, Math.ceil(restMs)), undefined, { signal: AbortSignal.any([signal, this.#wake.signal]) }).catch(() => undefined); // woken, or stopped: the loop looks
      if (this.#isOver) await this.#round; // a defect of ours ends the keeper
    }
    await this.#round;
  }

  #begin(signal: AbortSignal): void {
    this.#isOver = false;
    this.#round = this.#run(signal).finally(() => {
      this.#isOver = true;
      this.#wake.abort();
    });
    this.#round.catch(() => undefined); // `follow` awaits it
  }

  /** True when a round begins. */
  #apply(input: Input): boolean {
    const { state, effects } = step(this.#state, input);
    this.#state = state;
    if (effects.includes('tell')) this.#tell();
    return effects.includes('begin');
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { clock, counters, log } = this.#options;
    try {
      const held = await this.#ask(signal);
      counters.add('lease.granted');
      this.#apply({ kind: 'granted', held, chance: Math.random() });
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof TenzroError) || error.class === 'bug') throw error;
      counters.add(`lease.error.${error.code}`);
      log.warn({ code: error.code, hint: error.hint }, `no lease: ${error.message}`);
      const fault: Fault = { kind: JUDGED.has(error.code) ? 'refused' : 'failed', reason: `${error.message} (${error.code})` };
      this.#apply({ kind: 'failed', fault, nowMicros: clock.monoMicros(), chance: Math.random(), ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }) });
    }
  }

  async #ask(signal: AbortSignal): Promise<Held> {
    const { signer: openSigner, chainId: chainIdNow, enrolment, clock, freshBundle, verifierKey } = this.#options;
    const signer = await openSigner();
    const chainId = chainIdNow();
    invariant(chainId, 'a genesis stays');
    await enrolment.obtain(chainId, signer, (path, body) => this.#post(path, body, signer, signal), signal);
    this.#apply({ kind: 'enrolled' });
    const { nonce, seen } = decodeChallenge(await this.#post(LEASE_PATH.challenge, encodeChallengeRequest(chainId), signer, signal));
    const bundle = await freshBundle(nonce, seen === undefined ? {} : { from: seen });
    const fromMicros = clock.monoMicros();
    const statement = unwrapLease(await this.#post(LEASE_PATH.appraise, encodeAppraisalRequest({ nonce, bundle }), signer, signal));
    const { issuedAt, expiresAt, trust } = acceptLease(statement, { verifierKey, nonce, bundle });
    const index = await this.#record([[LEASE_BODY.statement, statement]]);
    return { digest: sha256(statement), index, level: trust, fromMicros, untilMicros: fromMicros + (expiresAt - issuedAt) * 1_000_000 };
  }

  async #post(path: string, body: Uint8Array, signer: Signer, signal: AbortSignal): Promise<Buffer> {
    const answer = await this.#options.client.post(path, body, { signer, device: this.#options.device }, signal);
    this.#keyExchange = answer.group;
    return answer.body;
  }

  #message(): TrustMessage {
    const { clock } = this.#options;
    const now = clock.monoMicros();
    const held = inForce(this.#state, now);
    const lease = phaseOf(this.#state, now);
    if (!held) return { level: 'none', lease, reason: reasonOf(this.#state) };
    return { level: held.level, lease, until: isoOfMicros(clock.wallMicros() + held.untilMicros - now), ...(this.#state.fault ? { reason: this.#state.fault.reason } : {}) };
  }

  /** Told once per change: on the broker, in the log, and, where there is no lease any more, as an entry. */
  #tell(): void {
    const { announce, log } = this.#options;
    const message = this.#message();
    announce(message);
    log.info(message, 'lease');
    if (message.reason === undefined || message.until !== undefined) return;
    this.#record([[LEASE_BODY.state, message.lease], [LEASE_BODY.reason, message.reason]])
      .catch((error: unknown) => log.warn({ error: messageOf(error) }, 'not recorded that there is no lease'));
  }

  #record(body: readonly (readonly [number, Cbor])[]): Promise<number> {
    const { writer, clock } = this.#options;
    return writer.append({ kind: KIND.lease, source: MAIN_ENTITY, wallMicros: clock.wallMicros(), monoMicros: clock.monoMicros(), body: new Map(body) });
  }
}
