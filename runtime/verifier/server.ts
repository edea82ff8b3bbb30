/**
 * The verifier's front: HTTPS over TLS 1.3, each client known by the ML-DSA-65 key that its certificate carries and the handshake proved. Everything is
 * bounded before it is held: connections, requests at once, bytes, time, and requests per client and address.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { toHex } from '#runtime/core/bytes.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError, messageOf, type ErrorCode } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Counters, Log } from '#runtime/core/ports.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { rawPublicKeyOf } from '#runtime/crypto/mldsa.ts';
import { negotiatedGroup, pinningServerOptions } from '#runtime/crypto/tls.ts';
import { CBOR_MEDIA_TYPE, encodeRefusal, LEASE_PATH } from '#runtime/ledger/leaseMessages.ts';
import { Rates } from './rates.ts';
import type { Answer, VerifierService } from './service.ts';

export interface ServerOptions {
  readonly host: string;
  /** 0 picks a free one. */
  readonly port: number;
  /** PEM. */
  readonly certificate: string;
  readonly key: string;
  readonly service: VerifierService;
  /** What GET /v1/status answers; tells nothing about single gateways. */
  readonly status: () => object;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
}

export interface VerifierServer extends AsyncDisposable {
  readonly address: { readonly host: string; readonly port: number };
}

const HANDSHAKE_TIMEOUT_MS = 5_000;
const HEADERS_TIMEOUT_MS = 5_000;
const HEADER_BYTES_MAX = 8 * 1024;
/** How often the server looks for requests beyond their time. */
const TIMEOUT_CHECK_MS = 1_000;
/** Messages of enrolment and challenge are small; only an appraisal carries a bundle. */
const SMALL_BODY_BYTES_MAX = 64 * 1024;
const RETRY_AFTER_DEFAULT_MS = 1_000;

/** RFC 9110 §15. */
const HTTP = { ok: 200, badRequest: 400, unauthorized: 401, forbidden: 403, notFound: 404, methodNotAllowed: 405, tooLarge: 413, tooMany: 429, failed: 500 } as const;
const HTTP_OF = new Map<ErrorCode, number>([['verifier.client', HTTP.unauthorized], ['verifier.too_large', HTTP.tooLarge], ['verifier.busy', HTTP.tooMany], ['enrol.busy', HTTP.tooMany]]);

/** Throws `verifier.port_in_use` and `core.system`. */
export async function openServer(options: ServerOptions): Promise<VerifierServer> {
  const { host, port, certificate, key, counters } = options;
  const front = new Front(options);
  const server = createServer({
    ...pinningServerOptions(), cert: certificate, key, handshakeTimeout: HANDSHAKE_TIMEOUT_MS, headersTimeout: HEADERS_TIMEOUT_MS, requestTimeout: LIMITS.verifierRequestTimeoutMs,
    keepAliveTimeout: HEADERS_TIMEOUT_MS, connectionsCheckingInterval: TIMEOUT_CHECK_MS, maxHeaderSize: HEADER_BYTES_MAX,
  }, (request, response) => { front.answer(request, response).catch((error: unknown) => front.defect(error, response)); });
  server.maxConnections = LIMITS.verifierConnectionsMax;
  server.setTimeout(LIMITS.verifierRequestTimeoutMs, (socket: Socket) => { socket.destroy(); });
  server.on('tlsClientError', () => { counters.add('verifier.handshakes_failed'); });
  server.on('clientError', (_error, socket) => { counters.add('verifier.requests_malformed'); socket.destroy(); });
  server.on('connection', (socket: Socket) => { front.admit(socket); });
  server.on('drop', () => { counters.add('verifier.connections_dropped'); });
  await listen(server, host, port);
  const bound = server.address() as AddressInfo;
  return {
    address: { host, port: bound.port },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => { server.close(() => { resolve(); }); });
    },
  };
}

class Front {
  readonly #options: ServerOptions;
  readonly #clientRates: Rates;
  readonly #addressRates: Rates;
  #bufferedBytes = 0;
  readonly #connections = new Map<string, number>();

  constructor(options: ServerOptions) {
    this.#options = options;
    this.#clientRates = new Rates(options.clock, { burst: LIMITS.verifierBurst, refillMs: LIMITS.verifierRefillMs });
    this.#addressRates = new Rates(options.clock, { burst: LIMITS.verifierAddressBurst, refillMs: LIMITS.verifierAddressRefillMs });
  }

