/**
 * Sends the chain to a controller, a shipment at a time and in order, and holds what comes back against the chain. A follower like any other: it pulls,
 * and a gateway without a network records on. A broker's acknowledgement is no delivery: only a receipt by the pinned key moves the cursor.
 * INVARIANT: one shipment is in flight at most.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { equalBytes, toHex } from '#runtime/core/bytes.ts';
import { isoOfMicros, type Clock } from '#runtime/core/clock.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Counters, FleetLink, KeyValueStore, LedgerWriter, LinkUser, Log } from '#runtime/core/ports.ts';
import type { Upstream } from '#runtime/core/fleet.ts';
import type { ForwardRule } from '#runtime/core/settings.ts';
import type { UpstreamStatus } from '#runtime/core/types.ts';
import { chainIdOf, decodeBlock } from '#runtime/ledger/block.ts';
import { decodeAnswer, uplinkCursor, type Answer } from '#runtime/ledger/receipt.ts';
import { packShipment, shipmentId } from '#runtime/ledger/shipment.ts';
import { Pace } from './pace.ts';
import { Receipts } from './receipts.ts';
import { nextStretch, withholding, witnessOf, type Position, type Stretch, type UplinkSource, type Withholds } from './stretch.ts';

export interface UplinkOptions {
  readonly upstream: Pick<Upstream, 'receiptKey' | 'maxBytesPerSecond' | 'forward'>;
  /** The site's own rules: what they withhold, no upstream's let go. */
  readonly forward: readonly ForwardRule[];
  /** Gateway id. */
  readonly device: string;
  readonly source: UplinkSource;
  readonly writer: Pick<LedgerWriter, 'setCursor'>;
  readonly store: KeyValueStore;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
}

const POLL_MS = 500;
const STRAY_MS = 100;

export class Uplink implements LinkUser {
  /** Of its cursor in the ledger. */
  readonly name: string;
  readonly filters: readonly string[];
  readonly #options: UplinkOptions;
  readonly #receipts: Receipts;
  readonly #pace: Pace;
  readonly #withholds: Withholds;
  #chainId: Uint8Array | undefined;
  #at: Position = { next: 0, nextBlock: 0 };
  #awaited: { readonly about: Uint8Array; readonly answer: PromiseWithResolvers<Answer> } | undefined;
  #fault: string | undefined;
  /** The controller has other blocks of this chain: only our newest is shown to it, once each. */
  #isForked = false;
  #shown = -1;
  #retryMs: number = LIMITS.uplinkAnswerMs;
  #strayMicros = 0;

  constructor(options: UplinkOptions) {
    const { upstream: { receiptKey, maxBytesPerSecond, forward }, forward: siteForward, device, source, store, clock } = options;
    this.name = uplinkCursor(toHex(receiptKey));
    this.filters = [`te/${device}/chain/+/receipt`];
    this.#options = options;
    this.#receipts = new Receipts({ source, store, keyDigest: receiptKey });
    this.#pace = new Pace(maxBytesPerSecond, clock);
    this.#withholds = withholding(siteForward, forward);
  }

