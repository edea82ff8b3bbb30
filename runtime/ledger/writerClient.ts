/**
 * The main thread's side of the writer: packs what comes into batches and calls back when they are flushed. Per message it costs a copy and a push: no promise,
 * no object. While a batch is under way the next one gathers; an idle writer gets it at `batchEagerEntries`, or `batchDelayMs` after its first record
 * that somebody waits for, or `batchIdleDelayMs` after its first record.
 */
import type { Worker } from 'node:worker_threads';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError, invariant, messageOf, type ErrorCode } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { Ping } from '#runtime/core/ping.ts';
import type { InboundMessage, Intake, LedgerWriter, SealedBlock } from '#runtime/core/ports.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { GAP_BODY, KIND, type Cbor, type Draft, type TreeHead } from '#runtime/core/types.ts';
import { clockStepBody, type BatchCounts, type Reject, type Stamp } from './appender.ts';
import { BatchPacker, encodeDraft, encodeOperation, type Answer, type Operation } from './batch.ts';
import type { FromWriter, Quarantine, ToWriter } from './writerLoop.ts';

type Done = (error?: Error) => void;
interface Ask {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
}

interface Batch {
  readonly packer: BatchPacker;
  readonly arena: ArrayBuffer;
  readonly wallOffsetMicros: number;
  readonly openedMicros: number;
  readonly dones: Done[];
  readonly asks: Ask[];
  /** Records, whatever their kind. */
  count: number;
  isAwaited: boolean;
}

/** What the composition root may want to know; called between batches, never within `accept`. */
export interface WriterEvents {
  onReject?(reject: Reject): void;
  /** Messages dropped under push-back, QoS 0 only; a gap entry follows when the pressure ends. */
  onDrop?(count: number): void;
  onCommitted?(commit: { readonly size: number; readonly counts: BatchCounts }): void;
  /** 'ok', or the code of what keeps the writer from writing; it retries by itself. */
  onState?(state: 'ok' | ErrorCode, detail: string): void;
  /** The writer is gone: nothing more will be recorded. */
  onFatal?(error: TenzroError): void;
}

export interface WriterClientOptions {
  /** Starts the writer thread; `started` belongs into its options. */
  readonly spawn: (started: Stamp) => Worker;
  readonly clock: Clock;
  readonly batchDelayMs?: number;
  readonly events?: WriterEvents;
}

const FULL = new TenzroError('queue.full', 'the ledger is behind: a message at QoS 0 was dropped');
const NO_COUNT: Ask = { resolve: () => undefined, reject: () => undefined };

export class WriterClient implements Intake, LedgerWriter, AsyncDisposable {
  readonly #worker: Worker;
  readonly #clock: Clock;
  readonly #delayMicros: number;
  readonly #events: WriterEvents;
  readonly #exited: Promise<void>;
  readonly #ticker: NodeJS.Timeout;
  readonly #arenas: ArrayBuffer[] = [];
  /** Full batches, oldest first. */
  readonly #full: Batch[] = [];
  #open: Batch | undefined;
  #inFlight: Batch | undefined;
  #timer: NodeJS.Timeout | undefined;
  #pendingBytes = 0;
  #size: number;
  readonly #ping = new Ping();
  readonly #growth = new Set<() => void>();
  #wallOffsetMicros: number;
  #sentSinceTick = true;
  #gap: { count: number; readonly fromMicros: number; toMicros: number } | undefined;
  #state: 'ok' | ErrorCode = 'ok';
  #isClosing = false;
  #isCloseSent = false;
  #ended: TenzroError | undefined;
  /** Epoch of this run on the chain. */
  readonly bootEpoch: number;
  /** Of a chain that was set aside at this start. */
  readonly quarantine: Quarantine | undefined;

  /** Resolves when the chain is open and its boot entry under way. Rejects with what `openChain` throws. */
  static async start(options: WriterClientOptions): Promise<WriterClient> {
    const { clock } = options;
    const worker = options.spawn({ wallMicros: clock.wallMicros(), monoMicros: clock.monoMicros() });
    const exited = new Promise<void>((resolve) => { worker.once('exit', () => resolve()); });
    const ready = await new Promise<Extract<FromWriter, { type: 'ready' }>>((resolve, reject) => {
      const fail = (error: Error): void => reject(error);
      worker.once('message', (message: FromWriter) => {
        if (message.type === 'ready') { worker.off('error', fail); resolve(message); }
        else if (message.type === 'fatal') reject(new TenzroError(message.code, message.message));
      });
      worker.once('error', fail);
    });
    return new WriterClient(worker, exited, options, ready);
  }

