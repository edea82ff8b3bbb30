/**
 * Fetches a file over http(s) until it is whole: what arrived stays on the disk, and the rest is asked for by Range (RFC 9110 §14) at a rate that doubles its
 * pauses. Nobody on the way is trusted: the caller knows size and SHA-256.
 */
import { open, stat, type FileHandle } from 'node:fs/promises';
import { get as getPlain, type IncomingMessage } from 'node:http';
import { get as getTls } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';

export interface FetchOrder {
  readonly url: string;
  readonly bytes: number;
  /** Grows to `bytes`; one that is there already is gone on with. */
  readonly file: string;
}

/** These may be right another time (RFC 9110 §15); of the others a retry changes nothing. */
const PASSING: ReadonlySet<number> = new Set([408, 425, 429, 500, 502, 503, 504]);
const URL_CHARACTERS_MAX = 2_048;

/** Throws `command.parameters`. */
export function checkUrl(text: string): void {
  const url = text.length <= URL_CHARACTERS_MAX && URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== 'http:' && url?.protocol !== 'https:') throw new TenzroError('command.parameters', 'url is not http:// or https://');
  if (url.username !== '' || url.password !== '') throw new TenzroError('command.parameters', 'url carries a login, which would stand in the chain for ever');
}

/** Resolves when the file has `bytes` bytes. Rejects with `model.source` for what will not change, and when `signal` aborts. */
export async function fetchFile(order: FetchOrder, signal: AbortSignal): Promise<void> {
  for (let pauseMs: number = LIMITS.modelFetchRetryMs; ;) {
    const before = await sizeOf(order.file);
    if (before === order.bytes) return;
    try {
      await fetchOnce(order, before < order.bytes ? before : 0, signal);
    } catch (error) {
      if (signal.aborted || (error instanceof TenzroError && error.retryAfterMs === undefined)) throw error;
      if (await sizeOf(order.file) > before) pauseMs = LIMITS.modelFetchRetryMs;
      await sleep(pauseMs * (0.5 + Math.random()), undefined, { signal });
      pauseMs = Math.min(LIMITS.modelFetchRetryMaxMs, pauseMs * 2);
    }
  }
}

async function fetchOnce(order: FetchOrder, from: number, signal: AbortSignal): Promise<void> {
  await using handle = await open(order.file, from === 0 ? 'w' : 'r+', 0o600);
  const failure = await receive(order, from, handle, signal);
  await handle.sync();
  if (failure) throw failure;
}

/** Writes what comes as it comes, so that a connection which breaks costs what was under way only. Resolves with why it ended early. */
function receive({ url, bytes }: FetchOrder, from: number, handle: FileHandle, signal: AbortSignal): Promise<Error | undefined> {
  const { promise, resolve } = Promise.withResolvers<Error | undefined>();
  let failure: Error | undefined;
  let writes = Promise.resolve();
  const unwritten = (cause: unknown): void => { request.destroy(new TenzroError('model.store', messageOf(cause), { cause })); };
  const get = url.startsWith('https:') ? getTls : getPlain;
  const request = get(url, { agent: false, signal, timeout: LIMITS.modelFetchSilenceMs, headers: { 'accept-encoding': 'identity', ...(from > 0 ? { range: `bytes=${from}-` } : {}) } }, (response) => {
    let at = from;
    try {
      at = startOf(response, from, bytes);
    } catch (error) {
      request.destroy(error as Error);
      return;
    }
    if (at < from) writes = handle.truncate(0).catch(unwritten);
    response.on('data', (chunk: Buffer) => {
      const place = at;
      at += chunk.length;
      if (at > bytes) return void request.destroy(new TenzroError('model.source', `the server sends more than the ${bytes} bytes that were signed`));
      response.pause();
      writes = writes.then(() => write(handle, chunk, place)).then(() => void response.resume(), unwritten);
    });
    response.once('end', () => { if (at < bytes) failure = new TenzroError('model.source', `the server has ${at} bytes, signed were ${bytes}`); });
    response.once('error', (error) => { failure ??= error; });
  });
  request.once('timeout', () => request.destroy(new TenzroError('model.source', `the server says nothing for ${LIMITS.modelFetchSilenceMs} ms`, { retryAfterMs: LIMITS.modelFetchRetryMs })));
  request.once('error', (error) => { failure = error; });
  request.once('close', () => { void writes.then(() => resolve(failure)); });
  return promise;
}

/** Where what comes belongs: servers may pass over a Range and send all. A redirection is not followed: what was signed names where to. */
function startOf({ statusCode = 0, headers }: IncomingMessage, from: number, bytes: number): number {
  if (PASSING.has(statusCode)) throw new TenzroError('model.source', `the server answers HTTP ${statusCode}`, { retryAfterMs: LIMITS.modelFetchRetryMs });
  if (statusCode !== 200 && statusCode !== 206) throw new TenzroError('model.source', `the server answers HTTP ${statusCode}`);
  if ((headers['content-encoding'] ?? 'identity') !== 'identity') throw new TenzroError('model.source', 'the server sends it encoded');
  const start = statusCode === 200 ? 0 : from;
  if (statusCode === 206 && headers['content-range']?.startsWith(`bytes ${from}-`) !== true) throw new TenzroError('model.source', 'the server sends another range than was asked for');
  if (start + Number(headers['content-length'] ?? 0) > bytes) throw new TenzroError('model.source', `the server has more than the ${bytes} bytes that were signed`);
  return start;
}

async function write(handle: FileHandle, chunk: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < chunk.length;) done += (await handle.write(chunk, done, chunk.length - done, at + done)).bytesWritten;
}

async function sizeOf(file: string): Promise<number> {
  try {
    return (await stat(file)).size;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return 0;
    throw new TenzroError('model.store', messageOf(cause), { cause });
  }
}
