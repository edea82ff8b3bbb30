/** An image as it lies on the disk: plain or xz. What it unpacks to is known before a byte of it is written; xz(1) unpacks, because it is on every Debian and reads with all cores. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';

export interface Image {
  readonly path: string;
  /** Of the file. */
  readonly fileBytes: number;
  /** Of what is to be written: whole sectors of 512 bytes. */
  readonly sizeBytes: number;
  readonly isXz: boolean;
}

const SECTOR_BYTES = 512;
const READ_BYTES = 1024 * 1024;
const XZ_LIST_MS = 60_000;
const STDERR_CHARS_MAX = 2_000;

/** First bytes: xz (its file format §2.1.1.1), and what we name to say how to unpack it: gzip (RFC 1952), zstd (RFC 8878), zip, bzip2. */
const MAGIC = { xz: 'fd377a585a00', gzip: '1f8b', zstd: '28b52ffd', zip: '504b0304', bzip2: '425a68' } as const;
const UNPACK = { gzip: 'gunzip', zstd: 'unzstd', zip: 'unzip', bzip2: 'bunzip2' } as const;

const run = promisify(execFile);

/** Throws `flash.image`, `flash.program`. */
export async function openImage(path: string, signal: AbortSignal): Promise<Image> {
  const { size: fileBytes, head } = await headOf(path);
  for (const kind of Object.keys(UNPACK) as (keyof typeof UNPACK)[]) {
    if (head.startsWith(MAGIC[kind])) throw wrong(path, `it is packed by ${kind}: unpack it first (${UNPACK[kind]}), only .img and .img.xz are read`);
  }
  const isXz = head.startsWith(MAGIC.xz);
  const sizeBytes = isXz ? await unpackedBytes(path, signal) : fileBytes;
  if (sizeBytes === 0) throw wrong(path, 'it is empty');
  if (sizeBytes % SECTOR_BYTES !== 0) throw wrong(path, `it has ${sizeBytes} bytes, which are no whole sectors: it was cut short, or is no image of a disk`);
  return { path, fileBytes, sizeBytes, isXz };
}

async function headOf(path: string): Promise<{ readonly size: number; readonly head: string }> {
  try {
    const about = await stat(path);
    if (!about.isFile()) throw wrong(path, 'it is no file');
    await using file = await open(path);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(8), 0, 8, 0);
    return { size: about.size, head: buffer.subarray(0, bytesRead).toString('hex') };
  } catch (cause) {
    throw cause instanceof TenzroError ? cause : wrong(path, messageOf(cause), cause);
  }
}

/** From the index at the file's end, so that a download that was cut short is found out. */
async function unpackedBytes(path: string, signal: AbortSignal): Promise<number> {
  try {
    const { stdout } = await run('xz', ['--robot', '--list', '--', path], { signal, timeout: XZ_LIST_MS });
    const bytes = Number(/^totals(?:\t[^\t]*){3}\t(\d+)/m.exec(stdout)?.[1]);
    if (Number.isSafeInteger(bytes)) return bytes;
    throw wrong(path, 'xz does not say its size');
  } catch (cause) {
    signal.throwIfAborted();
    if (cause instanceof TenzroError) throw cause;
    if (isMissing(cause)) throw noXz(cause);
    throw wrong(path, saidBy(cause) ?? messageOf(cause), cause);
  }
}

/** What is to be written, from its start. Rejects with `flash.image` where it ends early or is damaged. */
export async function* bytesOf({ path, isXz, sizeBytes }: Image, signal: AbortSignal): AsyncGenerator<Buffer> {
  let seen = 0;
  for await (const chunk of isXz ? unpacked(path, signal) : plain(path, signal)) {
    seen += chunk.length;
    if (seen > sizeBytes) throw wrong(path, 'it has grown while it was read');
    yield chunk;
  }
  if (seen < sizeBytes) throw wrong(path, `it ended after ${seen} of ${sizeBytes} bytes: it has changed while it was read`);
}

/** Its first bytes, unpacked; fewer where it is shorter. */
export async function beginningOf(image: Image, sizeBytes: number, signal: AbortSignal): Promise<Buffer> {
  const parts: Buffer[] = [];
  let seen = 0;
  for await (const part of bytesOf(image, signal)) {
    parts.push(part);
    seen += part.length;
    if (seen >= sizeBytes) break;
  }
  return Buffer.concat(parts).subarray(0, sizeBytes);
}

async function* plain(path: string, signal: AbortSignal): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: READ_BYTES, signal })) yield chunk as Buffer;
  } catch (cause) {
    signal.throwIfAborted();
    throw wrong(path, messageOf(cause), cause);
  }
}

async function* unpacked(path: string, signal: AbortSignal): AsyncGenerator<Buffer> {
  const xz = spawn('xz', ['--decompress', '--stdout', '--threads=0', '--', path], { stdio: ['ignore', 'pipe', 'pipe'], env: { PATH: process.env['PATH'] ?? '', LC_ALL: 'C' } });
  let said = '';
  xz.stderr.setEncoding('utf8').on('data', (text: string) => { said = (said + text).slice(0, STDERR_CHARS_MAX); });
  const stop = (): void => { xz.kill('SIGKILL'); };
  signal.addEventListener('abort', stop, { once: true });
  const ended = once(xz, 'close').catch((cause: unknown) => { throw isMissing(cause) ? noXz(cause) : wrong(path, messageOf(cause), cause); });
  ended.catch(() => undefined); // judged below, once its output has been read
  try {
    for await (const chunk of xz.stdout) yield chunk as Buffer;
    const [code] = (await ended) as [number | null];
    signal.throwIfAborted();
    if (code !== 0) throw wrong(path, said.trim() || 'xz was ended');
  } finally {
    signal.removeEventListener('abort', stop);
    stop();
  }
}

const isMissing = (cause: unknown): boolean => cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';
const noXz = (cause: unknown): TenzroError => new TenzroError('flash.program', 'xz is not installed here, which unpacks the image', { cause });
const saidBy = (cause: unknown): string | undefined => (typeof cause === 'object' && cause !== null && 'stderr' in cause ? String(cause.stderr).trim() || undefined : undefined);
export const wrong = (path: string, why: string, cause?: unknown): TenzroError => new TenzroError('flash.image', `${path} cannot be written: ${why}`, { cause });
