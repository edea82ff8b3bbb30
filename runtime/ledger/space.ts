/** Room on the disk for an LMDB data file. */
import { statfsSync, statSync, truncateSync } from 'node:fs';

/** The file is kept longer than its last page, so that a file shorter than its last page is always a damaged one. */
const HEADROOM_BYTES = 32 * 1024 * 1024;
/** What a transaction may use beyond its values: tree pages and the free list. */
const SLACK_BYTES = 2 * 1024 * 1024;

/** What LMDB says of itself: `getStats` of a root database, which has more. */
interface Stats { readonly lastPageNumber: number; readonly pageSize: number }

export class Space {
  readonly #file: string;
  /** Bytes that can be written before the file's headroom must be looked at again. */
  #roomBytes = 0;

  /** `file`: the data file, or its folder while there is none. */
  constructor(file: string) { this.#file = file; }

  /**
   * True when a transaction over values of so many bytes may not fit. Asked before every write, because lmdb 3.5 does not survive all of its own: a write refused
   * while it saves its free list ends the process (heap corruption after `mdb_page_spill`), and one that is cut short looks like EIO (`mdb_page_flush`).
   */
  isShortOf(valueBytes: number): boolean {
    const { bavail, bsize } = statfsSync(this.#file);
    return bavail * bsize < valueBytes + SLACK_BYTES;
  }

  /** Lengthens the file (sparsely) where the next values would come near its end. */
  keepHeadroom(statsOf: () => object, valueBytes: number): void {
    const bytes = valueBytes + SLACK_BYTES;
    this.#roomBytes -= bytes;
    if (this.#roomBytes > 0) return;
    const { lastPageNumber, pageSize } = statsOf() as Stats;
    const neededBytes = (lastPageNumber + 1) * pageSize + bytes + HEADROOM_BYTES;
    if (statSync(this.#file).size < neededBytes) truncateSync(this.#file, neededBytes);
    this.#roomBytes = HEADROOM_BYTES;
  }
}
