/**
 * Turns batches into commits: decodes, encodes, hashes, grows the tree. Lives in the writer thread and touches no disk: what it returns is written in one
 * transaction, again and again until that succeeds. INVARIANT: commits are written in the order they were made, and none is left out.
 */
import { TenzroError, invariant, messageOf, type ErrorCode } from '#runtime/core/errors.ts';
import { u64be } from '#runtime/core/bytes.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { DecodeOutcome, Decoder, InboundRecord } from '#runtime/core/ports.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { BOOT_BODY, CLOCK_STEP_BODY, EPOCH_BODY, GAP_BODY, KIND, type Cbor, type Draft } from '#runtime/core/types.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { readBatch, type Answer, type BatchVisitor, type Operation } from './batch.ts';
import { writeEntryHead } from './entry.ts';
import { blockKey, cursorKey, encodeBlockRecord, encodeState, findingBody, PENDING_KEY, readU64, segmentKey, STATE_KEY, tileKey, type ChainState, type Change } from './layout.ts';
import type { OpenChain } from './openChain.ts';
import type { PruneStep, Unreceipted } from './retention.ts';
import { SegmentBuilder } from './segment.ts';
import { TileTree } from './tiles.ts';

/** What became of a batch's messages, by number. */
/** `alarms` and `confidential` are among the recorded. */
export type BatchCounts = Record<'recorded' | 'alarms' | 'confidential' | 'rejected' | Extract<DecodeOutcome, { kind: 'skip' }>['reason'], number>;

export interface Reject {
  readonly code: ErrorCode;
  readonly detail: string;
  readonly topic: string;
}

export interface Commit {
  readonly changes: readonly Change[];
  /** Entries in the log when the changes are written. */
  readonly size: number;
  readonly answers: readonly Answer[];
  readonly counts: BatchCounts;
  /** The first few; `counts.rejected` has the number. */
  readonly rejects: readonly Reject[];
}

/** Both clocks of the main thread, in µs, read together. */
export interface Stamp {
  readonly wallMicros: number;
  readonly monoMicros: number;
}

export const clockStepBody = (expectedMicros: number, foundMicros: number, when: 'running' | 'start'): ReadonlyMap<number, Cbor> =>
  new Map<number, Cbor>([[CLOCK_STEP_BODY.expectedMicros, expectedMicros], [CLOCK_STEP_BODY.foundMicros, foundMicros], [CLOCK_STEP_BODY.when, when]]);

/** What not every controller will ever get more of than its hashes. Such entries are pruned in their turn: the newest names all that went since the last receipt. */
const prunedBody = ({ count, since, fromMicros, toMicros }: Unreceipted, oldest: number): ReadonlyMap<number, Cbor> => new Map<number, Cbor>([
  [GAP_BODY.reason, 'pruned before every uplink had its receipt'], [GAP_BODY.count, count], [GAP_BODY.fromMicros, fromMicros], [GAP_BODY.toMicros, toMicros], [GAP_BODY.detail, `entries ${since} to ${oldest - 1}`],
]);

const noCounts = (): BatchCounts => ({ recorded: 0, alarms: 0, confidential: 0, rejected: 0, unrecorded: 0, unchanged: 0, duplicate: 0, summarised: 0 });

export class Appender implements BatchVisitor {
  readonly #store: OpenChain['store'];
  readonly #tree: TileTree;
  readonly #decoder: Decoder;
  readonly #segment = new SegmentBuilder();
  readonly #cursors = new Map<string, number>();
  #state: ChainState;
  #segmentFirst: number;
  #changes: Change[] = [];
  #answers: Answer[] = [];
  #counts = noCounts();
  #rejects: Reject[] = [];
  #isStateDirty = false;
  #now: Stamp = { wallMicros: 0, monoMicros: 0 };

  constructor(chain: Pick<OpenChain, 'store' | 'tail'>, decoder: Decoder) {
    this.#store = chain.store;
    this.#decoder = decoder;
    this.#tree = chain.tail?.tree ?? new TileTree(() => { throw new TenzroError('ledger.corrupt', 'an empty tree has no stored tiles'); });
    this.#state = { bootEpoch: 0, isClean: true, oldest: 0, ...chain.tail?.state };
    this.#segmentFirst = this.#tree.size;
  }

