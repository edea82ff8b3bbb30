/**
 * The page at the access point's address, and nowhere else. Whoever knows the access point's passphrase reaches it: so it shows no secret, takes a form only with
 * the token that it gave out, and everything about a request is bounded. A phone that looks for a way out of the network is led here from any host.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { once } from 'node:events';
import { equalBytes, toHex } from '#runtime/core/bytes.ts';
import { FIELD, FORM_BYTES_MAX, nameOf, networkIn, type FoundNetwork, type HandedNetwork } from './form.ts';
import { CONTENT_POLICY, formPage, plainPage, takenPage } from './page.ts';
import type { Outcome } from './portal.ts';

export interface PageOptions {
  /** IPv4 address to listen on, and the only host that the page has. */
  readonly host: string;
  /** 0 picks a free one. */
  readonly port: number;
  readonly title: string;
  readonly view: () => { readonly networks: readonly FoundNetwork[]; readonly last: Outcome | undefined };
  /** Told once the answer was sent. False: one is being tried already. MUST NOT throw. */
  readonly handed: (network: HandedNetwork) => boolean;
  /** A request that was not served, by its reason. MUST NOT throw. */
  readonly refused: (reason: Refusal) => void;
  /** Milliseconds that never step back. */
  readonly nowMs: () => number;
}

export type Refusal = 'host' | 'path' | 'method' | 'type' | 'size' | 'token' | 'rate' | 'malformed';

export interface PortalPage extends AsyncDisposable {
  readonly port: number;
  /** Of the last page that was asked for; undefined before. */
  readonly seenMs: number | undefined;
}

/** A few phones with a few tabs. */
const CONNECTIONS_MAX = 32;
const HEADER_BYTES_MAX = 8 * 1024;
const HEADERS_MAX = 64;
const HEADERS_MS = 3_000;
const REQUEST_MS = 6_000;
const KEEP_ALIVE_MS = 2_000;
const LOOK_MS = 1_000;
/** Requests in ten seconds, of all: phones ask a few times, and wait. */
const WINDOW_MS = 10_000;
const REQUESTS_MAX = 100;
const TOKEN_BYTES = 16;
const FORM_TYPE = /^application\/x-www-form-urlencoded(?:\s*;|$)/i;

/** Rejects with what the system says, where the address is not (yet) of this machine or the port is taken. */
export async function openPage(options: PageOptions): Promise<PortalPage> {
  const site = new Site(options);
  const limits = { maxHeaderSize: HEADER_BYTES_MAX, headersTimeout: HEADERS_MS, requestTimeout: REQUEST_MS, keepAliveTimeout: KEEP_ALIVE_MS, connectionsCheckingInterval: LOOK_MS };
  const server = createServer(limits, (request, response) => { void site.answer(request, response); });
  server.maxConnections = CONNECTIONS_MAX;
  server.maxHeadersCount = HEADERS_MAX;
  server.on('clientError', (_, socket) => {
    options.refused('malformed');
    socket.destroy();
  });
  server.on('connect', (_, socket) => { socket.destroy(); });
  server.on('upgrade', (_, socket) => { socket.destroy(); });
  server.on('checkExpectation', (_, response) => { response.writeHead(417, { connection: 'close' }).end(); });
  server.listen(options.port, options.host);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  site.origin = port === 80 ? options.host : `${options.host}:${port}`;
  return { port, get seenMs() { return site.seenMs; }, [Symbol.asyncDispose]: () => closed(server) };
}

async function closed(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise<void>((resolve) => { server.close(() => { resolve(); }); });
}

class Site {
  readonly #options: PageOptions;
  readonly #token = Buffer.from(toHex(crypto.getRandomValues(new Uint8Array(TOKEN_BYTES))));
  #window = { sinceMs: 0, count: 0 };
  /** Host header of the page. */
  origin = '';
  seenMs: number | undefined;

  constructor(options: PageOptions) {
    this.#options = options;
  }

  /** Never rejects. */
  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', headers: { host }, url = '' } = request;
    const isGet = method === 'GET' || method === 'HEAD';
    if (!this.#isWithinRate()) return this.#refuse(response, 429, 'rate', 'Too many requests. Wait a moment.');
    if (!isGet && method !== 'POST') return this.#refuse(response, 405, 'method', 'That is not done here.');
    if (host !== this.origin) {
      if (isGet) return send(response, 302, '', { location: `http://${this.origin}/` });
      return this.#refuse(response, 421, 'host', 'That is another host.');
    }
    if (isGet) return url === '/' ? this.#show(response, 200) : this.#refuse(response, 404, 'path', 'There is no such page.');
    if (url !== '/join') return this.#refuse(response, 404, 'path', 'There is no such page.');
    await this.#join(request, response);
  }

  #show(response: ServerResponse, status: number, problem?: string): void {
    const { view, title, nowMs } = this.#options;
    this.seenMs = nowMs();
    send(response, status, formPage({ title, ...view(), token: this.#token.toString(), ...problem === undefined ? {} : { problem } }));
  }

  async #join(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { view, title, handed } = this.#options;
    if (!FORM_TYPE.test(request.headers['content-type'] ?? '')) return this.#refuse(response, 415, 'type', 'That is no form.');
    const body = await bodyOf(request);
    if (body === undefined) return this.#refuse(response, 413, 'size', 'The form is too large.');
    const form = new URLSearchParams(body);
    if (!equalBytes(Buffer.from(form.get(FIELD.token) ?? ''), this.#token)) return this.#refuse(response, 403, 'token', 'The form is an old one. Open the page again.');
    const network = networkIn(form, view().networks);
    if (typeof network === 'string') return this.#show(response, 422, network);
    if (!handed(network)) return send(response, 409, plainPage(title, 'A network is being tried already.'));
    send(response, 200, takenPage(title, nameOf(network.ssid)));
  }

  #refuse(response: ServerResponse, status: number, reason: Refusal, text: string): void {
    this.#options.refused(reason);
    send(response, status, plainPage(this.#options.title, text), { connection: 'close' });
  }

  #isWithinRate(): boolean {
    const now = this.#options.nowMs();
    if (now - this.#window.sinceMs >= WINDOW_MS) this.#window = { sinceMs: now, count: 0 };
    this.#window.count += 1;
    return this.#window.count <= REQUESTS_MAX;
  }
}

/** Undefined where it is too large, or ended before its end. */
async function bodyOf(request: IncomingMessage): Promise<string | undefined> {
  if (Number(request.headers['content-length'] ?? 0) > FORM_BYTES_MAX) return undefined;
  const parts: Buffer[] = [];
  let size = 0;
  try {
    for await (const part of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      size += part.length;
      if (size > FORM_BYTES_MAX) return undefined;
      parts.push(part);
    }
  } catch {
    return undefined; // it hung up, and hears no answer
  }
  return Buffer.concat(parts).toString('utf8');
}

function send(response: ServerResponse, status: number, page: string, headers: Readonly<Record<string, string>> = {}): void {
  const isShared = { 'cache-control': 'no-store', 'content-security-policy': CONTENT_POLICY, 'referrer-policy': 'no-referrer', 'x-content-type-options': 'nosniff', 'cross-origin-resource-policy': 'same-origin', 'x-frame-options': 'DENY' };
  response.writeHead(status, { 'content-type': 'text/html; charset=utf-8', 'content-length': Buffer.byteLength(page), ...isShared, ...headers }).end(page);
}