  /** One address gets its share of the connections, however slowly it uses them. */
  admit(socket: Socket): void {
    const address = socket.remoteAddress ?? '';
    const open = this.#connections.get(address) ?? 0;
    if (open >= LIMITS.verifierConnectionsPerAddressMax) {
      this.#options.counters.add('verifier.connections_dropped');
      socket.destroy();
      return;
    }
    this.#connections.set(address, open + 1);
    socket.once('close', () => {
      const left = (this.#connections.get(address) ?? 1) - 1;
      if (left === 0) this.#connections.delete(address);
      else this.#connections.set(address, left);
    });
  }

  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { counters } = this.#options;
    try {
      const { status, type, body } = await this.#respond(request);
      response.writeHead(status, { 'content-type': type, 'content-length': body.length }).end(body);
    } catch (error) {
      if (!(error instanceof TenzroError) || error.class === 'bug') throw error;
      counters.add(`verifier.error.${error.code}`);
      const body = encodeRefusal({ code: error.code, message: error.message, checks: [] });
      if (error.class === 'pushback') response.setHeader('retry-after', Math.ceil((error.retryAfterMs ?? RETRY_AFTER_DEFAULT_MS) / 1_000));
      // What was not read of the body must not be taken for the next request.
      response.writeHead(HTTP_OF.get(error.code) ?? HTTP.badRequest, { 'content-type': CBOR_MEDIA_TYPE, 'content-length': body.length, connection: 'close' }).end(body);
    }
  }

  /** An error that nobody foresaw: this client gets nothing, the others go on. */
  defect(error: unknown, response: ServerResponse): void {
    const { counters, log } = this.#options;
    counters.add('verifier.defects');
    log.error({ error: messageOf(error) }, 'a request failed in a way that nobody foresaw');
    if (response.headersSent) response.destroy();
    else response.writeHead(HTTP.failed, { connection: 'close' }).end();
  }

  async #respond(request: IncomingMessage): Promise<Answer> {
    const { service, status, log } = this.#options;
    const { socket, url = '', method } = request;
    this.#addressRates.take(socket.remoteAddress ?? '');
    if (url === LEASE_PATH.status) return method === 'GET' ? { status: HTTP.ok, type: 'application/json', body: Buffer.from(JSON.stringify(status())) } : plain(HTTP.methodNotAllowed, 'GET only\n');
    if (!Object.values<string>(LEASE_PATH).includes(url)) return plain(HTTP.notFound, 'see docs/reference/lease.md\n');
    if (method !== 'POST') return plain(HTTP.methodNotAllowed, 'POST only\n');
    const clientKey = clientKeyOf(socket);
    this.#clientRates.take(toHex(clientKey));
    this.#noteGroup(socket);
    let heldBytes = 0;
    const hold = (sizeBytes: number): void => {
      if (this.#bufferedBytes + sizeBytes > LIMITS.verifierBufferBytesMax) throw new TenzroError('verifier.busy', 'too many requests at once', { retryAfterMs: RETRY_AFTER_DEFAULT_MS });
      heldBytes += sizeBytes;
      this.#bufferedBytes += sizeBytes;
    };
    try {
      const body = await readBody(request, url === LEASE_PATH.appraise ? LIMITS.verifierBodyBytesMax : SMALL_BODY_BYTES_MAX, hold);
      log.debug({ url, client: toHex(clientKey), sizeBytes: body.length }, 'request');
      return await service.handle(url, clientKey, body) ?? plain(HTTP.notFound, 'nothing there\n');
    } finally {
      this.#bufferedBytes -= heldBytes;
    }
  }

  #noteGroup(socket: Socket): void {
    if (socket instanceof TLSSocket) this.#options.counters.add(`verifier.tls.${negotiatedGroup(socket)}`);
  }
}

/** SHA-256 of the client's ML-DSA-65 key. Throws `verifier.client`. */
function clientKeyOf(socket: Socket): Buffer {
  const certificate = socket instanceof TLSSocket ? socket.getPeerX509Certificate() : undefined;
  if (!certificate) throw new TenzroError('verifier.client', 'the client shows no certificate');
  const key = rawPublicKeyOf(certificate.publicKey);
  if (!key) throw new TenzroError('verifier.client', 'the client\'s certificate is not around an ML-DSA-65 key');
  return sha256(key);
}

/** Throws `verifier.too_large` as soon as it is, `verifier.request` for a body that ends early, and what `hold` throws when there is no room. */
async function readBody(request: IncomingMessage, maxBytes: number, hold: (sizeBytes: number) => void): Promise<Buffer> {
  const tooLarge = (): TenzroError => new TenzroError('verifier.too_large', `the request has more than ${maxBytes} bytes`);
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) throw tooLarge();
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      sizeBytes += chunk.length;
      if (sizeBytes > maxBytes) throw tooLarge();
      hold(chunk.length);
      chunks.push(chunk);
    }
  } catch (cause) {
    if (cause instanceof TenzroError) throw cause;
    throw new TenzroError('verifier.request', 'the request ended early', { cause });
  }
  return Buffer.concat(chunks, sizeBytes);
}

const plain = (status: number, text: string): Answer => ({ status, type: 'text/plain', body: Buffer.from(text) });

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      reject(new TenzroError(cause.code === 'EADDRINUSE' ? 'verifier.port_in_use' : 'core.system', `cannot listen on ${host}:${port}: ${messageOf(cause)}`, { cause }));
    });
    server.listen(port, host, resolve);
  });
}
