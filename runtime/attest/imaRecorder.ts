/**
 * IMA's list as entries: chunks that together are its beginning, byte for byte. It grows with every new file that runs, most of all while the machine
 * boots, so that growth is recorded at once a few times and then once per interval: a list that never rests must not wear out the card. What is not
 * recorded yet shows in a verifier's report (`ima.log`).
 */
import { createHash, type Hash } from 'node:crypto';
import { equalBytes } from '#runtime/core/bytes.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Maybe } from '#runtime/core/types.ts';
import { IMA_CHUNKS_MAX } from '#runtime/ledger/block.ts';
import type { MeasurementBody } from '#runtime/ledger/measurement.ts';

export interface ImaRecorderOptions {
  /** IMA's list from byte `from` on. */
  readonly read: (from: number) => Promise<Maybe<Uint8Array>>;
  /** Resolves with the index when flushed. */
  readonly append: (body: MeasurementBody) => Promise<number>;
  /** Index of the oldest entry still stored. */
  readonly oldest: () => number;
  readonly clock: Clock;
}

/** Chunks that an earlier run recorded: their places, and size and SHA-256 of what they hold together. */
export interface ImaBeginning {
  readonly indices: readonly number[];
  readonly sizeBytes: number;
  readonly digest: Uint8Array;
}

export class ImaRecorder {
  readonly #options: ImaRecorderOptions;
  #earlier: ImaBeginning | undefined;
  #indices: readonly number[] = [];
  #sizeBytes = 0;
  /** Over what is recorded. */
  #hash: Hash = createHash('sha256');
  #credit: number = LIMITS.imaBurstMax;
  #creditMicros: number;

  constructor(options: ImaRecorderOptions, earlier: ImaBeginning | undefined) {
    this.#options = options;
    this.#earlier = earlier;
    this.#creditMicros = options.clock.monoMicros();
  }

  /** Places of the chunks, in order; none before the first `refresh` and where there is no list. */
  get indices(): readonly number[] { return this.#indices; }

  /** Records what is new, as far as the interval allows. Returns why there is no list. */
  async refresh(): Promise<string | undefined> {
    const isWhole = this.#earlier !== undefined || this.#indices.length === 0 || this.#isPruned(this.#indices);
    const read = await this.#options.read(isWhole ? 0 : this.#sizeBytes);
    if (read.kind === 'none') return read.reason;
    const grown = isWhole ? this.#begin(read.value) : read.value;
    if (grown.length > 0 && this.#takeCredit()) await this.#record(grown);
    return undefined;
  }

  #isPruned(indices: readonly number[]): boolean { return indices.some((index) => index < this.#options.oldest()); }

  /** What of the whole list is not recorded yet. The list of another boot is another list. */
  #begin(whole: Uint8Array): Uint8Array {
    const earlier = this.#earlier;
    this.#earlier = undefined;
    this.#forget();
    if (!earlier || earlier.sizeBytes > whole.length) return whole;
    const hash = createHash('sha256').update(whole.subarray(0, earlier.sizeBytes));
    if (!equalBytes(hash.copy().digest(), earlier.digest) || this.#isPruned(earlier.indices)) return whole;
    [this.#indices, this.#sizeBytes, this.#hash] = [earlier.indices, earlier.sizeBytes, hash];
    return whole.subarray(earlier.sizeBytes);
  }

  #forget(): void {
    [this.#indices, this.#sizeBytes, this.#hash] = [[], 0, createHash('sha256')];
  }

  async #record(grown: Uint8Array): Promise<void> {
    const chunks = Math.ceil(grown.length / LIMITS.imaChunkBytesMax);
    if (this.#indices.length + chunks > IMA_CHUNKS_MAX) return this.#compact();
    for (let at = 0; at < grown.length; at += LIMITS.imaChunkBytesMax) await this.#append(grown.subarray(at, at + LIMITS.imaChunkBytesMax));
  }

  /** Too many small chunks: the whole list again, in few large ones. */
  async #compact(): Promise<void> {
    const whole = await this.#options.read(0);
    if (whole.kind === 'none') return;
    this.#forget();
    await this.#record(whole.value);
  }

  async #append(log: Uint8Array): Promise<void> {
    const hash = this.#hash.copy().update(log);
    const index = await this.#options.append({ what: 'ima', log, offset: this.#sizeBytes, digest: hash.copy().digest() });
    [this.#indices, this.#sizeBytes, this.#hash] = [[...this.#indices, index], this.#sizeBytes + log.length, hash];
  }

  #takeCredit(): boolean {
    const { imaBurstMax, imaIntervalMs } = LIMITS;
    const now = this.#options.clock.monoMicros();
    const earned = Math.floor((now - this.#creditMicros) / (imaIntervalMs * 1_000));
    this.#creditMicros += earned * imaIntervalMs * 1_000;
    this.#credit = Math.min(imaBurstMax, this.#credit + earned);
    if (this.#credit === 0) return false;
    this.#credit -= 1;
    return true;
  }
}
