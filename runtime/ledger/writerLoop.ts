/**
 * The writer thread: one batch in, one transaction, one reply. A write that fails for want of space is tried again with the same changes until it
 * succeeds; nothing is acknowledged meanwhile. INVARIANT: the main thread has at most one batch under way.
 */
import type { MessagePort } from 'node:worker_threads';
import { systemClock } from '#runtime/core/clock.ts';
import { TenzroError, messageOf, type ErrorCode } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Decoder } from '#runtime/core/ports.ts';
import { Appender, type Commit, type Stamp } from './appender.ts';
import { decodeEntry } from './entry.ts';
import { isDamage, markSuspect, openChain, segmentOf, type OpenChain } from './openChain.ts';
import { planPrune, type RetentionLimits } from './retention.ts';

export interface WriterOptions {
  readonly dataDir: string;
  /** Version of the software, for the boot entry. */
  readonly version: string;
  /** The main thread's clocks when it started the writer. */
  readonly started: Stamp;
  readonly retention: RetentionLimits;
  readonly mapBytes?: number;
}

export type ToWriter =
  | { readonly type: 'batch'; readonly arena: ArrayBuffer; readonly used: number; readonly wallOffsetMicros: number; readonly now: Stamp }
  /** Whose receipts count from now on. */
  | { readonly type: 'receipts'; readonly receiptKeys: readonly string[]; readonly isComplete: boolean }
  /** Answered at once, also while the disk is full. */
  | { readonly type: 'ping' }
  | { readonly type: 'close' };

/** A chain that was set aside at this start: its folder under quarantine/, and why. */
export interface Quarantine {
  readonly name: string;
  readonly code: string;
}

export type FromWriter =
  | { readonly type: 'ready'; readonly size: number; readonly bootEpoch: number; readonly quarantine?: Quarantine }
  /** A batch is on disk; without an arena: the boot entry is. */
  | { readonly type: 'done'; readonly arena?: ArrayBuffer; readonly result: Omit<Commit, 'changes'> }
  /** The stop came while the disk was full: the batch is not stored. */
  | { readonly type: 'abandoned'; readonly code: ErrorCode; readonly message: string }
  | { readonly type: 'state'; readonly state: 'ok' | ErrorCode; readonly detail: string }
  | { readonly type: 'fatal'; readonly code: ErrorCode; readonly message: string }
  | { readonly type: 'pong' }
  | { readonly type: 'closed' };

/** Runs until the main thread sends `close`, or the disk breaks. Never rejects: the main thread is told. */
export async function runWriter(port: MessagePort, options: WriterOptions, makeDecoder: () => Decoder): Promise<void> {
  const tell: Tell = (message, transfer = []) => port.postMessage(message, transfer);
  try {
    const decoder = makeDecoder();
    await using chain = await openRemembered(options, decoder);
    const appender = new Appender(chain, decoder);
    const boot = appender.boot(chain, options.version, options.started);
    tell({ type: 'ready', size: boot.size, bootEpoch: appender.state.bootEpoch, ...(chain.finding ? { quarantine: { name: chain.finding.quarantine, code: chain.finding.code } } : {}) });
    await new WriterLoop(port, options, chain, appender, tell).run(boot);
  } catch (error) {
    if (error instanceof TenzroError && error.code === 'ledger.corrupt') markSuspect(options.dataDir, error);
    tell({ type: 'fatal', code: error instanceof TenzroError ? error.code : 'core.invariant', message: messageOf(error) });
  } finally {
    tell({ type: 'closed' });
    port.close();
  }
}

/** Damage in the entries that the decoder is shown is damage of the chain: it is set aside like any other. */
async function openRemembered(options: WriterOptions, decoder: Decoder): Promise<OpenChain> {
  const chain = await openChain({ ...options, clock: systemClock });
  try {
    rememberTail(chain, decoder);
    return chain;
  } catch (error) {
    await chain[Symbol.asyncDispose]();
    if (!isDamage(error)) throw error;
    markSuspect(options.dataDir, error);
    return openChain({ ...options, clock: systemClock });
  }
}

/** Lets the decoder recognise redeliveries across a restart. */
function rememberTail({ store, tail }: OpenChain, decoder: Decoder): void {
  const size = tail?.tree.size ?? 0;
  let index = Math.max(tail?.state.oldest ?? 0, size - LIMITS.rememberEntriesMax);
  while (index < size) {
    const segment = segmentOf(store, index);
    for (; index < segment.end; index++) {
      const { kind, source, body } = decodeEntry(segment.entry(index));
      decoder.remember(kind, source, body);
    }
  }
}

/** Commits between two looks at the quota. */
const COMMITS_PER_PRUNE = 64;

type Tell = (message: FromWriter, transfer?: ArrayBuffer[]) => void;

