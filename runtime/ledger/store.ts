/**
 * The LMDB environment of one chain: named databases of bytes, flushed transactions, reads that copy.
 *
 * Within one process lmdb shares one environment per file: whoever opens it first decides whether it can write. So the writer opens first, and
 * readers of that process open after it said that it is ready. Other processes may read at any time.
 */
import { join } from 'node:path';
import { asBuffer } from '#runtime/core/bytes.ts';
import { TenzroError, messageOf, type ErrorCode } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { CHAIN_FILE, DATABASES, type Change, type DbName } from './layout.ts';
import { loadLmdb } from './lmdb.ts';
import { Space } from './space.ts';

type Lmdb = typeof import('lmdb');
type Root = import('lmdb').RootDatabase<Uint8Array, Uint8Array>;
type Db = import('lmdb').Database<Uint8Array, Uint8Array>;

export interface Pair {
  readonly key: Buffer;
  readonly value: Buffer;
}

export interface StoreOptions {
  readonly mode: 'read' | 'write';
  /** Address space for the file: the most it can grow to. */
  readonly mapBytes?: number;
}

/** LMDB's codes (lmdb.h, "Return Codes") for a file that contradicts itself: PAGE_NOTFOUND, CORRUPTED, INVALID, INCOMPATIBLE, BAD_VALSIZE, BAD_DBI. */
const DAMAGE: ReadonlySet<unknown> = new Set([-30_797, -30_796, -30_793, -30_784, -30_781, -30_780]);
const EIO = 5;
/** errno(3) EIO and EROFS, and MDB_PANIC: the end of the writer. */
const BROKEN: ReadonlySet<unknown> = new Set([EIO, 30, -30_795, 'EIO', 'EROFS']);
const FORBIDDEN: ReadonlySet<unknown> = new Set([1, 13, 'EPERM', 'EACCES']);
const FULL: ReadonlySet<unknown> = new Set([28, 'ENOSPC']);
const ABSENT: ReadonlySet<unknown> = new Set([2, 'ENOENT']);

export class Store implements AsyncDisposable {
  readonly #root: Root;
  readonly #dbs: ReadonlyMap<DbName, Db>;
  readonly #space: Space;

  private constructor(root: Root, dbs: ReadonlyMap<DbName, Db>, dataFile: string) {
    this.#root = root;
    this.#dbs = dbs;
    this.#space = new Space(dataFile);
  }

  /** Opens the environment in directory `path`. Throws `ledger.permission`, `ledger.io`, `ledger.disk_full` or `ledger.corrupt`. */
  static async open(path: string, { mode, mapBytes = LIMITS.mapBytes }: StoreOptions): Promise<Store> {
    const lmdb: Lmdb = await loadLmdb();
    const encoding = { encoding: 'binary', keyEncoding: 'binary' } as const;
    try {
      const root = lmdb.open<Uint8Array, Uint8Array>({
        path, ...encoding, mapSize: mapBytes, maxDbs: DATABASES.length + 1, overlappingSync: false, readOnly: mode === 'read',
      });
      const dbs = new Map<DbName, Db>();
      for (const name of DATABASES) {
        const db = root.openDB<Uint8Array, Uint8Array>(name, encoding) as Db | undefined;
        if (db) dbs.set(name, db);
      }
      return new Store(root, dbs, join(path, CHAIN_FILE.data));
    } catch (cause) {
      throw openError(path, cause);
    }
  }

  /** A copy; undefined where there is nothing. */
  get(db: DbName, key: Uint8Array): Buffer | undefined {
    try {
      const value = this.#dbs.get(db)?.getBinary(asBuffer(key));
      return value === undefined ? undefined : plain(value);
    } catch (cause) {
      throw readError(cause);
    }
  }

