/** The medium, opened so that what is said of it is true: past the page cache where the system allows it (O_DIRECT), a disk for nobody else meanwhile (O_EXCL). */
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';

/** A whole number of any medium's blocks; many cards erase so much at once. */
export const CHUNK_BYTES = 4 * 1024 * 1024;
/** WebAssembly Core §4.2.8. */
const PAGE_BYTES = 65_536;
/** O_DIRECT on a file: what its file system wants is not known; 4,096 serves all that Debian mounts. */
const FILE_BLOCK_BYTES = 4_096;

/** `@types/node` leaves it to the types of browsers. */
declare const WebAssembly: { readonly Memory: new (size: { readonly initial: number }) => { readonly buffer: ArrayBuffer } };

/** One chunk that starts on a page, as open(2) wants it for O_DIRECT and no Buffer promises; the memory of a WebAssembly program always does. */
export const alignedChunk = (): Uint8Array => new Uint8Array(new WebAssembly.Memory({ initial: CHUNK_BYTES / PAGE_BYTES }).buffer);

/** Rejects with `flash.permission`, `flash.target` (in use) and `flash.medium`. */
export class Target implements AsyncDisposable {
  readonly path: string;
  /** What reads and writes are a multiple of. */
  readonly blockBytes: number;
  /** False: reading back may be answered by the page cache. */
  readonly isDirect: boolean;
  readonly #handle: FileHandle;

  private constructor(handle: FileHandle, path: string, blockBytes: number, isDirect: boolean) {
    this.#handle = handle;
    this.path = path;
    this.blockBytes = blockBytes;
    this.isDirect = isDirect;
  }

  /** `sectorBytes`: of a disk, which then is opened exclusively; undefined: a file, made where there is none. */
  static async open(path: string, sectorBytes: number | undefined): Promise<Target> {
    const flags = constants.O_RDWR | (sectorBytes === undefined ? constants.O_CREAT : constants.O_EXCL);
    const blockBytes = sectorBytes ?? FILE_BLOCK_BYTES;
    try {
      return new Target(await open(path, flags | constants.O_DIRECT, 0o666), path, blockBytes, true);
    } catch (cause) {
      if (codeOf(cause) !== 'EINVAL') throw openFault(path, cause);
    }
    try {
      return new Target(await open(path, flags, 0o666), path, blockBytes, false);
    } catch (cause) {
      throw openFault(path, cause);
    }
  }

  async write(bytes: Uint8Array, offset: number): Promise<void> {
    await this.#whole('written', bytes, offset, async (at) => (await this.#handle.write(bytes, at, bytes.length - at, offset + at)).bytesWritten);
  }

  async read(into: Uint8Array, offset: number): Promise<void> {
    await this.#whole('read', into, offset, async (at) => (await this.#handle.read(into, at, into.length - at, offset + at)).bytesRead);
  }

  /** Also out of the medium's own cache. */
  async flush(): Promise<void> { await this.#in(`what was written does not get onto ${this.path}`, () => this.#handle.sync()); }

  /** Of a file: exactly so long. */
  async truncate(sizeBytes: number): Promise<void> { await this.#in(`${this.path} does not take its length`, () => this.#handle.truncate(sizeBytes)); }

  async [Symbol.asyncDispose](): Promise<void> { await this.#handle.close(); }

  async #whole(done: string, bytes: Uint8Array, offset: number, step: (at: number) => Promise<number>): Promise<void> {
    await this.#in(`${this.path} cannot be ${done} at byte ${offset}`, async () => {
      for (let at = 0; at < bytes.length;) {
        const moved = await step(at);
        if (moved === 0) throw new TenzroError('flash.medium', `${this.path} ends at byte ${offset + at}: it was taken out, or somebody has cut it`);
        at += moved;
      }
    });
  }

  async #in(what: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (cause) {
      if (cause instanceof TenzroError) throw cause;
      throw new TenzroError('flash.medium', `${what}: ${messageOf(cause)}`, { cause });
    }
  }
}

function openFault(path: string, cause: unknown): TenzroError {
  const code = codeOf(cause);
  if (code === 'EACCES' || code === 'EPERM') return new TenzroError('flash.permission', `this user may not write ${path}`, { cause });
  if (code === 'EBUSY') return new TenzroError('flash.target', `${path} is not overwritten: something on this machine uses it, though nothing of it is mounted here (another container, a RAID, another tenzro flash)`, { cause });
  return new TenzroError('flash.medium', `${path} cannot be opened: ${messageOf(cause)}`, { cause });
}

const codeOf = (cause: unknown): string | undefined => (cause instanceof Error && 'code' in cause ? String(cause.code) : undefined);