class WriterLoop {
  readonly #port: MessagePort;
  #retention: RetentionLimits;
  readonly #chain: OpenChain;
  readonly #appender: Appender;
  readonly #tell: Tell;
  readonly #ended = Promise.withResolvers<void>();
  /** The commit that waits for space, and what to do when it is written. */
  #waiting: { readonly commit: Commit; readonly after: () => void; readonly retryMs: number; readonly timer: NodeJS.Timeout } | undefined;
  /** Batches that came meanwhile: at most one, by the main thread's promise. */
  #held: ToWriter[] = [];
  #isClosing = false;
  #commits = 0;

  constructor(port: MessagePort, options: WriterOptions, chain: OpenChain, appender: Appender, tell: Tell) {
    this.#port = port;
    this.#retention = options.retention;
    this.#chain = chain;
    this.#appender = appender;
    this.#tell = tell;
  }

  async run(boot: Commit): Promise<void> {
    this.#guard(() => this.#commit(boot, () => this.#tellDone(boot)));
    const onMessage = (message: ToWriter): void => this.#guard(() => this.#receive(message));
    this.#port.on('message', onMessage);
    try {
      await this.#ended.promise;
    } finally {
      clearTimeout(this.#waiting?.timer);
      this.#port.off('message', onMessage);
    }
  }

  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#ended.reject(error instanceof Error ? error : new TenzroError('core.invariant', String(error)));
    }
  }

  #receive(message: ToWriter): void {
    if (message.type === 'close') this.#close();
    else if (message.type === 'ping') this.#tell({ type: 'pong' });
    else if (message.type === 'receipts') this.#retention = { ...this.#retention, receiptKeys: message.receiptKeys, isComplete: message.isComplete };
    else if (this.#waiting) this.#held.push(message);
    else {
      const { arena, used, wallOffsetMicros, now } = message;
      const commit = this.#appender.apply(Buffer.from(arena, 0, used), wallOffsetMicros, now);
      this.#commit(commit, () => {
        this.#tellDone(commit, arena);
        if (++this.#commits % COMMITS_PER_PRUNE === 0) setImmediate(() => this.#guard(() => this.#prune(now)));
      });
    }
  }

  #tellDone({ size, answers, counts, rejects }: Commit, arena?: ArrayBuffer): void {
    const result = { size, answers, counts, rejects };
    if (arena) this.#tell({ type: 'done', result, arena }, [arena]);
    else this.#tell({ type: 'done', result });
  }

  /** Writes now, or as soon as there is space. */
  #commit(commit: Commit, after: () => void): void {
    try {
      if (commit.changes.length > 0) this.#chain.store.write(commit.changes);
    } catch (error) {
      if (!isFull(error)) throw error;
      this.#waitForSpace(commit, after, error);
      return;
    }
    this.#appender.written();
    if (this.#waiting) {
      this.#waiting = undefined;
      this.#tell({ type: 'state', state: 'ok', detail: '' });
    }
    after();
    for (const message of this.#held.splice(0)) this.#receive(message);
    if (this.#isClosing) this.#close();
  }

  #waitForSpace(commit: Commit, after: () => void, error: TenzroError): void {
    if (this.#isClosing) { this.#abandon(error); return; }
    const before = this.#waiting;
    if (!before) this.#tell({ type: 'state', state: error.code, detail: error.message });
    const retryMs = before ? Math.min(before.retryMs * 2, LIMITS.writeRetryMaxMs) : LIMITS.writeRetryMs;
    const timer = setTimeout(() => this.#guard(() => this.#commit(commit, after)), retryMs * (0.75 + Math.random() / 2));
    this.#waiting = { commit, after, retryMs, timer };
  }

  #abandon(error: TenzroError): void {
    this.#tell({ type: 'abandoned', code: error.code, message: error.message });
    this.#ended.resolve();
  }

  /** What waits for space gets one last try. */
  #close(): void {
    this.#isClosing = true;
    const waiting = this.#waiting;
    if (waiting) {
      clearTimeout(waiting.timer);
      this.#commit(waiting.commit, waiting.after); // comes back here when it succeeds
      return;
    }
    try {
      this.#chain.store.write(this.#appender.close().changes);
      this.#ended.resolve();
    } catch (error) {
      if (!isFull(error)) throw error;
      this.#abandon(error);
    }
  }

  /** One small step; more follow while there is something to prune and nobody waits. */
  #prune(now: Stamp): void {
    if (this.#waiting || this.#isClosing) return;
    const step = planPrune(this.#chain.store, this.#retention, this.#appender.size, now.wallMicros);
    if (!step) return;
    const commit = this.#appender.prune(step, now);
    this.#commit(commit, () => {
      if (step.unreceipted) this.#tellDone(commit);
      setImmediate(() => this.#guard(() => this.#prune(now)));
    });
  }
}

const isFull = (error: unknown): error is TenzroError => error instanceof TenzroError && error.code === 'ledger.disk_full';
