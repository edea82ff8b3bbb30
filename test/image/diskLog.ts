/**
 * What a card would really hold after a power cut. QEMU's blklogwrites notes every write and every flush in the format of dm-log-writes (Linux, drivers/md/dm-log-writes.c); what was written since the last flush
 * may or may not have reached the card, each sector for itself, in no order.
 */
import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';

/** Of the log's header and of each entry's: `magic`, `version`, `nr_entries`, `sectorsize`; `sector`, `nr_sectors`, `flags`, `data_len`, little-endian. */
const MAGIC = 0x6a736677736872n;
const VERSION = 1n;
const SECTOR_SIZE_AT = 24;
const HEAD_BYTES = 32;
const FLAG = { flush: 1n, fua: 2n, discard: 4n } as const;
/** dm-log-writes counts in these, whatever a log's own sector is. */
const UNIT_BYTES = 512;
const PIECE_BYTES = 512;
const CHUNK_BYTES = 1 << 20;

export interface LogEntry {
  readonly kind: 'write' | 'discard' | 'flush';
  /** Durable by itself (force unit access). */
  readonly isForced: boolean;
  readonly offsetBytes: number;
  readonly sizeBytes: number;
  /** Of its data, in the log. */
  readonly dataAt: number;
}

/** All whole entries: the last one of a machine that was cut may be torn. Throws where the file is no such log. */
export function readDiskLog(path: string): readonly LogEntry[] {
  const file = openSync(path, 'r');
  try {
    const { size } = fstatSync(file);
    const head = Buffer.alloc(HEAD_BYTES);
    readSync(file, head, 0, HEAD_BYTES, 0);
    // QEMU writes the header with the first flush.
    const hasHeader = head.some((byte) => byte !== 0);
    if (hasHeader && (head.readBigUInt64LE(0) !== MAGIC || head.readBigUInt64LE(8) !== VERSION)) throw new Error(`${path} is no log of writes`);
    const sectorBytes = hasHeader ? head.readUInt32LE(SECTOR_SIZE_AT) : UNIT_BYTES;
    const entries: LogEntry[] = [];
    for (let at = sectorBytes; at + sectorBytes <= size;) {
      readSync(file, head, 0, HEAD_BYTES, at);
      const sectors = Number(head.readBigUInt64LE(8));
      const flags = head.readBigUInt64LE(16);
      const isDiscard = (flags & FLAG.discard) !== 0n;
      const sizeBytes = sectors * UNIT_BYTES;
      const dataAt = at + sectorBytes;
      const dataBytes = isDiscard ? 0 : Math.ceil(sizeBytes / sectorBytes) * sectorBytes;
      if (dataAt + dataBytes > size) break;
      if ((flags & FLAG.flush) !== 0n) entries.push({ kind: 'flush', isForced: false, offsetBytes: 0, sizeBytes: 0, dataAt });
      if (sectors > 0) entries.push({ kind: isDiscard ? 'discard' : 'write', isForced: (flags & FLAG.fua) !== 0n, offsetBytes: Number(head.readBigUInt64LE(0)) * UNIT_BYTES, sizeBytes, dataAt });
      at = dataAt + dataBytes;
    }
    return entries;
  } finally {
    closeSync(file);
  }
}

/**
 * Makes of `card`, which is as it was when the log began, what a cut behind entry `count` leaves. Of what was not flushed each sector of 512 bytes survives as `keeps` says, a discard not at all.
 * Returns how many sectors were in doubt, and how many of them were lost.
 */
export function replay(log: string, entries: readonly LogEntry[], { card, count, keeps }: { readonly card: string; readonly count: number; readonly keeps: () => boolean }): { readonly doubtful: number; readonly lost: number } {
  const flushed = entries.findLastIndex(({ kind }, index) => index < count && kind === 'flush');
  const from = openSync(log, 'r');
  const to = openSync(card, 'r+');
  const copy = ({ dataAt, offsetBytes }: LogEntry, begin: number, length: number): void => {
    for (let at = begin; at < begin + length; at += CHUNK_BYTES) {
      const size = Math.min(CHUNK_BYTES, begin + length - at);
      const [bytes, there] = [Buffer.alloc(size), Buffer.alloc(size)];
      readSync(from, bytes, 0, size, dataAt + at);
      readSync(to, there, 0, size, offsetBytes + at);
      if (!bytes.equals(there)) writeSync(to, bytes, 0, size, offsetBytes + at); // a hole stays one
    }
  };
  const sectors = { doubtful: 0, lost: 0 };
  const perhaps = (entry: LogEntry): void => {
    for (let begin = 0; begin < entry.sizeBytes; begin += PIECE_BYTES) {
      sectors.doubtful += 1;
      if (keeps()) copy(entry, begin, PIECE_BYTES);
      else sectors.lost += 1;
    }
  };
  try {
    for (const [index, entry] of entries.slice(0, count).entries()) {
      if (entry.kind !== 'write') continue;
      if (index < flushed || entry.isForced) copy(entry, 0, entry.sizeBytes);
      else perhaps(entry);
    }
    return sectors;
  } finally {
    closeSync(from);
    closeSync(to);
  }
}
