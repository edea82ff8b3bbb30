/**
 * Fetches a file over http(s) until it is whole: what arrived stays on the disk, and the rest is asked for by Range (RFC 9110 §14) at a rate that doubles its
 * pauses. Nobody on the way is trusted: the caller knows size and SHA-256.
 */
import { open, stat, type FileHandle } from 'node:fs/promises';
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
      if (signal.aborted || (error instanceof TenzroError && error.code === 'model.source')) throw error;
      if (await sizeOf(order.file) > before) pauseMs = LIMITS.modelFetchRetryMs;
      await sleep(pauseMs * (0.5 + Math.random()), undefined, { signal });
      pauseMs = Math.min(LIMITS.modelFetchRetryMaxMs, pauseMs * 2);
    }
  }
}

async function fetchOnce({ url, bytes, file }: FetchOrder, from: number, signal: AbortSignal): Promise<void> {
  const silence = new AbortController();
  const watchdog = setTimeout(() => silence.abort(), LIMITS.modelFetchSilenceMs);
  try {
    const response = await fetch(url, {
      redirect: 'manual', signal: AbortSignal.any([signal, silence.signal]), headers: { 'accept-encoding': 'identity', ...(from > 0 ? { range: `bytes=${from}-` } : {}) },
    });
    const start = startOf(response, from, bytes);
    await using handle = await open(file, start === 0 ? 'w' : 'r+', 0o600);
    let at = start;
    for await (const chunk of response.body ?? []) {
      watchdog.refresh();
      if (at + (chunk as Uint8Array).length > bytes) throw new TenzroError('model.source', `${hostOf(url)} sends more than the ${bytes} bytes that were signed`);
      at += await write(handle, chunk as Uint8Array, at);
    }
    await handle.sync();
    if (at < bytes && start + Number(response.headers.get('content-length') ?? Number.NaN) === at) throw new TenzroError('model.source', `${hostOf(url)} has ${at} bytes, signed were ${bytes}`);
  } finally {
    clearTimeout(watchdog);
  }
}

/** Where what comes belongs: servers may pass over a Range and send all. */
function startOf({ status, headers }: Response, from: number, bytes: number): number {
  if (PASSING.has(status)) throw new Error(`HTTP ${status}`);
  if (status !== 200 && status !== 206) throw new TenzroError('model.source', `the server answers HTTP ${status}`);
  if ((headers.get('content-encoding') ?? 'identity') !== 'identity') throw new TenzroError('model.source', 'the server sends it encoded');
  const start = status === 200 ? 0 : from;
  if (status === 206 && !headers.get('content-range')?.startsWith(`bytes ${from}-`)) throw new TenzroError('model.source', 'the server sends another range than was asked for');
  if (start + Number(headers.get('content-length') ?? 0) > bytes) throw new TenzroError('model.source', `the server has more than the ${bytes} bytes that were signed`);
  return start;
}

async function write(handle: FileHandle, chunk: Uint8Array, at: number): Promise<number> {
  for (let done = 0; done < chunk.length;) done += (await handle.write(chunk, done, chunk.length - done, at + done)).bytesWritten;
  return chunk.length;
}

async function sizeOf(file: string): Promise<number> {
  try {
    return (await stat(file)).size;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return 0;
    throw new TenzroError('model.store', messageOf(cause), { cause });
  }
}

const hostOf = (url: string): string => new URL(url).host;
