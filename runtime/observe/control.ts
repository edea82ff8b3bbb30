/**
 * The control socket: HTTP over a unix socket in the data directory, for the owner only (0600). `GET /status`, `/metrics`, `/health`.
 * Reads only: nothing that it answers changes the gateway.
 */
import { chmod, mkdtemp, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { Maybe } from '#runtime/core/types.ts';
import { METRICS_CONTENT_TYPE, formatMetrics } from './metrics.ts';
import type { GatewayStatus } from './status.ts';

/** Not by `import`, which would read every export, and so load the HTTP client that fetch() is made of: 13 MB. */
const { createServer, request } = process.getBuiltinModule('node:http');

const SOCKET_NAME = 'control.sock';
/** Holds the socket's path where the data directory's own is too long. */
const POINTER_NAME = 'control.path';
/** unix(7): sun_path is 108 bytes with its NUL. */
const SOCKET_PATH_BYTES_MAX = 107;
const ANSWER_TIMEOUT_MS = 3_000;

export interface ControlOptions {
  readonly dataDir: string;
  readonly status: () => GatewayStatus;
}

export interface ControlSocket extends AsyncDisposable {
  /** Path of the socket. */
  readonly path: string;
}

/** Opens the socket; one that a killed gateway left behind is replaced. Throws `ledger.locked` when a living one answers, else `control.unavailable`. */
export async function openControl(options: ControlOptions): Promise<ControlSocket> {
  try {
    return await open(options);
  } catch (cause) {
    if (cause instanceof TenzroError) throw cause;
    throw new TenzroError('control.unavailable', `no control socket in ${options.dataDir}: ${messageOf(cause)}`, { cause });
  }
}

async function open(options: ControlOptions): Promise<ControlSocket> {
  await removeStale(options.dataDir);
  const path = await choosePath(options.dataDir);
  const server = createServer((incoming, response) => { answer(incoming, response, options.status); });
  await listen(server, path);
  await chmod(path, 0o600);
  return {
    path,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => { server.close(() => { resolve(); }); });
      await removeFiles(options.dataDir, path);
    },
  };
}

function answer(incoming: IncomingMessage, response: ServerResponse, status: () => GatewayStatus): void {
  const send = (code: number, type: string, body: string): void => { response.writeHead(code, { 'content-type': type, connection: 'close' }).end(body); };
  if (incoming.method !== 'GET') { send(405, 'text/plain', 'GET only\n'); return; }
  switch (incoming.url) {
    case '/status': send(200, 'application/json', JSON.stringify(status())); return;
    case '/metrics': send(200, METRICS_CONTENT_TYPE, formatMetrics(status(), process.memoryUsage.rss())); return;
    case '/health': {
      const { health, ready } = status();
      send(ready && health.ok ? 200 : 503, 'application/json', JSON.stringify(health));
      return;
    }
    default: send(404, 'text/plain', 'GET /status, /metrics or /health\n');
  }
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => { reject(new TenzroError('control.unavailable', `control socket ${path}: ${messageOf(cause)}`, { cause })); });
    server.listen(path, resolve);
  });
}

/** A path in the data directory, or in a fresh private folder for a data directory whose path is too long. */
async function choosePath(dataDir: string): Promise<string> {
  const own = join(dataDir, SOCKET_NAME);
  if (Buffer.byteLength(own) <= SOCKET_PATH_BYTES_MAX) return own;
  const folder = await mkdtemp(join(process.env['XDG_RUNTIME_DIR'] ?? tmpdir(), 'tenzro-'));
  const path = join(folder, SOCKET_NAME);
  await writeFile(join(dataDir, POINTER_NAME), path, { mode: 0o600 });
  return path;
}

async function removeStale(dataDir: string): Promise<void> {
  const path = await socketPath(dataDir);
  if (await isAlive(path)) throw new TenzroError('ledger.locked', `a gateway answers on ${path}`);
  await removeFiles(dataDir, path);
}

async function removeFiles(dataDir: string, path: string): Promise<void> {
  await rm(path, { force: true });
  if (dirname(path) === dataDir) return;
  await rm(join(dataDir, POINTER_NAME), { force: true });
  await rmdir(dirname(path)).catch((error: unknown) => { if (codeOf(error) !== 'ENOENT') throw error; });
}

/** Where the socket of `dataDir` is, whether or not anybody listens. */
async function socketPath(dataDir: string): Promise<string> {
  try {
    const pointed = await readFile(join(dataDir, POINTER_NAME), 'utf8');
    // Only a path of the form that we write is followed: what it names may be removed.
    if (/\/tenzro-[A-Za-z0-9]{6}\/control\.sock$/.test(pointed)) return pointed;
  } catch (error) {
    if (codeOf(error) !== 'ENOENT' && codeOf(error) !== 'ENOTDIR') throw error;
  }
  return join(dataDir, SOCKET_NAME);
}

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException).code;

function isAlive(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    if (Buffer.byteLength(path) > SOCKET_PATH_BYTES_MAX) { resolve(false); return; }
    const socket = connect(path);
    socket.once('connect', () => { socket.destroy(); resolve(true); });
    // Refused or absent: nobody listens. Forbidden or overloaded: somebody does.
    socket.once('error', (error) => { resolve(codeOf(error) === 'EACCES' || codeOf(error) === 'EAGAIN'); });
  });
}

/** The running gateway's status; `none` when no gateway runs on `dataDir`. Throws `control.unanswered` when one hangs. */
export async function readStatus(dataDir: string): Promise<Maybe<GatewayStatus>> {
  const path = await socketPath(dataDir);
  if (!(await isAlive(path))) return { kind: 'none', reason: `no gateway runs on ${dataDir}` };
  try {
    return { kind: 'value', value: JSON.parse(await get(path, '/status')) as GatewayStatus };
  } catch (cause) {
    throw new TenzroError('control.unanswered', `the gateway on ${dataDir} does not answer: ${messageOf(cause)}`, { cause });
  }
}

function get(socket: string, url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath: socket, path: url, signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS) }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => { chunks.push(chunk); });
      response.once('end', () => { resolve(Buffer.concat(chunks).toString('utf8')); });
      response.once('error', reject);
    });
    outgoing.once('error', reject).end();
  });
}
