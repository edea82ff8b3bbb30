/**
 * The main thread's side of inference: starts the thread, tells it of new heads, appends what it judged, starts it again when it falls over.
 * Nothing here runs a model, and nothing upstream waits for one.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { whenAborted } from '#runtime/core/abort.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { Ping } from '#runtime/core/ping.ts';
import type { Counters, Follower, Log } from '#runtime/core/ports.ts';
import type { InferSettings } from '#runtime/core/settings.ts';
import type { Draft } from '#runtime/core/types.ts';
import { CURSOR } from './engine.ts';
import type { Batch, FromThread, ModelStatus, ThreadData, ToThread } from './messages.ts';
import { Verdicts, type VerdictChange } from './verdicts.ts';

/** What inference needs of the ledger's writer. */
interface InferenceSink {
  /** Appends all drafts and moves the cursor in one transaction; resolves when flushed. Rejects with a TenzroError, and then nothing was stored. */
  appendWithCursor(drafts: readonly Draft[], position: { readonly cursor: string; readonly index: number }): Promise<unknown>;
}

export interface InferenceOptions {
  readonly settings: InferSettings;
  readonly dataDir: string;
  /** Of models that were installed by command; they go before those of `settings.modelsDir`. */
  readonly installedDir: string;
  /** The thread's entry, a composition root: it joins the models with this room. */
  readonly thread: URL;
  readonly ledger: InferenceSink;
  readonly clock: Clock;
  readonly log: Log;
  readonly counters: Counters;
  /** A source's verdict has changed, and the inference that says so is flushed. MUST NOT throw. */
  readonly onVerdict: (change: VerdictChange) => void;
  /** A model runs, or does not any more. MUST NOT throw. */
  readonly onModel: (model: ModelStatus) => void;
}

export interface Inference extends Follower {
  /** The log has `size` flushed entries now. Cheap: call it after every flush. */
  head(size: number): void;
  status(): readonly InferenceStatus[];
  /** Resolves when the thread looked at its messages once more, which it does not while a model computes; or when there is no thread. */
  answered(): Promise<void>;
  /**
   * Ends the thread in an orderly way and loads the packages that there are now; judging goes on from the cursor. Resolves with what came of them, with none
   * where the thread does not come up. Rejects with `infer.worker` when inference ends first.
   */
  reload(): Promise<readonly ModelStatus[]>;
}

interface InferenceStatus extends ModelStatus {
  /** Entries between the end of the log and what the follower has read. */
  readonly lag: number;
  /** Since this process started. */
  readonly inferences: number;
}

const RESTART = { firstMs: 250, maxMs: 30_000 } as const;
const RETRY_STORE_MS = 1_000;
/** A thread that does not end by then is in native code: it is terminated. */
const STOP_MS = 2_000;

export function openInference(options: InferenceOptions): Inference { return new InferenceFollower(options); }

class InferenceFollower implements Inference {
  readonly name = CURSOR;
  readonly #options: InferenceOptions;
  readonly #verdicts: Verdicts;
  #worker: Worker | undefined;
  #models: readonly ModelStatus[] = [];
  #size = 0;
  #position = 0;
  /** The thread has a head message that it has not answered yet. */
  #told = false;
  #restartMs: number = RESTART.firstMs;
  /** Somebody waits for other packages to be loaded, and the thread that will load them has not begun. */
  #isReloading = false;
  #reloaded: PromiseWithResolvers<readonly ModelStatus[]> | undefined;
  readonly #ping = new Ping();
  #nudge = Promise.withResolvers<void>();
  #stopThread: () => void = () => undefined;
  /** The append that is under way; a new thread must not read the cursor before it is done. */
  #storing: Promise<void> = Promise.resolve();

  constructor(options: InferenceOptions) {
    this.#options = options;
    this.#verdicts = new Verdicts(options.onVerdict);
  }

