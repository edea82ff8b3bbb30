/** Asks the controller that serves in a folder: the command line's side of api.ts. */
import { request } from 'node:http';
import { createInterface } from 'node:readline';
import { answeredSocket } from '#provisioning/ownSocket.ts';
import { TenzroError, messageOf, toldError } from '#runtime/core/errors.ts';
import { isJsonObject, type JsonObject } from '#runtime/core/json.ts';
import { API_PATH, API_SOCKET } from './api.ts';

export interface AskOptions {
  /** In order. MUST NOT throw. */
  readonly onEvent?: (event: JsonObject) => void;
  /** The controller is told, and stops what only the asker wanted. */
  readonly signal?: AbortSignal;
}

/** Rejects with what the controller says that is wrong, with `controller.offline` where none serves in `dir`, with `controller.unanswered` when it goes away. */
export async function callController(dir: string, method: string, parameters: JsonObject, { onEvent, signal }: AskOptions = {}): Promise<JsonObject> {
  const socketPath = await answeredSocket(dir, API_SOCKET);
  if (socketPath === undefined) throw new TenzroError('controller.offline', `no controller serves in ${dir}`);
  const body = Buffer.from(JSON.stringify(parameters));
  try {
    for await (const line of linesOf({ socketPath, path: `${API_PATH}${encodeURIComponent(method)}`, body, ...(signal ? { signal } : {}) })) {
      const told: unknown = JSON.parse(line);
      const { event, result, error } = isJsonObject(told) ? told : {};
      if (isJsonObject(event)) onEvent?.(event);
      if (isJsonObject(result)) return result;
      if (error !== undefined) throw toldError(error) ?? new TenzroError('controller.unanswered', `the controller answered with an error that this program does not know: ${JSON.stringify(error).slice(0, 400)}`);
    }
  } catch (cause) {
    if (cause instanceof TenzroError) throw cause;
    throw new TenzroError('controller.unanswered', `${method}: ${messageOf(cause)}`, { cause });
  }
  throw new TenzroError('controller.unanswered', `${method}: the controller ended in the middle of its answer`);
}

interface Question {
  readonly socketPath: string;
  readonly path: string;
  readonly body: Buffer;
  readonly signal?: AbortSignal;
}

async function* linesOf({ body, ...where }: Question): AsyncIterable<string> {
  const outgoing = request({ ...where, method: 'POST', headers: { 'content-length': body.length } });
  const { promise, resolve, reject } = Promise.withResolvers<NodeJS.ReadableStream>();
  outgoing.once('response', resolve).on('error', reject).end(body);
  using lines = createInterface({ input: await promise, crlfDelay: Infinity });
  yield* lines;
}
