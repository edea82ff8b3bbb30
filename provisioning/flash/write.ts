/**
 * Writes an image and reads it back. The first chunk, which has the partition table, is blank from the start and comes last, after all else was read back: a medium that
 * was left in the middle shows no system, so that repeating is always safe and a card that boots was verified.
 */
import { createHash } from 'node:crypto';
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import type { Bmap, Extent } from './bmap.ts';
import { bytesOf, wrong, type Image } from './image.ts';
import { alignedChunk, CHUNK_BYTES, type Target } from './target.ts';

export type Phase = 'write' | 'verify';

export interface Job {
  readonly image: Image;
  /** Undefined: every byte is written. */
  readonly bmap: Bmap | undefined;
  readonly target: Target;
  /** Cut the target to the image's length at the end: it is a file. */
  readonly isFile: boolean;
  /** Bytes that are on the medium, or were read from it. */
  readonly seen: (phase: Phase, bytes: number, totalBytes: number) => void;
  readonly signal: AbortSignal;
}

export interface Written {
  readonly sizeBytes: number;
  readonly writtenBytes: number;
  readonly isDirect: boolean;
}

/** What was written where. */
interface Piece {
  readonly offset: number;
  readonly sizeBytes: number;
  readonly digest: Uint8Array;
}

/** The medium is asked to flush so often that the progress shown is what it holds, also without O_DIRECT. */
const FLUSH_BYTES = 16 * CHUNK_BYTES;

/** Rejects with `flash.image`, `flash.bmap` (a range is another), `flash.medium`, `flash.verify`. */
export async function writeImage(job: Job): Promise<Written> {
  const { image, bmap, target, isFile, seen } = job;
  const extents = bmap?.extents ?? [{ offset: 0, sizeBytes: image.sizeBytes, sha256: undefined }];
  const totalBytes = extents.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  if (extents.some(({ offset }) => offset % target.blockBytes !== 0)) throw new TenzroError('flash.bmap', `the block map has smaller blocks than ${target.path}, ${target.blockBytes} bytes: it serves with --no-bmap`);
  const work = alignedChunk();
  if (isFile) await target.truncate(0); // what a block map leaves out reads as zeros
  await target.write(work.subarray(0, roundedUp(Math.min(CHUNK_BYTES, image.sizeBytes), target.blockBytes)), 0);
  if (isFile) await target.truncate(roundedUp(image.sizeBytes, target.blockBytes));
  await target.flush();
  const { first, rest } = await writeRest(job, extents, totalBytes);
  await readBack(job, rest, work, totalBytes);
  if (first) {
    await target.write(first, 0);
    await target.flush();
    await readBack(job, [{ offset: 0, sizeBytes: first.length, digest: sha256(first) }], work, totalBytes);
  }
  if (isFile) {
    await target.truncate(image.sizeBytes);
    await target.flush();
  }
  seen('verify', totalBytes, totalBytes);
  return { sizeBytes: image.sizeBytes, writtenBytes: totalBytes, isDirect: target.isDirect };
}

async function writeRest({ image, target, seen, signal }: Job, extents: readonly Extent[], totalBytes: number): Promise<{ readonly first: Uint8Array | undefined; readonly rest: readonly Piece[] }> {
  const rest: Piece[] = [];
  let first: Uint8Array | undefined;
  let bytes = 0;
  let unflushedBytes = 0;
  for await (const { offset, chunk } of chunksOf(image, extents, target.blockBytes, signal)) {
    signal.throwIfAborted();
    if (offset === 0) {
      first = alignedChunk().subarray(0, chunk.length);
      first.set(chunk);
    } else {
      rest.push({ offset, sizeBytes: chunk.length, digest: sha256(chunk) });
      await target.write(chunk, offset);
    }
    bytes += chunk.length;
    unflushedBytes += chunk.length;
    if (unflushedBytes >= FLUSH_BYTES) {
      await target.flush();
      unflushedBytes = 0;
    }
    if (bytes < totalBytes && (target.isDirect || unflushedBytes === 0)) seen('write', bytes, totalBytes);
  }
  await target.flush();
  seen('write', totalBytes, totalBytes);
  return { first, rest };
}

async function readBack({ target, seen, signal }: Job, pieces: readonly Piece[], work: Uint8Array, totalBytes: number): Promise<void> {
  let bytes = 0;
  for (const { offset, sizeBytes, digest } of pieces) {
    signal.throwIfAborted();
    const chunk = work.subarray(0, sizeBytes);
    await target.read(chunk, offset);
    if (!equalBytes(sha256(chunk), digest)) throw new TenzroError('flash.verify', `${target.path} does not hold what was written to it, between byte ${offset} and ${offset + sizeBytes}`);
    bytes += sizeBytes;
    if (bytes < totalBytes) seen('verify', bytes, totalBytes);
  }
}

/** The image's extents, cut where its chunks begin; each lies on a page and is filled up with zeros to whole blocks. It is overwritten with the next. */
async function* chunksOf(image: Image, extents: readonly Extent[], blockBytes: number, signal: AbortSignal): AsyncGenerator<{ readonly offset: number; readonly chunk: Uint8Array }> {
  const work = alignedChunk();
  await using source = new Source(bytesOf(image, signal), image);
  for (const extent of extents) {
    const hash = createHash('sha256');
    const end = extent.offset + extent.sizeBytes;
    for (let offset = extent.offset; offset < end;) {
      const sizeBytes = Math.min(end - offset, CHUNK_BYTES - offset % CHUNK_BYTES);
      await source.fill(work.subarray(0, sizeBytes), offset);
      hash.update(work.subarray(0, sizeBytes));
      const padded = roundedUp(sizeBytes, blockBytes);
      work.fill(0, sizeBytes, padded);
      yield { offset, chunk: work.subarray(0, padded) };
      offset += sizeBytes;
    }
    if (extent.sha256 && !equalBytes(hash.digest(), extent.sha256)) throw new TenzroError('flash.bmap', `the image is another than its block map says, between byte ${extent.offset} and ${end}`);
  }
  await source.finish();
}

/** Bytes of the image in order, in portions as they are asked for. */
class Source implements AsyncDisposable {
  readonly #bytes: AsyncGenerator<Buffer>;
  readonly #image: Image;
  #at = 0;
  #rest: Buffer = Buffer.alloc(0);

  constructor(bytes: AsyncGenerator<Buffer>, image: Image) {
    this.#bytes = bytes;
    this.#image = image;
  }

  /** From `offset` on, which is not behind what was asked for before. */
  async fill(into: Uint8Array, offset: number): Promise<void> {
    while (this.#at < offset) this.#skip(Math.min((await this.#some()).length, offset - this.#at));
    for (let filled = 0; filled < into.length;) {
      const part = (await this.#some()).subarray(0, into.length - filled);
      into.set(part, filled);
      filled += part.length;
      this.#skip(part.length);
    }
  }

  /** Reads to the end, where its last checksum is. */
  async finish(): Promise<void> {
    while (!(await this.#bytes.next()).done);
  }

  async [Symbol.asyncDispose](): Promise<void> { await this.#bytes.return(undefined); }

  #skip(bytes: number): void {
    this.#rest = this.#rest.subarray(bytes);
    this.#at += bytes;
  }

  async #some(): Promise<Buffer> {
    while (this.#rest.length === 0) {
      const next = await this.#bytes.next();
      if (next.done) throw wrong(this.#image.path, 'it ended early');
      this.#rest = next.value;
    }
    return this.#rest;
  }
}

const roundedUp = (bytes: number, unit: number): number => Math.ceil(bytes / unit) * unit;