  get state(): ChainState { return this.#state; }
  get size(): number { return this.#tree.size; }

  /** The first commit of a run: what was found, and that we are here. */
  boot({ tail, finding }: Pick<OpenChain, 'tail' | 'finding'>, version: string, { wallMicros, monoMicros }: Stamp): Commit {
    const lastStop = tail === undefined ? 'first' : tail.state.isClean ? 'clean' : 'unclean';
    const previousSize = this.#tree.size;
    this.#setState({ bootEpoch: this.#state.bootEpoch + 1, isClean: false });
    const stamp = { source: MAIN_ENTITY, wallMicros, monoMicros };
    if (finding) this.#append({ ...stamp, kind: KIND.epoch, body: findingBody(finding).set(EPOCH_BODY.quarantine, finding.quarantine) });
    if (tail && wallMicros < tail.lastWallMicros) {
      this.#append({ ...stamp, kind: KIND.clockStep, body: clockStepBody(tail.lastWallMicros, wallMicros, 'start') });
    }
    this.#append({ ...stamp, kind: KIND.boot, body: new Map<number, Cbor>([[BOOT_BODY.version, version], [BOOT_BODY.lastStop, lastStop], [BOOT_BODY.previousSize, previousSize]]) });
    return this.#finish();
  }

  /** `bytes` is read, not kept. `now` decides what time alone makes due. */
  apply(bytes: Buffer, wallOffsetMicros: number, now: Stamp): Commit {
    this.#now = now;
    readBatch(bytes, wallOffsetMicros, this);
    this.#appendDue(this.#decoder.due(now.wallMicros, now.monoMicros));
    return this.#finish();
  }

  /** The last commit of an orderly stop. */
  close(): Commit {
    this.#setState({ isClean: true });
    return this.#finish();
  }

  /** Drops segments; the caller has made sure that their tiles are stored and a block covers them. */
  prune({ segments, oldest, unreceipted }: PruneStep, stamp: Stamp): Commit {
    for (const key of segments) this.#changes.push({ db: 'segments', key });
    this.#setState({ oldest });
    if (unreceipted) this.#append({ ...stamp, source: MAIN_ENTITY, kind: KIND.gap, body: prunedBody(unreceipted, oldest) });
    return this.#finish();
  }

  /** The commit is on disk: its buffers may be used again. */
  written(): void { this.#segment.release(); }

  message(record: InboundRecord): void {
    const outcome = this.#decode(record);
    if (outcome.kind === 'skip') this.#counts[outcome.reason]++;
    else if (outcome.kind === 'reject') this.#reject(outcome, record.topic);
    else {
      const { wallMicros, monoMicros } = record;
      const keyEpoch = outcome.confidential?.keyEpoch;
      if (keyEpoch) this.#append(keyEpoch);
      const refusal = this.#tryAppend({ kind: outcome.entryKind, source: outcome.source, wallMicros, monoMicros, body: outcome.body });
      if (refusal) this.#reject(refusal, record.topic);
      else {
        this.#counts.recorded++;
        if (outcome.entryKind === KIND.alarm) this.#counts.alarms++;
        if (outcome.confidential) this.#counts.confidential++;
      }
    }
  }

  /** A decoder that throws is a defect; the message that shows it must not stop the writer, nor come back for ever. */
  #decode(record: InboundRecord): DecodeOutcome {
    try {
      return this.#decoder.decode(record);
    } catch (error) {
      return { kind: 'reject', code: 'core.invariant', detail: messageOf(error) };
    }
  }

  #reject({ code, detail }: { readonly code: ErrorCode; readonly detail: string }, topic: string): void {
    this.#counts.rejected++;
    if (this.#rejects.length < LIMITS.rejectsToldPerBatchMax) this.#rejects.push({ code, detail, topic });
  }

  operation(operation: Operation): void {
    switch (operation.op) {
      case 'draft': this.#answers.push(this.#append(operation.draft)); break;
      case 'cursor': this.#setCursor(operation.name, operation.index); break;
      case 'learn': this.#decoder.learn(operation.topic, operation.payload); break;
      case 'head': this.#answers.push({ size: this.#tree.size, root: this.#tree.root() }); break;
      case 'drain': {
        this.#appendDue(this.#decoder.drain(this.#now.wallMicros, this.#now.monoMicros));
        this.#answers.push(null);
        break;
      }
      case 'pending': this.#changes.push({ db: 'pending', key: PENDING_KEY, value: operation.payload }); this.#answers.push(null); break;
      case 'block': {
        const { sequence, pcrAfter, resetCount } = operation.block;
        this.#changes.push({ db: 'blocks', key: blockKey(sequence), value: encodeBlockRecord(operation.block) }, { db: 'pending', key: PENDING_KEY });
        this.#setState({ lastBlock: { sequence, ...(pcrAfter ? { pcrAfter } : {}), ...(resetCount === undefined ? {} : { resetCount }) } });
        this.#answers.push(null);
      }
    }
  }

  /** An entry of the decoder's own that does not fit is a defect: told, not recorded, and no reason to stop. */
  #appendDue(drafts: readonly Draft[]): void {
    for (const draft of drafts) {
      const refusal = this.#tryAppend(draft);
      if (refusal) this.#reject(refusal, draft.source);
    }
  }

  /** Cursors never go back. */
  #setCursor(name: string, index: number): void {
    const key = cursorKey(name);
    const stored = this.#cursors.get(name) ?? readU64(this.#store.get('cursors', key) ?? u64be(0));
    if (index <= stored) return;
    this.#cursors.set(name, index);
    this.#changes.push({ db: 'cursors', key, value: u64be(index) });
  }

