/** Hands a file out over HTTP with ranges (RFC 9110, section 14), as RAUC's streaming wants them; may drop the line again and again. */
import { once } from 'node:events';
import { createReadStream, statSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { HOST_IN_GUEST } from './fleetHere.ts';

const PATH = '/next.raucb';

export class BundleServer implements AsyncDisposable {
  readonly #server: Server;
  requests = 0;

  private constructor(server: Server) { this.#server = server; }

  static async serve(file: string): Promise<BundleServer> {
    const server = createServer();
    const served = new BundleServer(server);
    server.on('request', (request: IncomingMessage, response: ServerResponse) => { served.#answer(file, request, response); });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return served;
  }

  /** As the guest reaches it. */
  get url(): string { return `http://${HOST_IN_GUEST}:${(this.#server.address() as AddressInfo).port}${PATH}`; }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #answer(file: string, { method, url, headers }: IncomingMessage, response: ServerResponse): void {
    this.requests += 1;
    if (url !== PATH) return void response.writeHead(404).end();
    const { size } = statSync(file);
    const range = /^bytes=(\d+)-(\d*)$/.exec(headers.range ?? '');
    const start = Number(range?.[1] ?? 0);
    const end = Math.min(range?.[2] === undefined || range[2] === '' ? size - 1 : Number(range[2]), size - 1);
    if (start > end) return void response.writeHead(416, { 'content-range': `bytes */${size}` }).end();
    response.writeHead(range ? 206 : 200, { 'accept-ranges': 'bytes', 'content-length': end - start + 1, ...range ? { 'content-range': `bytes ${start}-${end}/${size}` } : {} });
    if (method === 'HEAD') response.end();
    else createReadStream(file, { start, end }).on('error', () => { response.destroy(); }).pipe(response);
  }
}
