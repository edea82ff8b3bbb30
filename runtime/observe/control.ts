/**
 * The control socket: HTTP over a unix socket in the data directory, for the owner only (0600). `GET /status`, `/metrics`, `/health`; `POST /challenge`
 * seals a block over the asker's nonce and answers with its proof bundle: the only request that changes anything, and it is bounded.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { answeredSocket, listenInFolder, type OwnSocket } from '#provisioning/ownSocket.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { TenzroError, messageOf, toldError, type ErrorClass } from '#runtime/core/errors.ts';
import type { Maybe } from '#runtime/core/types.ts';
import { METRICS_CONTENT_TYPE, formatMetrics } from './metrics.ts';
import type { GatewayStatus } from './status.ts';

/** Not by `import`, which would read every export, and so load the HTTP client that fetch() is made of: 13 MB. */
const { createServer, request } = process.getBuiltinModule('node:http');

const SOCKET_NAME = 'control';
const ANSWER_TIMEOUT_MS = 3_000;
/** A block under way is waited for, and a TPM that takes its time. */
const CHALLENGE_TIMEOUT_MS = 60_000;
const CHALLENGE_BYTES_MAX = 1_024;
const JSON_TYPE = 'application/json';

export interface ControlOptions {
  readonly dataDir: string;
  readonly status: () => GatewayStatus;
  /** A proof bundle whose head answers `nonce`; `from`: sequence of a block that the asker knows. Rejects with a TenzroError. */
  readonly freshBundle: (nonce: Uint8Array, options: { readonly from?: number }) => Promise<Uint8Array>;
}

/** Opens the socket; one that a killed gateway left behind is replaced. Throws `ledger.locked` when a living one answers, else `control.unavailable`. */
export async function openControl(options: ControlOptions): Promise<OwnSocket> {
  const { dataDir } = options;
  const server = createServer((incoming, response) => { answer(incoming, response, options); });
  try {
    return await listenInFolder(server, dataDir, { name: SOCKET_NAME, taken: (path) => new TenzroError('ledger.locked', `a gateway answers on ${path}`) });
  } catch (cause) {
    if (cause instanceof TenzroError) throw cause;
    throw new TenzroError('control.unavailable', `no control socket in ${dataDir}: ${messageOf(cause)}`, { cause });
  }
}

function answer(incoming: IncomingMessage, response: ServerResponse, { status, freshBundle }: ControlOptions): void {
  const send: Send = (code, type, body) => { response.writeHead(code, { 'content-type': type, connection: 'close' }).end(body); };
  if (incoming.method === 'POST' && incoming.url === '/challenge') { void answerChallenge(incoming, send, freshBundle); return; }
  if (incoming.method !== 'GET') { send(405, 'text/plain', 'GET, or POST /challenge\n'); return; }
  switch (incoming.url) {
    case '/status': send(200, JSON_TYPE, JSON.stringify(status())); return;
    case '/metrics': send(200, METRICS_CONTENT_TYPE, formatMetrics(status(), process.memoryUsage.rss())); return;
    case '/health': {
      const { health, ready } = status();
      send(ready && health.ok ? 200 : 503, JSON_TYPE, JSON.stringify(health));
      return;
    }
    default: send(404, 'text/plain', 'GET /status, /metrics or /health; POST /challenge\n');
  }
}

type Send = (code: number, type: string, body: string | Uint8Array) => void;
/** RFC 9110 §15: by the class of the error. */
const HTTP_STATUS: Readonly<Record<ErrorClass, number>> = { usage: 400, input: 400, pushback: 429, environment: 503, bug: 500 };

/** Never rejects: what goes wrong is told to who asked. */
async function answerChallenge(incoming: IncomingMessage, send: Send, freshBundle: ControlOptions['freshBundle']): Promise<void> {
  try {
    const { nonce, from } = parseChallenge(await readBody(incoming));
    send(200, 'application/octet-stream', await freshBundle(nonce, from === undefined ? {} : { from }));
  } catch (error) {
    const told = error instanceof TenzroError ? error : new TenzroError('core.invariant', messageOf(error), { cause: error });
    send(HTTP_STATUS[told.class], JSON_TYPE, JSON.stringify({ error: { code: told.code, message: told.message, hint: told.hint } }));
  }
}

