/**
 * A small durable map of its own, beside the chain: the front door keeps sessions and retained messages in it. Puts are grouped into
 * transactions by LMDB; `flushed` is the only promise about the disk.
 */
import { mkdirSync } from 'node:fs';
import { asBuffer } from '#runtime/core/bytes.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import { loadLmdb } from './lmdb.ts';

/** Opens (and creates) the map in `dir`. Throws `ledger.io` when LMDB cannot. */
export async function openKeyValueStore(dir: string): Promise<KeyValueStore> {
  const { open } = await loadLmdb();
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    return new LmdbMap(open<Uint8Array, Buffer>({ path: dir, encoding: 'binary', keyEncoding: 'binary' }));
  } catch (cause) {
    throw new TenzroError('ledger.io', `cannot open ${dir}: ${messageOf(cause)}`, { cause });
  }
}

type Database = import('lmdb').RootDatabase<Uint8Array, Buffer>;

class LmdbMap implements KeyValueStore {
  readonly #db: Database;
  /** The first write that failed since the last `flushed`. */
  #failure: unknown;

  constructor(db: Database) { this.#db = db; }

  get(key: string): Uint8Array | undefined { return this.#db.get(Buffer.from(key)); }

  put(key: string, value: Uint8Array): void {
    this.#db.put(Buffer.from(key), asBuffer(value)).catch((cause: unknown) => { this.#failure ??= cause; });
  }

  remove(key: string): void {
    this.#db.remove(Buffer.from(key)).catch((cause: unknown) => { this.#failure ??= cause; });
  }

  *range(prefix: string): Iterable<{ key: string; value: Uint8Array }> {
    const start = Buffer.from(prefix);
    for (const { key, value } of this.#db.getRange({ start })) {
      if (Buffer.compare(key.subarray(0, start.length), start) !== 0) return;
      yield { key: key.toString(), value };
    }
  }

  async flushed(): Promise<void> {
    await this.#db.flushed;
    const cause = this.#failure;
    this.#failure = undefined;
    if (cause !== undefined) throw new TenzroError('ledger.io', `a write failed: ${messageOf(cause)}`, { cause });
  }

  async [Symbol.asyncDispose](): Promise<void> { await this.#db.close(); }
}