  private constructor(worker: Worker, exited: Promise<void>, options: WriterClientOptions, ready: Extract<FromWriter, { type: 'ready' }>) {
    this.#worker = worker;
    this.#exited = exited;
    this.#clock = options.clock;
    this.#delayMicros = (options.batchDelayMs ?? LIMITS.batchDelayMs) * 1000;
    this.#events = options.events ?? {};
    this.bootEpoch = ready.bootEpoch;
    this.quarantine = ready.quarantine;
    this.#size = ready.size - 1; // the boot entry is under way
    this.#wallOffsetMicros = this.#clock.wallMicros() - this.#clock.monoMicros();
    worker.on('message', (message: FromWriter) => this.#receive(message));
    worker.on('error', (error) => this.#end(new TenzroError('core.invariant', `the writer thread failed: ${messageOf(error)}`, { cause: error })));
    worker.on('exit', () => this.#end(new TenzroError('ledger.closed', 'the writer has stopped')));
    this.#ticker = setInterval(() => this.#tick(), LIMITS.dueIntervalMs).unref();
  }

  /** Entries flushed so far. */
  get size(): number { return this.#size; }
  /** Bytes accepted and not yet flushed. */
  get pendingBytes(): number { return this.#pendingBytes; }
  get state(): 'ok' | ErrorCode { return this.#state; }

  accept(message: InboundMessage, done: Done): void {
    const refusal = this.#refusalOf(message);
    if (refusal) { done(refusal); return; }
    const bytes = BatchPacker.messageBytes(message);
    const batch = this.#room(bytes, 1);
    const before = batch.packer.used;
    batch.packer.message(message, this.#clock.monoMicros());
    this.#pendingBytes += batch.packer.used - before;
    batch.dones.push(done);
    batch.count++;
    if (message.qos > 0) this.#await(batch);
    if (batch.count === LIMITS.batchEagerEntries || batch.count === LIMITS.batchEntriesMax) this.#pump();
  }

  #refusalOf({ clientId, topic, payload, qos }: InboundMessage): TenzroError | undefined {
    if (this.#ended || this.#isClosing) return this.#ended ?? new TenzroError('ledger.closed', 'the gateway is stopping');
    if (topic.length > LIMITS.topicBytesMax || clientId.length > LIMITS.clientIdBytesMax || payload.length > LIMITS.packetBytesMax) {
      return new TenzroError('entry.too_large', 'topic, client id or payload is beyond the limits of the front door');
    }
    if (qos > 0 || this.#pendingBytes <= LIMITS.pendingBytesMax) return undefined;
    const now = this.#clock.wallMicros();
    this.#gap ??= { count: 0, fromMicros: now, toMicros: now };
    this.#gap.count++;
    this.#gap.toMicros = now;
    this.#events.onDrop?.(1);
    return FULL;
  }

  async append(draft: Draft): Promise<number> {
    const [index] = await this.#appendAll([encodeDraft(draft)], []);
    invariant(index !== undefined, 'a draft has an index');
    return index;
  }

  /** What the broker retains from earlier runs: see `Decoder.learn`. Before the first message. */
  learn(topic: string, payload: Uint8Array): void {
    if (!this.#ended) this.#put([encodeOperation({ op: 'learn', topic, payload })], []);
  }

  async head(): Promise<TreeHead> { return (await this.#ask({ op: 'head' })) as TreeHead; }

  /** The sources have stopped: what the decoder still holds open (summary windows) becomes entries. */
  async drain(): Promise<void> { await this.#ask({ op: 'drain' }); }

  async writePending(payload: Uint8Array): Promise<void> { await this.#ask({ op: 'pending', payload }); }

  async commitBlock(block: SealedBlock): Promise<void> { await this.#ask({ op: 'block', block }); }

  setCursor(name: string, index: number): void {
    if (!this.#ended) this.#put([encodeOperation({ op: 'cursor', name, index })], []);
  }

  /** Entries and the follower's position in one transaction: what a follower writes, it writes once. Resolves with the indices. */
  async appendWithCursor(drafts: readonly Draft[], { cursor, index }: { readonly cursor: string; readonly index: number }): Promise<readonly number[]> {
    invariant(drafts.length < LIMITS.batchEntriesMax, `fewer than ${LIMITS.batchEntriesMax} entries at a time`);
    return this.#appendAll(drafts.map(encodeDraft), [encodeOperation({ op: 'cursor', name: cursor, index })]);
  }

  async #appendAll(drafts: readonly Uint8Array[], others: readonly Uint8Array[]): Promise<readonly number[]> {
    this.#throwIfEnded();
    const waits = drafts.map(() => Promise.withResolvers<Answer>());
    this.#put([...drafts, ...others], waits);
    return (await Promise.all(waits.map(async ({ promise }) => promise))) as number[];
  }

  /** Resolves when there are more than `size` flushed entries, or when `signal` aborts. */
  async grown(size: number, signal: AbortSignal): Promise<void> {
    if (this.#size > size || signal.aborted || this.#ended) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = (): void => resolve();
    this.#growth.add(wake);
    signal.addEventListener('abort', wake, { once: true });
    await promise;
    this.#growth.delete(wake);
    signal.removeEventListener('abort', wake);
  }

  /** Takes nothing more, flushes what was taken, marks the stop as orderly, and waits for the thread to end. */
  async close(): Promise<void> {
    this.#isClosing = true;
    if (this.#state === 'ok') this.#pump();
    else if (!this.#isCloseSent) this.#sendClose(); // what waits for space gets one last try
    await this.#exited;
  }

  async [Symbol.asyncDispose](): Promise<void> { await this.close(); }

  /** Resolves when the thread looked at its messages once more, whatever it waits for; or has ended. */
  async answered(): Promise<void> {
    if (!this.#ended) await this.#ping.ask(() => this.#worker.postMessage({ type: 'ping' } satisfies ToWriter, []));
  }

  async #ask(operation: Operation): Promise<Answer> {
    this.#throwIfEnded();
    const wait = Promise.withResolvers<Answer>();
    this.#put([encodeOperation(operation)], [wait]);
    return wait.promise;
  }

  #throwIfEnded(): void {
    if (this.#ended) throw this.#ended;
    if (this.#isClosing) throw new TenzroError('ledger.closed', 'the gateway is stopping');
  }

  /** Operations that belong into one batch. */
  #put(encoded: readonly Uint8Array[], asks: readonly Ask[]): void {
    let bytes = 0;
    for (const operation of encoded) bytes += operation.length;
    if (bytes > LIMITS.batchBytesMax) throw new TenzroError('entry.too_large', `${bytes} bytes do not fit a batch of ${LIMITS.batchBytesMax}`);
    const batch = this.#room(bytes, encoded.length);
    for (const operation of encoded) batch.packer.operation(operation);
    this.#pendingBytes += bytes;
    batch.count += encoded.length;
    batch.asks.push(...asks);
    if (asks.length > 0) this.#await(batch);
    if (batch.count >= LIMITS.batchEntriesMax) this.#pump();
  }

  /** The open batch, or a new one when that has no room. */
  #room(bytes: number, count: number): Batch {
    const open = this.#open;
    if (open?.packer.fits(bytes) && open.count + count <= LIMITS.batchEntriesMax) return open;
    if (open) {
      this.#full.push(open);
      this.#open = undefined;
      this.#pump();
    }
    return this.#begin();
  }

  #begin(): Batch {
    const step = this.#sampleClock();
    const arena = this.#arenas.pop() ?? new ArrayBuffer(LIMITS.batchBytesMax);
    const batch: Batch = {
      arena, packer: new BatchPacker(arena), wallOffsetMicros: this.#wallOffsetMicros, openedMicros: this.#clock.monoMicros(), dones: [], asks: [], count: 0, isAwaited: false,
    };
    this.#open = batch;
    if (step) this.#put([encodeDraft(step)], [NO_COUNT]);
    else if (!this.#inFlight) this.#arm(batch);
    return batch;
  }

  /** Takes the wall clock's offset anew; the entry that tells of a step, where there was one. */
  #sampleClock(): Draft | undefined {
    const [wallMicros, monoMicros] = [this.#clock.wallMicros(), this.#clock.monoMicros()];
    const expectedMicros = monoMicros + this.#wallOffsetMicros;
    this.#wallOffsetMicros = wallMicros - monoMicros;
    if (Math.abs(wallMicros - expectedMicros) <= LIMITS.clockStepMicros) return undefined;
    return { kind: KIND.clockStep, source: MAIN_ENTITY, wallMicros, monoMicros, body: clockStepBody(expectedMicros, wallMicros, 'running') };
  }

  #await(batch: Batch): void {
    if (batch.isAwaited) return;
    batch.isAwaited = true;
    if (!this.#inFlight && batch === this.#open) this.#arm(batch);
  }

  #dueIn(batch: Batch): number {
    const delay = batch.isAwaited ? this.#delayMicros : LIMITS.batchIdleDelayMs * 1000;
    return batch.openedMicros + delay - this.#clock.monoMicros();
  }

  #arm(batch: Batch): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#pump(), Math.max(0, this.#dueIn(batch) / 1000));
  }

  /** Sends the next batch when the writer is idle and one is full or due. */
  #pump(): void {
    if (this.#inFlight || this.#ended || this.#isCloseSent) return;
    const open = this.#open;
    let next = this.#full.shift();
    if (!next && open) {
      if (!this.#isClosing && open.count < LIMITS.batchEagerEntries && this.#dueIn(open) > 500) { this.#arm(open); return; }
      next = open;
      this.#open = undefined;
    }
    if (next) this.#send(next);
    else if (this.#isClosing) this.#sendClose();
  }

  #send(batch: Batch): void {
    clearTimeout(this.#timer);
    this.#inFlight = batch;
    this.#sentSinceTick = true;
    const { arena, wallOffsetMicros, packer: { used } } = batch;
    const monoMicros = this.#clock.monoMicros();
    const message: ToWriter = { type: 'batch', arena, used, wallOffsetMicros, now: { wallMicros: monoMicros + this.#wallOffsetMicros, monoMicros } };
    this.#worker.postMessage(message, [arena]);
  }

  /** Retention prunes for its age what these controllers, by SHA-256 of their keys in hex, have receipted; nothing while there may be one more of them. */
  awaitReceipts(receiptKeys: readonly string[], isComplete = true): void {
    const message: ToWriter = { type: 'receipts', receiptKeys, isComplete };
    this.#worker.postMessage(message, []);
  }

  #sendClose(): void {
    this.#isCloseSent = true;
    const message: ToWriter = { type: 'close' };
    this.#worker.postMessage(message, []);
  }

  #receive(message: FromWriter): void {
    switch (message.type) {
      case 'done': this.#finish(message); break;
      case 'pong': this.#ping.answered(); break;
      case 'state':
        this.#state = message.state;
        this.#events.onState?.(message.state, message.detail);
        if (this.#isClosing && message.state !== 'ok' && !this.#isCloseSent) this.#sendClose();
        break;
      case 'abandoned':
      case 'fatal': this.#end(new TenzroError(message.code, message.message)); break;
      case 'closed':
      case 'ready': break;
    }
  }

  #finish({ arena, result }: Extract<FromWriter, { type: 'done' }>): void {
    this.#size = result.size;
    const batch = arena ? this.#inFlight : undefined;
    if (arena && batch) {
      this.#inFlight = undefined;
      this.#pendingBytes -= batch.packer.used;
      if (this.#arenas.length * LIMITS.batchBytesMax < LIMITS.pendingBytesMax / 4) this.#arenas.push(arena);
      this.#pump(); // the writer goes on while we call back
      for (const done of batch.dones) done();
      for (const [place, ask] of batch.asks.entries()) ask.resolve(result.answers[place] ?? null);
    }
    for (const reject of result.rejects) this.#events.onReject?.(reject);
    this.#events.onCommitted?.(result);
    for (const resolve of this.#growth) resolve();
    if (this.#gap && this.#pendingBytes < LIMITS.pendingBytesMax / 2) this.#tellGap(this.#gap);
  }

  #tellGap({ count, fromMicros, toMicros }: { readonly count: number; readonly fromMicros: number; readonly toMicros: number }): void {
    this.#gap = undefined;
    const body = new Map<number, Cbor>([[GAP_BODY.reason, 'pushback'], [GAP_BODY.count, count], [GAP_BODY.fromMicros, fromMicros], [GAP_BODY.toMicros, toMicros]]);
    const stamp = { wallMicros: this.#clock.wallMicros(), monoMicros: this.#clock.monoMicros() };
    this.#put([encodeDraft({ kind: KIND.gap, source: MAIN_ENTITY, ...stamp, body })], [NO_COUNT]);
  }

  /** An idle writer is woken now and then: time alone may make entries due, and the wall clock may have been set. */
  #tick(): void {
    const wasBusy = this.#sentSinceTick || this.#inFlight !== undefined || this.#open !== undefined;
    this.#sentSinceTick = false;
    if (!wasBusy && !this.#ended && !this.#isClosing) this.#send(this.#takeEmpty());
  }

  #takeEmpty(): Batch {
    const batch = this.#begin();
    this.#open = undefined;
    return batch;
  }

  #end(error: TenzroError): void {
    if (this.#ended) return;
    this.#ended = error;
    this.#ping.answered();
    clearTimeout(this.#timer);
    clearInterval(this.#ticker);
    const batches = [this.#inFlight, ...this.#full, this.#open].filter((batch) => batch !== undefined);
    this.#inFlight = undefined;
    for (const { dones, asks } of batches) {
      for (const done of dones) done(error);
      for (const ask of asks) ask.reject(error);
    }
    for (const resolve of this.#growth) resolve();
    if (!this.#isCloseSent || error.code !== 'ledger.closed') this.#events.onFatal?.(error);
  }
}
