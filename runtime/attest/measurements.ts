/**
 * Records what the machine measured, and which software this is, as entries that blocks name (`Support`): the TCG event log, IMA's list in chunks,
 * the software measurement. What an earlier run recorded, is the same and still stored, is named again and not written again.
 * MUST NOT be refreshed twice at once. A log that cannot be read becomes an entry that says why; it never holds up a block.
 */
import type { Clock } from '#runtime/core/clock.ts';
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { Counters, Log } from '#runtime/core/ports.ts';
import type { Cbor, Maybe, Measurement } from '#runtime/core/types.ts';
import { encodeCbor } from '#runtime/crypto/cbor.ts';
import { differingBootPcrs, parseEventLog } from '#runtime/crypto/eventLog.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import type { Support } from '#runtime/ledger/block.ts';
import { decodeEntry } from '#runtime/ledger/entry.ts';
import { decodeMeasurement, encodeMeasurement, type Component, type MeasurementBody } from '#runtime/ledger/measurement.ts';
import { ImaRecorder, type ImaBeginning } from './imaRecorder.ts';

export interface MeasurementsOptions {
  /** The TCG event log of this boot. */
  readonly readBootLog: () => Promise<Maybe<Uint8Array>>;
  /** SHA-256 PCRs 0 to 7 as they are now; `none` without a TPM. */
  readonly readBootPcrs: () => Promise<Maybe<ReadonlyMap<number, Uint8Array>>>;
  /** IMA's list from byte `from` on. */
  readonly readImaLog: (from: number) => Promise<Maybe<Uint8Array>>;
  /** What runs now: asked at each refresh, so that a change is recorded. */
  readonly software: () => { readonly digest: Uint8Array; readonly components: readonly Component[] };
  /** Appends an entry of kind `measurement`; resolves with its index when flushed. */
  readonly append: (body: Cbor) => Promise<number>;
  /** Exact leaf bytes of a stored entry; may throw `ledger.pruned`. */
  readonly entry: (index: number) => Uint8Array;
  /** Index of the oldest entry still stored. */
  readonly oldest: () => number;
  /** What the chain's last block names: where an earlier run left off. */
  readonly previous: Support | undefined;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
}

type Measured = Pick<Support, 'bootLog' | 'imaLog' | 'software'>;

interface Recorded {
  readonly index: number;
  readonly body: MeasurementBody;
}

export class Measurements {
  readonly #options: MeasurementsOptions;
  readonly #ima: ImaRecorder;
  readonly #last = new Map<Measurement, Recorded>();
  /** Read once: firmware adds nothing after the system has started. */
  #bootLog: MeasurementBody | undefined;

  constructor(options: MeasurementsOptions) {
    this.#options = options;
    const { readImaLog, previous = {} } = options;
    for (const index of [previous.bootLog, previous.imaLog?.[0], previous.software]) {
      const body = index === undefined ? undefined : this.#stored(index);
      if (index !== undefined && body && !isChunk(body)) this.#last.set(body.what, { index, body });
    }
    this.#ima = new ImaRecorder({ ...options, read: (from) => this.#attempt(() => readImaLog(from)), append: (body) => this.#append(body) }, this.#beginning(previous.imaLog ?? []));
  }

  /** Places for the next block's `support`. */
  get support(): Measured {
    const index = (what: Measurement): number | undefined => this.#last.get(what)?.index;
    const [bootLog, reason, software] = [index('tcg'), index('ima'), index('software')];
    const imaLog = this.#ima.indices.length > 0 || reason === undefined ? this.#ima.indices : [reason];
    return { ...(bootLog === undefined ? {} : { bootLog }), ...(imaLog.length === 0 ? {} : { imaLog }), ...(software === undefined ? {} : { software }) };
  }

  /** Records what is new: before a boot's first block, and before later ones. Rejects with `ledger.*` where nothing can be appended. */
  async refresh(): Promise<Measured> {
    this.#bootLog ??= await this.#readBootLog();
    await this.#keep(this.#bootLog);
    const absence = await this.#ima.refresh();
    if (absence !== undefined && this.#ima.indices.length === 0) await this.#keep({ what: 'ima', reason: absence });
    await this.#keep({ what: 'software', ...this.#options.software() });
    return this.support;
  }

  /** Some firmware writes logs that do not fit what it measured: such a log would only refute every proof, so that its fault is recorded instead. */
  async #readBootLog(): Promise<MeasurementBody> {
    const log = await this.#attempt(this.#options.readBootLog);
    if (log.kind === 'none') return { what: 'tcg', reason: log.reason };
    const pcrs = await this.#attempt(this.#options.readBootPcrs);
    const fault = pcrs.kind === 'none' ? undefined : bootLogFault(log.value, pcrs.value);
    return fault === undefined ? { what: 'tcg', log: log.value, digest: sha256(log.value) } : { what: 'tcg', reason: fault };
  }

  /** The entry that says this: the last one where it is the same and still stored. */
  async #keep(body: MeasurementBody): Promise<void> {
    const last = this.#last.get(body.what);
    if (last && last.index >= this.#options.oldest() && isSame(last.body, body)) return;
    this.#last.set(body.what, { index: await this.#append(body), body });
  }

  async #append(body: MeasurementBody): Promise<number> {
    const index = await this.#options.append(encodeMeasurement(body));
    this.#options.counters.add(`attest.measured.${body.what}`);
    return index;
  }

  async #attempt<T>(read: () => Promise<Maybe<T>>): Promise<Maybe<T>> {
    try {
      return await read();
    } catch (error) {
      if (!(error instanceof TenzroError)) throw error;
      this.#options.counters.add(`attest.error.${error.code}`);
      this.#options.log.warn({ code: error.code, hint: error.hint }, error.message);
      return { kind: 'none', reason: error.message };
    }
  }

  /** The measurement at that place, where it is stored and is one. */
  #stored(index: number): MeasurementBody | undefined {
    if (index < this.#options.oldest()) return undefined;
    try {
      return decodeMeasurement(decodeEntry(this.#options.entry(index)).body);
    } catch (error) {
      if (error instanceof TenzroError) return undefined;
      throw error;
    }
  }

  #beginning(indices: readonly number[]): ImaBeginning | undefined {
    let beginning: ImaBeginning = { indices: [], sizeBytes: 0, digest: sha256(new Uint8Array(0)) };
    for (const index of indices) {
      const body = this.#stored(index);
      if (!body || !isChunk(body) || body.offset !== beginning.sizeBytes) return undefined;
      beginning = { indices: [...beginning.indices, index], sizeBytes: body.offset + body.log.length, digest: body.digest };
    }
    return indices.length === 0 ? undefined : beginning;
  }
}

function bootLogFault(bytes: Uint8Array, pcrs: ReadonlyMap<number, Uint8Array>): string | undefined {
  const log = parseEventLog(bytes);
  if (log.fault) return `the firmware's boot event log does not parse: ${log.fault.message}`;
  const strange = log.bank === 'sha256' ? differingBootPcrs(log, pcrs) : [];
  return strange.length === 0 ? undefined : `the firmware's boot event log does not replay to what it measured: PCR ${strange.join(', ')} differ`;
}

const isChunk = (body: MeasurementBody): body is Extract<MeasurementBody, { readonly offset: number }> => body.what === 'ima' && 'offset' in body;

const isSame = (a: MeasurementBody, b: MeasurementBody): boolean => equalBytes(encodeCbor(encodeMeasurement(a)), encodeCbor(encodeMeasurement(b)));
