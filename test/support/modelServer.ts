/** A model package as it travels, made by tar itself, and an HTTP server that is as bad as a test wants. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { MODELS_DIR } from './inferHarness.ts';
import { run } from './process.ts';

/** The package that comes with the application, as `docs/reference/commands.md` says to pack it. */
export async function packModel(folder: string, from = join(MODELS_DIR, 'motor-vibration')): Promise<Buffer> {
  const file = join(folder, 'model.tar');
  const { code, output } = await run('tar', ['-cf', file, '-C', from, 'manifest.json', 'model.onnx', 'MODEL_CARD.md']);
  if (code !== 0) throw new Error(output);
  return readFileSync(file);
}

export const sha256Hex = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

export type Answer = (request: IncomingMessage, response: ServerResponse, count: number) => void;

export interface ModelServer extends AsyncDisposable {
  readonly url: string;
  readonly requests: IncomingMessage[];
}

export async function startModelServer(answer: Answer): Promise<ModelServer> {
  const requests: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    requests.push(request);
    answer(request, response, requests.length);
  });
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/model.tar`, requests,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => { server.close(() => resolve()); });
    },
  };
}

/** Serves Ranges of `bytes`, and breaks the connection after each tenth of them. */
export const dropping = (bytes: Buffer): Answer => ({ headers: { range = '' } }, response) => {
  const from = Number(/^bytes=(\d+)-$/.exec(range)?.[1] ?? 0);
  const to = Math.min(bytes.length, from + Math.ceil(bytes.length / 10));
  response.writeHead(from > 0 ? 206 : 200, { 'content-length': bytes.length - from, ...(from > 0 ? { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {}) });
  if (to === bytes.length) response.end(bytes.subarray(from));
  else response.write(bytes.subarray(from, to), () => response.destroy());
};