  #setState(change: Partial<ChainState>): void {
    this.#state = { ...this.#state, ...change };
    this.#isStateDirty = true;
  }

  #append(draft: Draft): number {
    const refusal = this.#tryAppend(draft);
    invariant(refusal === undefined, refusal?.detail ?? '');
    return this.#tree.size - 1;
  }

  /** Undefined when the entry was taken. */
  #tryAppend(draft: Draft): { readonly code: ErrorCode; readonly detail: string } | undefined {
    const writer = this.#segment.begin();
    const start = writer.length;
    try {
      invariant(Number.isSafeInteger(draft.wallMicros) && Number.isSafeInteger(draft.monoMicros), 'times are integers');
      writeEntryHead(writer, draft, this.#state.bootEpoch);
      writer.value(draft.body);
    } catch (error) {
      this.#segment.undo();
      return { code: 'core.invariant', detail: messageOf(error) };
    }
    const size = writer.length - start;
    if (size > LIMITS.entryBytesMax) {
      this.#segment.undo();
      return { code: 'entry.too_large', detail: `${size} bytes, at most ${LIMITS.entryBytesMax}` };
    }
    this.#tree.append(sha256(this.#segment.end()));
    if (this.#segment.isFull) this.#closeSegment();
    return undefined;
  }

  #closeSegment(): void {
    this.#changes.push({ db: 'segments', key: segmentKey(this.#segmentFirst), value: this.#segment.take() });
    this.#segmentFirst = this.#tree.size;
  }

  #finish(): Commit {
    if (this.#segment.count > 0) this.#closeSegment();
    for (const { level, index, hashes } of this.#tree.takeDirty()) this.#changes.push({ db: 'tiles', key: tileKey(level, index), value: hashes });
    if (this.#isStateDirty) this.#changes.push({ db: 'meta', key: STATE_KEY, value: encodeState(this.#state) });
    const commit = { changes: this.#changes, size: this.#tree.size, answers: this.#answers, counts: this.#counts, rejects: this.#rejects };
    [this.#changes, this.#answers, this.#counts, this.#rejects, this.#isStateDirty] = [[], [], noCounts(), [], false];
    return commit;
  }
}
