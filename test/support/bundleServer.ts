/** Serves one file in ranges, as badly as a test wants: whoever breaks, stalls or swaps does it here. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Served {
  bytes: Buffer;
  etag: string | undefined;
  /** Ends a connection after so many bytes. */
  breakAfter: number;
  /** Answers before anything else where it returns true. */
  first: (request: IncomingMessage, response: ServerResponse) => boolean;
}

export interface BundleServer extends AsyncDisposable {
  readonly url: string;
  readonly served: Served;
  readonly ranges: string[];
  /** Cuts what is under way. */
  cut(): void;
}

export async function startBundleServer(bytes: Buffer): Promise<BundleServer> {
  const served: Served = { bytes, etag: '"1"', breakAfter: Infinity, first: () => false };
  const ranges: string[] = [];
  const server = createServer((request, response) => {
    ranges.push(request.headers.range ?? '');
    if (served.first(request, response)) return;
    const { bytes: file, etag, breakAfter } = served;
    const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
    const isOther = request.headers['if-range'] !== undefined && request.headers['if-range'] !== etag;
    const start = isOther ? 0 : Number(from ?? 0);
    const end = isOther || !to ? file.length : Math.min(file.length, Number(to) + 1);
    const isPart = from !== undefined && !isOther;
    response.writeHead(isPart ? 206 : 200, { 'content-length': end - start, ...(etag === undefined ? {} : { etag }), ...(isPart ? { 'content-range': `bytes ${start}-${end - 1}/${file.length}` } : {}) });
    if (end - start <= breakAfter) response.end(file.subarray(start, end));
    else response.write(file.subarray(start, start + breakAfter), () => { response.destroy(); });
  });
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/tenzro.raucb`, served, ranges,
    cut() { server.closeAllConnections(); },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => { server.close(() => { resolve(); }); });
    },
  };
}
