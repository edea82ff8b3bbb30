/**
 * What the command line may ask of the running controller: HTTP over a unix socket in its folder, for the folder's owner only. `POST /api/<method>` with a JSON
 * object is answered with lines of JSON: `{"event":…}` any number of times, then `{"result":…}` or `{"error":{code,message,hint}}`.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { listenInFolder, type OwnSocket } from '#provisioning/ownSocket.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { isJsonObject, parseBoundedJson, type JsonObject } from '#runtime/core/json.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Log } from '#runtime/core/ports.ts';

export interface ApiCall {
  /** Said while it works, in order: progress, one line each. */
  readonly emit: (event: JsonObject) => void;
  /** Whoever asked is gone, or the controller stops. */
  readonly signal: AbortSignal;
}

/** Rejects with a TenzroError: bad parameters are `controller.request`. */
export type ApiMethod = (parameters: JsonObject, call: ApiCall) => Promise<JsonObject>;

/** By name, `room.verb`: `gateways.list`, `commands.submit`, `rollouts.start`. */
export type Api = Readonly<Record<string, ApiMethod>>;

export const API_SOCKET = 'api';
export const API_PATH = '/api/';
const NDJSON = 'application/x-ndjson';
const BOUNDS = { bytesMax: LIMITS.apiRequestBytesMax, depthMax: 16, valuesMax: LIMITS.apiRequestValuesMax } as const;

/** Throws `core.invariant` for a name that two parts have. */
export function joinApis(apis: readonly Api[]): Api {
  const methods: Record<string, ApiMethod> = {};
  for (const api of apis) {
    for (const [name, method] of Object.entries(api)) {
      if (Object.hasOwn(methods, name)) throw new TenzroError('core.invariant', `two parts of the controller answer ${name}`);
      methods[name] = method;
    }
  }
  return methods;
}

/** Throws `controller.running` where another controller answers in `dir`, and `controller.directory` where the socket cannot be made. */
export async function openApi(dir: string, api: Api, log: Log): Promise<OwnSocket> {
  const desk = new Desk(api, log);
  const server = createServer((request, response) => { void desk.answer(request, response); });
  server.requestTimeout = LIMITS.apiRequestTimeoutMs;
  server.maxConnections = LIMITS.apiConnectionsMax;
  try {
    return await listenInFolder(server, dir, { name: API_SOCKET, taken: (path) => new TenzroError('controller.running', `a controller answers on ${path}`) });
  } catch (cause) {
    if (cause instanceof TenzroError) throw cause;
    throw new TenzroError('controller.directory', `no socket in ${dir}: ${messageOf(cause)}`, { cause });
  }
}

class Desk {
  readonly #api: Api;
  readonly #log: Log;
  #heldBytes = 0;

  constructor(api: Api, log: Log) {
    this.#api = api;
    this.#log = log;
  }

  /** Never rejects: what goes wrong is told to who asked. */
  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const gone = new AbortController();
    response.once('close', () => { gone.abort(); }); // also at the end of the answer: then nobody looks
    response.writeHead(200, { 'content-type': NDJSON, connection: 'close' });
    const say = (line: JsonObject): void => {
      if (response.destroyed) return;
      response.write(`${JSON.stringify(line)}\n`);
      if (response.writableLength > LIMITS.apiBacklogBytesMax) response.destroy();
    };
    try {
      const method = this.#methodOf(request);
      const result = await method(await this.#parametersOf(request), { emit: (event) => { say({ event }); }, signal: gone.signal });
      response.end(`${JSON.stringify({ result })}\n`);
    } catch (error) {
      const told = error instanceof TenzroError ? error : new TenzroError('core.invariant', messageOf(error), { cause: error });
      if (told.class === 'bug' && !gone.signal.aborted) this.#log.error({ code: told.code, stack: error instanceof Error ? error.stack : undefined }, told.message);
      response.end(`${JSON.stringify({ error: { code: told.code, message: told.message, hint: told.hint } })}\n`);
    }
  }

  #methodOf({ method, url = '' }: IncomingMessage): ApiMethod {
    const name = url.startsWith(API_PATH) ? url.slice(API_PATH.length) : '';
    const found = method === 'POST' && Object.hasOwn(this.#api, name) ? this.#api[name] : undefined;
    if (!found) throw new TenzroError('controller.request', `this controller has no method '${name.slice(0, 80)}'; it has ${Object.keys(this.#api).toSorted().join(', ')}`);
    return found;
  }

  /** Too much is read to its end and forgotten: who still writes does not hear why it is refused. */
  async #parametersOf(request: IncomingMessage): Promise<JsonObject> {
    const chunks: Buffer[] = [];
    let [bytes, fault]: [number, TenzroError | undefined] = [0, undefined];
    try {
      for await (const chunk of request as AsyncIterable<Buffer>) {
        fault ??= this.#faultOf(bytes + chunk.length, chunk.length);
        if (fault) continue;
        bytes += chunk.length;
        this.#heldBytes += chunk.length;
        chunks.push(chunk);
      }
      if (fault) throw fault;
      const value = bytes === 0 ? {} : parseBoundedJson(Buffer.concat(chunks), BOUNDS, (why) => new TenzroError('controller.request', `the parameters: ${why}`));
      if (!isJsonObject(value)) throw new TenzroError('controller.request', 'the parameters are not a JSON object');
      return value;
    } finally {
      this.#heldBytes -= bytes;
    }
  }

  #faultOf(bytes: number, more: number): TenzroError | undefined {
    if (bytes > LIMITS.apiRequestBytesMax) return new TenzroError('controller.request', `a request of more than ${LIMITS.apiRequestBytesMax} bytes: hand it over in parts`);
    return this.#heldBytes + more > LIMITS.apiBufferBytesMax ? new TenzroError('queue.full', 'the controller reads as much as it may at once', { retryAfterMs: 1_000 }) : undefined;
  }
}
