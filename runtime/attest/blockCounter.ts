/**
 * The NV counter of the sealer: when it is due, whether it is still the chain's own, and what it says. A counter that the TPM refuses, or that is
 * another than the chain began with, costs the block its counter and not its quote; it is said, counted, and tried again when next due.
 */
import { equalBytes } from '#runtime/core/bytes.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { Anchor, BlockStore, Counters, Log } from '#runtime/core/ports.ts';
import type { Maybe } from '#runtime/core/types.ts';
import { parseNvPublic } from '#runtime/crypto/tpmEvidence.ts';
import { readCounter, type CounterStatement } from '#runtime/ledger/anchors.ts';
import type { AnchorMark } from '#runtime/ledger/block.ts';
import { decodeEvidence } from '#runtime/ledger/evidence.ts';

export interface BlockCounterOptions {
  readonly store: Pick<BlockStore, 'evidence'>;
  readonly anchorIntervalMs: number;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
}

const REFUSALS: ReadonlySet<string> = new Set(['tpm.refused', 'tpm.unsupported', 'attest.foreign_counter']);

export class BlockCounter {
  readonly #options: BlockCounterOptions;
  #countedMicros: number | undefined;
  /** Name of the chain's counter: that of its last anchor, and so of its first. */
  #name: Uint8Array | undefined;

  constructor(options: BlockCounterOptions) { this.#options = options; }

  /** The first block of a run, and one every `anchorIntervalMs`. */
  get isDue(): boolean {
    const { clock, anchorIntervalMs } = this.#options;
    return this.#countedMicros === undefined || clock.monoMicros() - this.#countedMicros >= anchorIntervalMs * 1_000;
  }

  /** Another block has to be the anchor that was due. */
  postpone(): void { this.#countedMicros = undefined; }

  /** The counter's word on `hash`; none, with the reason, where the TPM refuses it. `mark`: the chain's last anchor. Rejects with other `tpm.*`. */
  async certify(anchor: Anchor, hash: Uint8Array, mark: AnchorMark | undefined, signal: AbortSignal): Promise<Maybe<CounterStatement>> {
    const { clock, counters, log } = this.#options;
    this.#countedMicros = clock.monoMicros();
    try {
      const statement = await anchor.counter(hash, signal);
      if (!mark) return { kind: 'value', value: statement };
      this.#name ??= await this.#nameAt(mark.sequence);
      if (checkOwn(statement, mark, this.#name) > mark.counter) return { kind: 'value', value: statement };
      await anchor.increment(signal); // the last anchor's own was lost: a kill or an error came between
      const again = await anchor.counter(hash, signal);
      if (checkOwn(again, mark, this.#name) > mark.counter) return { kind: 'value', value: again };
      throw new TenzroError('tpm.statement', `the NV counter still says ${mark.counter} after an increment that the TPM is said to have made`);
    } catch (error) {
      if (!(error instanceof TenzroError) || !REFUSALS.has(error.code)) throw error;
      counters.add(`attest.error.${error.code}`);
      log.warn({ code: error.code, hint: error.hint }, `no NV counter: ${error.message}`);
      return { kind: 'none', reason: `${error.code}: ${error.message}` };
    }
  }

  async #nameAt(sequence: number): Promise<Uint8Array> {
    const evidence = decodeEvidence(await this.#options.store.evidence(sequence));
    if (evidence.kind === 'none' || !evidence.counter) throw new TenzroError('ledger.corrupt', `block ${sequence} is named as the last anchor and has no counter`);
    return parseNvPublic(evidence.counter.nvPublic).name;
  }
}

/** The value. Throws `attest.foreign_counter`: deleted and defined with other attributes, or gone back, as no counter does. */
function checkOwn(statement: CounterStatement, mark: AnchorMark, pinned: Uint8Array): bigint {
  const { name, value } = readCounter(statement);
  if (!equalBytes(name, pinned) || !equalBytes(parseNvPublic(statement.nvPublic).name, pinned)) throw new TenzroError('attest.foreign_counter', `the NV index has other attributes than at block ${mark.sequence}: it was deleted and defined anew`);
  if (value < mark.counter) throw new TenzroError('attest.foreign_counter', `the NV counter says ${value}, and said ${mark.counter} at block ${mark.sequence}: this is an older state of the TPM`);
  return value;
}