  /** The pair with the greatest key that is not after `key`. */
  floor(db: DbName, key: Uint8Array): Pair | undefined { return this.#first(db, { start: asBuffer(key), reverse: true, limit: 1 }); }

  last(db: DbName): Pair | undefined { return this.#first(db, { reverse: true, limit: 1 }); }

  lastKey(db: DbName): Buffer | undefined { return this.#keys(db, { reverse: true, limit: 1 })[0]; }

  firstKey(db: DbName): Buffer | undefined { return this.#keys(db, { limit: 1 })[0]; }

  #first(db: DbName, range: import('lmdb').RangeOptions): Pair | undefined {
    const [key] = this.#keys(db, range);
    const value = key && this.get(db, key);
    return key && value ? { key, value } : undefined;
  }

  /** At most `limit` keys from `start` on. */
  keys(db: DbName, start: Uint8Array, limit: number): Buffer[] { return this.#keys(db, { start: asBuffer(start), limit }); }

  #keys(db: DbName, range: import('lmdb').RangeOptions): Buffer[] {
    try {
      return Array.from(this.#dbs.get(db)?.getKeys(range) ?? [], (key) => Buffer.from(key));
    } catch (cause) {
      throw readError(cause);
    }
  }

  /** All pairs, in key order, read a few at a time: other work may go on between two of them. */
  *pairs(db: DbName): Generator<Pair> {
    let start: Uint8Array = Uint8Array.of(0);
    for (;;) {
      const keys = this.keys(db, start, 64);
      const last = keys.at(-1);
      for (const key of keys) {
        const value = this.get(db, key);
        if (value) yield { key, value };
      }
      if (last === undefined) return;
      start = Buffer.concat([last, Uint8Array.of(0)]);
    }
  }

  /**
   * One transaction: when it returns, all of it is on disk; when it throws, none of it is.
   * Throws `ledger.disk_full` for what may pass, `ledger.io` and `ledger.corrupt` for what may not.
   */
  write(changes: readonly Change[]): void {
    let bytes = 0;
    for (const { value } of changes) bytes += value?.length ?? 0;
    if (this.#space.isShortOf(bytes)) throw new TenzroError('ledger.disk_full', `no space for a transaction of ${bytes} bytes`);
    try {
      this.#space.keepHeadroom(() => this.#root.getStats(), bytes);
      this.#root.transactionSync(() => {
        for (const { db, key, value } of changes) {
          const target = this.#dbs.get(db);
          if (value === undefined) target?.removeSync(key);
          else target?.putSync(key, value);
        }
      });
    } catch (cause) {
      throw writeError(cause, this.#space.isShortOf(bytes));
    }
  }

  /** Bytes in pages that hold something; free pages, which LMDB uses again, are not counted. */
  usedBytes(): number {
    let pages = 0;
    let pageBytes = 0;
    for (const db of this.#dbs.values()) {
      const stats = db.getStats() as { pageSize: number; treeBranchPageCount: number; treeLeafPageCount: number; overflowPages: number };
      pages += stats.treeBranchPageCount + stats.treeLeafPageCount + stats.overflowPages;
      pageBytes = stats.pageSize;
    }
    return pages * pageBytes;
  }

  /** Reads see what was committed until now; without it, what was committed before this turn of the event loop. */
  refresh(): void { this.#root.resetReadTxn(); }

  async [Symbol.asyncDispose](): Promise<void> { await this.#root.close(); }
}

/** lmdb's large results carry a `length` of their own: a fresh view does not. */
const plain = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

const codeOf = (cause: unknown): unknown => (cause instanceof Error && 'code' in cause ? cause.code : undefined);

function openError(path: string, cause: unknown): TenzroError {
  const code = codeOf(cause);
  const [, ours] = OPEN_CODES.find(([codes]) => codes.has(code)) ?? [undefined, 'ledger.io'];
  return new TenzroError(ours, `cannot open ${path}: ${messageOf(cause)}`, { cause });
}
const OPEN_CODES: readonly (readonly [ReadonlySet<unknown>, ErrorCode])[] = [
  [FORBIDDEN, 'ledger.permission'], [FULL, 'ledger.disk_full'], [ABSENT, 'ledger.no_chain'], [DAMAGE, 'ledger.corrupt'],
];

function readError(cause: unknown): TenzroError {
  return new TenzroError(DAMAGE.has(codeOf(cause)) ? 'ledger.corrupt' : 'ledger.io', `cannot read: ${messageOf(cause)}`, { cause });
}

/** Everything that is neither damage nor a broken disk may pass: no space, no memory, a quota, a limit. */
function writeError(cause: unknown, isOutOfSpace: boolean): TenzroError {
  const code = codeOf(cause);
  const ours: ErrorCode = DAMAGE.has(code) ? 'ledger.corrupt' : BROKEN.has(code) && !(code === EIO && isOutOfSpace) ? 'ledger.io' : 'ledger.disk_full';
  return new TenzroError(ours, `cannot write: ${messageOf(cause)}`, { cause });
}
