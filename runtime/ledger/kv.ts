/**
 * A small durable map of its own, beside the chain: the front door keeps sessions and retained messages in it. Writes wait in memory, are grouped into one
 * transaction at a time, and are tried again while the disk is full; `flushed` is the only promise about the disk. INVARIANT: one transaction is under way at most.
 */
import { existsSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { asBuffer } from '#runtime/core/bytes.ts';
import { TenzroError, messageOf, type ErrorCode } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import { checkDataFile } from './dataFile.ts';
import { makeFolder } from './folder.ts';
import { loadLmdb } from './lmdb.ts';
import { Space } from './space.ts';

type Database = import('lmdb').RootDatabase<Uint8Array, Buffer>;

/** Told when writing stops for want of space or with an error, when it goes on, and when a damaged map was set aside. MUST NOT throw. */
export type OnKeyValueState = (state: 'ok' | ErrorCode, detail: string) => void;

/**
 * Opens (and creates) the map in `dir`; a damaged one is moved to `<dir>.damaged`, or, with `keep`, left where it is and refused with `ledger.corrupt`.
 * Throws `ledger.io` and `ledger.newer_version`.
 */
export async function openKeyValueStore(dir: string, onState: OnKeyValueState = () => undefined, damaged: 'setAside' | 'keep' = 'setAside'): Promise<KeyValueStore> {
  try {
    return await openMap(dir, onState);
  } catch (cause) {
    if (!(cause instanceof TenzroError) || cause.code !== 'ledger.corrupt' || damaged === 'keep') throw cause;
    const aside = `${dir}.damaged`;
    rmSync(aside, { recursive: true, force: true });
    renameSync(dir, aside);
    onState('ledger.corrupt', `the map in ${dir} was damaged and set aside as ${aside}: ${cause.message}`);
    return openMap(dir, onState);
  }
}

async function openMap(dir: string, onState: OnKeyValueState): Promise<KeyValueStore> {
  const { open } = await loadLmdb();
  const file = join(dir, 'data.mdb');
  if (existsSync(file) && statSync(file).size > 0) checkDataFile(file);
  try {
    makeFolder(dir);
    // Without overlapping, a transaction that is committed is flushed. Batching by event turn begins each batch with a promise that nobody holds: a full
    // disk would reject it unheard, and end the process. What is written in one turn is one transaction without it too.
    const db = open<Uint8Array, Buffer>({ path: dir, encoding: 'binary', keyEncoding: 'binary', overlappingSync: false, eventTurnBatching: false });
    return new LmdbMap(db, new Space(file), onState);
  } catch (cause) {
    throw new TenzroError('ledger.io', `cannot open ${dir}: ${messageOf(cause)}`, { cause });
  }
}

class LmdbMap implements KeyValueStore {
  readonly #db: Database;
  readonly #space: Space;
  readonly #onState: OnKeyValueState;
  /** Undefined for what is to be removed. */
  #waiting = new Map<string, Uint8Array | undefined>();
  #flushes: PromiseWithResolvers<void>[] = [];
  #pump: Promise<void> | undefined;
  #state: 'ok' | ErrorCode = 'ok';
  readonly #closing = new AbortController();

  constructor(db: Database, space: Space, onState: OnKeyValueState) {
    this.#db = db;
    this.#space = space;
    this.#onState = onState;
  }

  put(key: string, value: Uint8Array): void {
    this.#waiting.set(key, value);
    this.#wake();
  }

  remove(key: string): void {
    // while nothing can be written, what never was must not leave a trace for each message that came and went
    if (this.#state !== 'ok' && !this.#db.doesExist(Buffer.from(key))) this.#waiting.delete(key);
    else this.#waiting.set(key, undefined);
    this.#wake();
  }

  *range(prefix: string): Iterable<{ key: string; value: Uint8Array }> {
    const start = Buffer.from(prefix);
    for (const { key, value } of this.#db.getRange({ start })) {
      if (Buffer.compare(key.subarray(0, start.length), start) !== 0) return;
      yield { key: key.toString(), value };
    }
  }

  flushed(): Promise<void> {
    if (this.#waiting.size === 0 && this.#pump === undefined) return Promise.resolve();
    const flush = Promise.withResolvers<void>();
    this.#flushes.push(flush);
    this.#wake();
    return flush.promise;
  }

  /** What does not fit at the last try is lost, and whoever waits for it is told. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#pump;
    await this.#db.close();
  }

  /** A turn later: what belongs together is written together. */
  #wake(): void {
    this.#pump ??= new Promise((resolve) => { setImmediate(resolve); }).then(() => this.#writeAll());
  }

  async #writeAll(): Promise<void> {
    let retryMs: number = LIMITS.writeRetryMs;
    while (this.#waiting.size > 0 || this.#flushes.length > 0) {
      const failure = await this.#writeOnce();
      if (failure === undefined) {
        retryMs = LIMITS.writeRetryMs;
        continue;
      }
      if (this.#closing.signal.aborted) break;
      await delay(retryMs * (0.75 + Math.random() / 2), undefined, { signal: this.#closing.signal }).catch(() => undefined); // closing: one last try
      retryMs = Math.min(retryMs * 2, LIMITS.writeRetryMaxMs);
    }
    this.#pump = undefined;
  }

  /** Whoever waits for space goes on waiting; any other error is theirs. */
  async #writeOnce(): Promise<TenzroError | undefined> {
    const [batch, flushes] = [this.#waiting, this.#flushes];
    this.#waiting = new Map();
    this.#flushes = [];
    const failure = await this.#transaction(batch);
    if ((failure?.code ?? 'ok') !== this.#state) {
      this.#state = failure?.code ?? 'ok';
      this.#onState(this.#state, failure?.message ?? '');
    }
    if (failure === undefined) {
      for (const { resolve } of flushes) resolve();
      return undefined;
    }
    for (const [key, value] of batch) if (!this.#waiting.has(key)) this.#waiting.set(key, value);
    if (failure.code === 'ledger.disk_full' && !this.#closing.signal.aborted) this.#flushes.unshift(...flushes);
    else for (const { reject } of flushes) reject(failure);
    return failure;
  }

  async #transaction(batch: ReadonlyMap<string, Uint8Array | undefined>): Promise<TenzroError | undefined> {
    let bytes = 0;
    for (const [key, value] of batch) bytes += key.length + (value?.length ?? 0);
    try {
      if (this.#space.isShortOf(bytes)) return new TenzroError('ledger.disk_full', `no space for ${bytes} bytes`);
      this.#space.keepHeadroom(() => this.#db.getStats(), bytes);
      // lmdb makes one transaction of what comes in one turn
      await Promise.all(Array.from(batch, ([key, value]) => (value === undefined ? this.#db.remove(Buffer.from(key)) : this.#db.put(Buffer.from(key), asBuffer(value)))));
      return undefined;
    } catch (cause) {
      // lmdb's error carries a second promise, which rejects on its own
      if (cause instanceof Error && 'commitError' in cause) await Promise.resolve(cause.commitError).catch(() => undefined);
      return new TenzroError(this.#space.isShortOf(bytes) ? 'ledger.disk_full' : 'ledger.io', `a write failed: ${messageOf(cause)}`, { cause });
    }
  }
}
