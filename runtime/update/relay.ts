/** A bundle of the network on a port of this machine, for who installs it: whole for him, however often the line breaks. Only who was told the URL gets it. */
import type { AddressInfo } from 'node:net';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { once } from 'node:events';
import { toHex } from '#runtime/core/bytes.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';

const { createServer } = process.getBuiltinModule('node:http');

export interface Blocks {
  readonly sizeBytes: number;
  block(index: number, signal: AbortSignal): Promise<Buffer>;
}

export interface Relay extends AsyncDisposable {
  readonly url: string;
}

const BLOCK = LIMITS.updateBlockBytes;
const CONNECTIONS_MAX = 32;

export async function openRelay(blocks: Blocks): Promise<Relay> {
  const token = toHex(crypto.getRandomValues(new Uint8Array(16)));
  const path = `/${token}/bundle.raucb`;
  const server = createServer((incoming, response) => { void answer(incoming, response, { path, etag: `"${token}"`, blocks }); });
  server.maxConnections = CONNECTIONS_MAX;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => { server.close(() => { resolve(); }); });
    },
  };
}

interface Served { readonly path: string; readonly etag: string; readonly blocks: Blocks }

/** Never rejects. */
async function answer({ method, url, headers }: IncomingMessage, response: ServerResponse, { path, etag, blocks }: Served): Promise<void> {
  const { sizeBytes } = blocks;
  if (url !== path || (method !== 'GET' && method !== 'HEAD')) return void response.writeHead(404).end();
  const range = rangeIn(headers.range, sizeBytes);
  if (range === 'beyond') return void response.writeHead(416, { 'content-range': `bytes */${sizeBytes}` }).end();
  const [first, last] = range ?? [0, sizeBytes - 1];
  response.writeHead(range ? 206 : 200, { 'accept-ranges': 'bytes', etag, 'content-type': 'application/octet-stream', 'content-length': last - first + 1, ...(range ? { 'content-range': `bytes ${first}-${last}/${sizeBytes}` } : {}) });
  if (method === 'HEAD') return void response.end();
  const gone = new AbortController();
  response.once('close', () => { gone.abort(); });
  try {
    await send(response, first, last, blocks, gone.signal);
    response.end();
  } catch (error) {
    // The length was promised: only a broken connection says that there is no more.
    if (!gone.signal.aborted) response.destroy(error instanceof TenzroError ? error : new TenzroError('core.invariant', messageOf(error), { cause: error }));
  }
}

async function send(response: ServerResponse, first: number, last: number, blocks: Blocks, signal: AbortSignal): Promise<void> {
  for (let at = first; at <= last;) {
    const index = Math.floor(at / BLOCK);
    const block = await blocks.block(index, signal);
    const part = block.subarray(at - index * BLOCK, last + 1 - index * BLOCK);
    at += part.length;
    if (!response.write(part)) await once(response, 'drain', { signal });
  }
}

/** One range (RFC 9110 §14.1.2); undefined: all of it, also where several are asked for. */
function rangeIn(header: string | undefined, sizeBytes: number): readonly [first: number, last: number] | 'beyond' | undefined {
  const [, from = '', to = ''] = /^bytes=(\d*)-(\d*)$/.exec(header ?? '') ?? [];
  if (from === '' && to === '') return undefined;
  const first = from === '' ? Math.max(0, sizeBytes - Number(to)) : Number(from);
  const last = from === '' || to === '' ? sizeBytes - 1 : Math.min(Number(to), sizeBytes - 1);
  return first > last ? 'beyond' : [first, last];
}
