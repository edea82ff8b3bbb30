/**
 * Follows the ledger inside the inference thread: entries in, windows judged in bounded batches, drafts and the new cursor out.
 *
 * Invariants
 * - The cursor that is committed together with inferences is the first index that an open window still needs, so a restart finds every reading again.
 * - At a restart the inferences behind the cursor say which windows were judged: none is lost, none is judged twice.
 * - One batch is on its way to the writer at a time; ingest never waits for a model. Too far behind, entries are skipped and a `gap` says so.
 */
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { equalBytes } from '#runtime/core/bytes.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { LedgerReader } from '#runtime/core/ports.ts';
import { INFERENCE_BODY, KIND, type Cbor, type Entry, type StoredEntry } from '#runtime/core/types.ts';
import { isSealed } from '#runtime/ledger/confidential.ts';
import { decodeEntry, peek } from '#runtime/ledger/entry.ts';
import { JudgeQueue } from './judgeQueue.ts';
import type { Judge } from './plan.ts';
import { readingOf } from './reading.ts';
import { gapDraft, type Batch, type UnstampedDraft } from './messages.ts';

export const CURSOR = 'infer';
/** Without inferences the cursor is stored only this often: it is worth a write, and reading again costs little. */
const CURSOR_EVERY_ENTRIES = 8_192;

export interface EngineOptions {
  readonly reader: LedgerReader;
  readonly judges: readonly Judge[];
  /** Resolves when the batch is flushed. */
  readonly commit: (batch: Batch) => Promise<void>;
  readonly count: (name: string, by?: number) => void;
  /** A model failed while it ran: it judges no more until the next start. */
  readonly failed: (name: string, error: TenzroError) => void;
  /** Integer microseconds of a monotonic clock. */
  readonly monoMicros: () => number;
}

export class Engine {
  readonly #options: EngineOptions;
  /** Entries per round: each may complete a window of every model, and a round's drafts with two gaps fit one transaction. */
  readonly #roundEntries: number;
  #queues: JudgeQueue[];
  #position: number;
  #stored: number;