async function readBody(incoming: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length;
    if (sizeBytes > CHALLENGE_BYTES_MAX) throw new TenzroError('attest.challenge_malformed', `more than ${CHALLENGE_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function parseChallenge(text: string): { readonly nonce: Uint8Array; readonly from?: number } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new TenzroError('attest.challenge_malformed', 'not JSON', { cause });
  }
  const { nonce, from } = typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
  if (typeof nonce !== 'string' || !/^(?:[0-9a-f]{2})+$/.test(nonce)) throw new TenzroError('attest.challenge_malformed', 'nonce is not lower-case hexadecimal');
  if (from === undefined) return { nonce: Buffer.from(nonce, 'hex') };
  if (typeof from !== 'number') throw new TenzroError('attest.challenge_malformed', 'from is not a number');
  return { nonce: Buffer.from(nonce, 'hex'), from };
}

/** The running gateway's status; `none` when no gateway runs on `dataDir`. Throws `control.unanswered` when one hangs. */
export async function readStatus(dataDir: string): Promise<Maybe<GatewayStatus>> {
  const path = await answeredSocket(dataDir, SOCKET_NAME);
  if (path === undefined) return { kind: 'none', reason: `no gateway runs on ${dataDir}` };
  try {
    const { body } = await ask(path, { method: 'GET', url: '/status', timeoutMs: ANSWER_TIMEOUT_MS });
    return { kind: 'value', value: JSON.parse(body.toString('utf8')) as GatewayStatus };
  } catch (cause) {
    throw unanswered(dataDir, cause);
  }
}

/**
 * The running gateway's answer to our challenge: a proof bundle. `none` when no gateway runs on `dataDir`. Throws what the gateway says that is wrong, and
 * `control.unanswered` when it hangs.
 */
export async function requestFresh(dataDir: string, nonce: Uint8Array, from: number, signal: AbortSignal): Promise<Maybe<Uint8Array>> {
  const path = await answeredSocket(dataDir, SOCKET_NAME);
  if (path === undefined) return { kind: 'none', reason: `no gateway runs on ${dataDir}` };
  const answered = await ask(path, { method: 'POST', url: '/challenge', timeoutMs: CHALLENGE_TIMEOUT_MS, signal, text: JSON.stringify({ nonce: toHex(nonce), from }) })
    .catch((cause: unknown) => { throw unanswered(dataDir, cause); });
  if (answered.status === 200) return { kind: 'value', value: answered.body };
  throw toldIn(answered.body) ?? unanswered(dataDir, new Error(`HTTP status ${answered.status}`));
}

const unanswered = (dataDir: string, cause: unknown): TenzroError => new TenzroError('control.unanswered', `the gateway on ${dataDir} does not answer: ${messageOf(cause)}`, { cause });

function toldIn(body: Buffer): TenzroError | undefined {
  try {
    return toldError((JSON.parse(body.toString('utf8')) as { readonly error?: unknown }).error);
  } catch {
    return undefined; // then the status alone tells
  }
}

interface Question {
  readonly method: 'GET' | 'POST';
  readonly url: string;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  readonly text?: string;
}

function ask(socket: string, { method, url, timeoutMs, signal, text = '' }: Question): Promise<{ readonly status: number; readonly body: Buffer }> {
  return new Promise((resolve, reject) => {
    const timeout = AbortSignal.timeout(timeoutMs);
    const outgoing = request({ socketPath: socket, path: url, method, signal: signal ? AbortSignal.any([signal, timeout]) : timeout }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => { chunks.push(chunk); });
      response.once('end', () => { resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks) }); });
      response.once('error', reject);
    });
    outgoing.once('error', reject).end(text);
  });
}