  /** SHA-256 of the newest receipt: what the next block names. */
  get receiptDigest(): Uint8Array | undefined { return this.#receipts.newest?.digest; }

  /** A time that has passed for sure: when the controller gave its newest receipt, µs since 1970; 0: none yet. */
  get provenMicros(): number { return this.#receipts.newest?.receipt.wallMicros ?? 0; }

  /** What earlier runs kept of the chain that is there: before the first connection, so that its time counts. */
  restore(): void {
    const { source } = this.#options;
    if (!this.#chainId && source.blockCount() > 0) this.#begin(chainIdOf(source.block(0).payload));
  }

  processed(): number { return this.#receipts.newest?.receipt.treeSize ?? 0; }

  status(): Pick<UpstreamStatus, 'lag' | 'receipt' | 'fault'> {
    const { source } = this.#options;
    const newest = this.#receipts.newest?.receipt;
    const count = source.blockCount();
    const attested = count === 0 ? 0 : decodeBlock(source.block(count - 1).payload).treeSize;
    return {
      lag: Math.max(0, attested - this.processed()), fault: this.#fault ?? null,
      receipt: newest ? { sequence: newest.sequence, treeSize: newest.treeSize, at: isoOfMicros(newest.wallMicros) } : null,
    };
  }

  /** Runs until `signal` aborts. */
  async follow(link: FleetLink, signal: AbortSignal): Promise<void> {
    while (await link.ready(signal)) {
      const stretch = this.#plan();
      if (stretch) await this.#send(link, stretch, signal);
      else await rest(POLL_MS, signal);
    }
  }

  #plan(): Stretch | undefined {
    const { source } = this.#options;
    this.restore();
    if (!this.#chainId) return undefined;
    if (!this.#isForked) return nextStretch(source, this.#at, this.#withholds);
    const last = source.blockCount() - 1;
    if (last <= this.#shown) return undefined;
    this.#shown = last;
    return witnessOf(source);
  }

  #begin(chainId: Uint8Array): void {
    this.#chainId = chainId;
    this.#receipts.restore(chainId);
    const newest = this.#receipts.newest?.receipt;
    if (!newest) return;
    this.#at = { next: newest.treeSize, nextBlock: newest.sequence + 1 };
    this.#options.writer.setCursor(this.name, newest.treeSize); // a kill may have come between the two
  }

  async #send(link: FleetLink, { pruned, ...stretch }: Stretch, signal: AbortSignal): Promise<void> {
    const { device, counters, log } = this.#options;
    const chainId = this.#chainId;
    if (!chainId) return;
    if (pruned > 0) counters.add('uplink.pruned', pruned);
    if (pruned > 0) log.warn({ first: stretch.first, pruned }, 'entries were pruned before they were sent: the quota is too small for this outage, the controller gets their hashes');
    const packed = await packShipment({ chainId, ...stretch });
    await this.#pace.take(packed.length, signal);
    const awaited = { about: shipmentId(packed), answer: Promise.withResolvers<Answer>() };
    this.#awaited = awaited;
    counters.add('uplink.shipments');
    counters.add('uplink.bytes', packed.length);
    link.publish(`te/${device}/chain/${toHex(chainId)}/up`, packed, { retain: false }).catch((error: unknown) => { log.debug({ error: messageOf(error) }, 'not sent'); });
    const answer = await this.#answered(awaited.answer.promise, signal);
    this.#awaited = undefined;
    if (answer) await this.#follow(answer, signal);
    else if (!signal.aborted) {
      counters.add('uplink.unanswered');
      this.#fault = `no answer to what was sent: no controller serves there, or the broker drops te/${device}/chain/+/up or receipt`;
      this.#retryMs = Math.min(this.#retryMs * 2, LIMITS.uplinkAnswerMaxMs);
    }
  }

  /** Undefined when none came in time. */
  async #answered(answer: Promise<Answer>, signal: AbortSignal): Promise<Answer | undefined> {
    const done = new AbortController();
    try {
      return await Promise.race([answer, rest(jittered(this.#retryMs), AbortSignal.any([signal, done.signal])).then(() => undefined)]);
    } finally {
      done.abort();
    }
  }

  /** Where to go on. The controller's word decides what is sent, never what counts as delivered. */
  async #follow({ next, nextBlock, refusal }: Answer, signal: AbortSignal): Promise<void> {
    const { counters, log } = this.#options;
    const moved = next !== this.#at.next || nextBlock !== this.#at.nextBlock;
    if (nextBlock < (this.#receipts.newest?.receipt.sequence ?? -1) + 1) counters.add('uplink.rewound');
    this.#at = { next, nextBlock };
    this.#fault = refusal && `${refusal.detail} (${refusal.code})`;
    if (!refusal) {
      this.#retryMs = LIMITS.uplinkAnswerMs;
      if (!moved) await rest(POLL_MS, signal); // it has this already, and wants nothing else
      return;
    }
    counters.add('uplink.refused');
    log.warn({ code: refusal.code }, `the controller refuses: ${refusal.detail}`);
    if (refusal.code === 'controller.fork') this.#isForked = true;
    if (refusal.code === 'controller.gap' && moved) return;
    await rest(jittered(this.#retryMs), signal);
    this.#retryMs = Math.min(this.#retryMs * 2, LIMITS.uplinkAnswerMaxMs);
  }

  /** Bytes from the broker: hostile until they verify. */
  receive(topic: string, payload: Uint8Array): void {
    const { counters, log } = this.#options;
    const chainId = this.#chainId;
    if (!chainId || topic !== `te/${this.#options.device}/chain/${toHex(chainId)}/receipt`) return; // of an earlier chain
    try {
      const answer = decodeAnswer(payload);
      const awaited = this.#awaited && equalBytes(answer.about, this.#awaited.about) ? this.#awaited : undefined;
      if (!awaited && !this.#mayStray()) return counters.add('uplink.unjudged');
      if (awaited) this.#awaited = undefined;
      if (answer.receipt) this.#take(answer.receipt, chainId);
      awaited?.answer.resolve(answer);
    } catch (error) {
      if (!(error instanceof TenzroError) || error.class === 'bug') throw error;
      counters.add(error.code);
      if (this.#mayStray()) log.warn({ code: error.code, hint: error.hint }, error.message);
    }
  }

  /** What nobody asked for is looked at, and told of, once in a while: a flood of it costs nothing. */
  #mayStray(): boolean {
    const now = this.#options.clock.monoMicros();
    if (now < this.#strayMicros) return false;
    this.#strayMicros = now + STRAY_MS * 1_000;
    return true;
  }

  #take(bytes: Uint8Array, chainId: Uint8Array): void {
    const { writer, counters, log } = this.#options;
    try {
      if (!this.#receipts.accept(bytes, chainId)) return;
      counters.add('uplink.receipts');
      writer.setCursor(this.name, this.processed());
    } catch (error) {
      if (!(error instanceof TenzroError) || error.code !== 'controller.fork') throw error;
      if (!this.#isForked) log.error({ code: error.code, hint: error.hint }, error.message);
      this.#isForked = true;
      this.#fault = error.message;
      counters.add(error.code);
    }
  }
}

async function rest(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => undefined); // aborted: the caller looks
}

const jittered = (ms: number): number => ms * (0.75 + Math.random() / 2);
