/**
 * Looks at an LMDB data file before LMDB maps it: a map that is longer than its file ends the process with SIGBUS. Offsets are those of data format 2
 * on a 64-bit machine, lmdb-js 3.5 `mdb.c`: MDB_page_header (24 bytes), MDB_meta, MDB_db (48 bytes). Native byte order, which is little-endian.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';

/** `MDB_MAGIC`, `MDB_DATA_VERSION`. */
const MAGIC = 0xbeefc0de;
const DATA_VERSION = 2;
const AT = { magic: 24, version: 28, pageBytes: 48, freeRoot: 88, mainRoot: 136, lastPage: 144, transaction: 152 } as const;
const META_BYTES = 160;
/** `P_INVALID`: the root of an empty database. */
const NO_PAGE = 0xffff_ffff_ffff_ffffn;

interface Meta { readonly pageBytes: number; readonly lastPage: number; readonly transaction: bigint }

/** Throws `ledger.corrupt` unless both meta pages fit and the file is as long as the newer one says; `ledger.newer_version` for another format. */
export function checkDataFile(path: string): void {
  const file = openRead(path);
  try {
    const { size } = fstatSync(file);
    const first = readMeta(file, 0, size);
    const second = readMeta(file, first.pageBytes, size);
    if (second.pageBytes !== first.pageBytes) throw corrupt('the meta pages disagree on the page size');
    const newest = second.transaction > first.transaction ? second : first;
    const needed = (newest.lastPage + 1) * newest.pageBytes;
    const grown = fstatSync(file).size; // a living writer may have added pages since, and writes them before the meta page that counts them
    if (grown < needed) throw corrupt(`the file has ${grown} bytes, its last page ends at ${needed}: it was truncated`);
  } catch (cause) {
    if (cause instanceof TenzroError) throw cause;
    throw new TenzroError('ledger.io', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  } finally {
    closeSync(file);
  }
}

function openRead(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (cause) {
    throw new TenzroError(cause instanceof Error && 'code' in cause && cause.code === 'EACCES' ? 'ledger.permission' : 'ledger.io', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
}

function readMeta(file: number, position: number, fileBytes: number): Meta {
  const page = Buffer.alloc(META_BYTES);
  if (position + META_BYTES > fileBytes || readSync(file, page, 0, META_BYTES, position) < META_BYTES) throw corrupt(`no meta page at byte ${position}`);
  if (page.readUInt32LE(AT.magic) !== MAGIC) throw corrupt(`no LMDB magic at byte ${position + AT.magic}`);
  const version = page.readUInt32LE(AT.version) & 0xffff;
  if (version > DATA_VERSION) throw new TenzroError('ledger.newer_version', `LMDB data format ${version} is newer than ${DATA_VERSION}`);
  if (version < DATA_VERSION) throw corrupt(`LMDB data format ${version} is not ${DATA_VERSION}`);
  const pageBytes = page.readUInt32LE(AT.pageBytes);
  const lastPage = Number(page.readBigUInt64LE(AT.lastPage));
  if (pageBytes < 512 || pageBytes > 65_536 || !Number.isInteger(Math.log2(pageBytes))) throw corrupt(`a page size of ${pageBytes} at byte ${position + AT.pageBytes}`);
  for (const at of [AT.freeRoot, AT.mainRoot]) {
    const root = page.readBigUInt64LE(at);
    if (root !== NO_PAGE && root > BigInt(lastPage)) throw corrupt(`a root beyond the last page at byte ${position + at}`);
  }
  return { pageBytes, lastPage, transaction: page.readBigUInt64LE(AT.transaction) };
}

const corrupt = (why: string): TenzroError => new TenzroError('ledger.corrupt', `data file: ${why}`);