  processed(): number { return this.#position; }

  head(size: number): void {
    this.#size = size;
    if (this.#told || this.#worker === undefined) return;
    this.#told = true;
    this.#tell({ kind: 'head' });
  }

  status(): readonly InferenceStatus[] {
    const lag = Math.max(0, this.#size - this.#position);
    return this.#models.map((model) => ({ ...model, lag, inferences: this.#verdicts.inferences(model.name) }));
  }

  async answered(): Promise<void> {
    if (this.#worker !== undefined) await this.#ping.ask(() => this.#tell({ kind: 'ping' }));
  }

  async reload(): Promise<readonly ModelStatus[]> {
    if (!this.#options.settings.enabled) return [];
    this.#reloaded ??= Promise.withResolvers();
    this.#isReloading = true;
    this.#nudge.resolve();
    this.#stopThread();
    return this.#reloaded.promise;
  }

  #settleReload(models: readonly ModelStatus[]): void {
    if (this.#isReloading) return;
    this.#reloaded?.resolve(models);
    this.#reloaded = undefined;
  }

  async follow(signal: AbortSignal): Promise<void> {
    signal.addEventListener('abort', () => {
      this.#nudge.resolve();
      this.#reloaded?.reject(new TenzroError('infer.worker', 'inference ends'));
    }, { once: true });
    await this.#keepThread(signal);
    await whenAborted(signal);
  }

  async #keepThread(signal: AbortSignal): Promise<void> {
    const { settings, log, counters } = this.#options;
    while (settings.enabled && !signal.aborted) {
      this.#nudge = Promise.withResolvers();
      this.#isReloading = false;
      const failure = await this.#runThread(signal);
      await this.#storing;
      if (signal.aborted) return;
      this.#settleReload([]);
      if (this.#isReloading) continue;
      if (failure === undefined) {
        await this.#nudge.promise; // no model to run: until there may be one
        continue;
      }
      counters.add('infer.restarts');
      log.warn({ code: 'infer.worker', retryAfterMs: this.#restartMs, error: failure }, 'inference thread stopped');
      await Promise.race([this.#nudge.promise, sleep(this.#restartMs, undefined, { signal }).catch(() => undefined)]); // aborted: the loop ends
      this.#restartMs = Math.min(RESTART.maxMs, this.#restartMs * 2);
    }
  }

  /** Resolves when the thread has ended: with why, or with nothing where it was told to, or had no model to run. */
  #runThread(signal: AbortSignal): Promise<string | undefined> {
    const { thread, dataDir, installedDir, settings: { modelsDir, models, runtimeDir } } = this.#options;
    const workerData: ThreadData = { dataDir, modelsDir, installedDir, models, runtimeDir };
    const worker = new Worker(thread, { name: 'tenzro-infer', workerData, resourceLimits: { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 96 } });
    this.#worker = worker;
    this.#told = true; // it looks at the log by itself when it starts
    return new Promise((resolve) => {
      let failure: string | undefined;
      let deadline: NodeJS.Timeout | undefined;
      const stop = (): void => {
        this.#tell({ kind: 'stop' });
        deadline = setTimeout(() => void worker.terminate(), STOP_MS);
      };
      signal.addEventListener('abort', stop, { once: true });
      this.#stopThread = stop;
      worker.on('message', (message: FromThread) => this.#hear(message, signal));
      worker.on('error', (error) => { failure = messageOf(error); });
      worker.once('exit', (code) => {
        clearTimeout(deadline);
        signal.removeEventListener('abort', stop);
        this.#worker = undefined;
        this.#ping.answered();
        this.#stopThread = () => undefined;
        resolve(failure ?? (code === 0 ? undefined : `exit code ${code}`));
      });
    });
  }

  #tell(message: ToThread): void { this.#worker?.postMessage(message); }

  #hear(message: FromThread, signal: AbortSignal): void {
    const { log, counters } = this.#options;
    switch (message.kind) {
      case 'pong':
        return this.#ping.answered();
      case 'models':
        for (const { name } of this.#models.filter((model) => message.models.every((other) => other.name !== model.name))) this.#options.onModel({ name, digest: '', provider: '', state: { kind: 'none', reason: 'removed' } });
        this.#models = message.models;
        for (const { name, provider, state } of message.models) {
          if (state.kind === 'value') log.info({ model: name, provider }, 'model loaded');
          else log.warn({ model: name, reason: state.reason }, 'going on without a model');
        }
        message.models.forEach(this.#options.onModel);
        this.#settleReload(message.models);
        return;
      case 'modelFailed':
        log.error({ model: message.name, code: message.code, reason: message.reason }, 'going on without a model');
        this.#models = this.#models.map((model) => (model.name === message.name ? { ...model, provider: '', state: { kind: 'none', reason: message.reason } } : model));
        this.#models.filter(({ name }) => name === message.name).forEach(this.#options.onModel);
        return;
      case 'note':
        log.warn({ code: message.code }, message.message);
        return;
      case 'batch':
        this.#position = message.position;
        this.#storing = this.#store(message.batch, signal);
        return;
      case 'progress':
        this.#told = false;
        this.#position = message.position;
        for (const [name, by] of Object.entries(message.counts)) counters.add(name, by);
        counters.set('infer.lag', Math.max(0, this.#size - this.#position));
        if (this.#size > this.#position) this.head(this.#size);
    }
  }

  /** Tries until it is stored: a batch that was refused was not stored at all. */
  async #store({ drafts, cursor }: Batch, signal: AbortSignal): Promise<void> {
    const { ledger, clock, log, counters } = this.#options;
    while (!signal.aborted) {
      const stamp = { wallMicros: clock.wallMicros(), monoMicros: clock.monoMicros() };
      try {
        await ledger.appendWithCursor(drafts.map((draft) => ({ ...draft, ...stamp })), { cursor: CURSOR, index: cursor });
        this.#restartMs = RESTART.firstMs;
        this.#verdicts.stored(drafts, stamp.wallMicros);
        this.#tell({ kind: 'stored' });
        return;
      } catch (error) {
        counters.add('infer.store_retries');
        const code = error instanceof TenzroError ? error.code : 'core.invariant';
        log.warn({ code, retryAfterMs: RETRY_STORE_MS, error: messageOf(error) }, 'inferences wait for the ledger');
        await sleep(RETRY_STORE_MS, undefined, { signal }).catch(() => undefined); // aborted: the loop ends, the cursor stands
      }
    }
  }
}