  constructor(options: EngineOptions) {
    this.#options = options;
    this.#queues = options.judges.map((judge) => new JudgeQueue(judge, options.count, options.monoMicros));
    this.#roundEntries = Math.min(LIMITS.inferReadEntriesMax, Math.max(1, Math.floor(LIMITS.batchEntriesMax / Math.max(1, options.judges.length)) - 2));
    this.#position = this.#stored = options.reader.cursor(CURSOR);
    if (this.#lagIn(options.reader.size()) <= LIMITS.inferLagEntriesMax) this.#recallJudged();
  }

  /** Next index it will look at. */
  get position(): number { return this.#position; }

  /** False when no model is left: there is nothing to follow for. */
  get judging(): boolean { return this.#queues.length > 0; }

  /** Works up to the present end of the log, or to where `signal` stops it. Rejects with what the reader or `commit` reports. */
  async advance(signal: AbortSignal): Promise<void> {
    for (let size = this.#options.reader.size(); this.#position < size && !signal.aborted; size = this.#options.reader.size()) {
      const drafts = this.#skipped(size);
      this.#position = this.#options.reader.seek(this.#position, this.#queues.map(({ needle }) => needle));
      for (const entry of this.#options.reader.read(this.#position, this.#roundEntries)) {
        this.#position = entry.index + 1;
        if (this.#take(entry)) await this.#runFull(drafts);
      }
      await this.#flush(drafts);
    }
  }

  #lagIn(size: number): number { return size - this.#position; }

  /** What the log already holds behind the cursor was judged before the restart. */
  #recallJudged(): void {
    const { reader } = this.#options;
    for (let from = Math.max(this.#position, reader.oldest()); from < reader.size();) {
      for (const { index, bytes } of reader.read(from, LIMITS.inferReadEntriesMax)) {
        from = index + 1;
        if (peek(bytes).kind === KIND.inference) this.#recall(decodeEntry(bytes));
      }
    }
  }

  #recall({ source, body }: Entry): void {
    if (!(body instanceof Map)) return;
    const fields = body as ReadonlyMap<number, Cbor>;
    const [digest, inputs] = [fields.get(INFERENCE_BODY.digest), fields.get(INFERENCE_BODY.inputs)];
    if (!(digest instanceof Uint8Array) || !Array.isArray(inputs)) return;
    for (const queue of this.#queues) if (equalBytes(queue.judge.digest, digest)) queue.windows.resume(source, inputs as readonly number[]);
  }

  /** Too far behind, or overtaken by pruning: goes on at the end, or at the oldest entry there is, and records what was not judged. */
  #skipped(size: number): UnstampedDraft[] {
    const { reader, count } = this.#options;
    const oldest = reader.oldest();
    const overtaken = this.#position < oldest;
    const target = this.#lagIn(size) > LIMITS.inferLagEntriesMax ? size - 1 : oldest;
    if (target <= this.#position) return [];
    const [first] = reader.read(Math.max(this.#position, oldest), 1);
    const [last] = reader.read(target, 1);
    const [from, to] = [this.#position, target];
    this.#position = target;
    for (const queue of this.#queues) queue.windows.clear();
    count('infer.skipped', to - from);
    if (first === undefined || last === undefined) return [];
    return [gapDraft({
      reason: overtaken ? 'infer.pruned' : 'infer.lag', count: to - from, fromMicros: decodeEntry(first.bytes).wallMicros, toMicros: decodeEntry(last.bytes).wallMicros,
      detail: `entries ${from} to ${to - 1} were not judged by ${this.#queues.map((queue) => queue.judge.plan.name).join(', ')}`,
    })];
  }

  /** True when a model has a whole batch waiting. Most entries end at the peek. */
  #take({ index, bytes }: StoredEntry): boolean {
    const { kind, source } = peek(bytes);
    if (kind !== KIND.reading || !this.#queues.some((queue) => queue.mayWatch(source, bytes))) return false;
    const entry = decodeEntry(bytes);
    const reading = readingOf(index, entry);
    if (reading === undefined) {
      this.#options.count(isSealed(entry.body) ? 'infer.confidential' : 'infer.undecoded');
      return false;
    }
    for (const queue of this.#queues) if (queue.mayWatch(source, bytes)) queue.push(reading);
    return this.#queues.some((queue) => queue.full);
  }

  async #runFull(drafts: UnstampedDraft[]): Promise<void> {
    for (const queue of this.#queues) if (queue.full) await this.#run(queue, drafts);
  }

  /** A model that fails is out until the next start: what it was to judge is recorded as a gap. */
  async #run(queue: JudgeQueue, drafts: UnstampedDraft[]): Promise<void> {
    const { count, failed } = this.#options;
    try {
      const judged = await queue.run();
      drafts.push(...judged);
      count('infer.inferences', judged.length);
    } catch (cause) {
      const error = cause instanceof TenzroError ? cause : new TenzroError('model.run', `${queue.judge.plan.name}: ${messageOf(cause)}`, { cause });
      this.#queues = this.#queues.filter((other) => other !== queue);
      const lost = queue.waiting;
      drafts.push(gapDraft({ reason: error.code, count: lost.length, detail: `${error.message}; judged no more from entry ${lost[0]?.inputs[0] ?? this.#position} on` }));
      failed(queue.judge.plan.name, error);
    }
  }

  async #flush(drafts: UnstampedDraft[]): Promise<void> {
    for (const queue of this.#queues) if (queue.waiting.length > 0) await this.#run(queue, drafts);
    for (const queue of this.#queues) queue.expire();
    const cursor = this.#queues.reduce((first, queue) => Math.min(first, queue.windows.firstNeeded() ?? first), this.#position);
    if (drafts.length === 0 && cursor - this.#stored < CURSOR_EVERY_ENTRIES) return;
    await this.#options.commit({ drafts, cursor });
    this.#stored = cursor;
  }
}
