import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, statSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { join } from 'node:path';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { JsonObject } from '#runtime/core/json.ts';
import { joinApis, openApi, type Api } from '#runtime/controller/api.ts';
import { callController } from '#runtime/controller/apiClient.ts';
import { silentLog } from '#test/support/sealHarness.ts';
import { requirePeer } from '#test/support/peers.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const codeIs = (code: string) => (error: unknown): boolean => error instanceof TenzroError && error.code === code;

describe('controller: what the command line asks', () => {
  let dir: TempDir;
  let opened: AsyncDisposableStack;
  beforeEach(() => { dir = tempDir('api'); opened = new AsyncDisposableStack(); });
  afterEach(async () => { await opened.disposeAsync(); dir[Symbol.dispose](); });

  const open = async (api: Api, folder = dir.path) => opened.use(await openApi(folder, api, silentLog));

  it('passes parameters on, events as they come, and then the result', async () => {
    await open({
      'test.count': async ({ to }, { emit }) => {
        for (let at = 1; at <= Number(to); at++) emit({ at, text: 'a line\nof two' });
        return { counted: to ?? null };
      },
    });
    const events: JsonObject[] = [];
    assert.deepEqual(await callController(dir.path, 'test.count', { to: 3 }, { onEvent: (event) => { events.push(event); } }), { counted: 3 });
    assert.deepEqual(events, [1, 2, 3].map((at) => ({ at, text: 'a line\nof two' })));
  });

  it('is for the owner of the folder, and gone when it is closed', async () => {
    const api = await open({ 'test.nothing': async () => ({}) });
    assert.equal(statSync(api.path).mode & 0o777, 0o600);
    await assert.rejects(open({}), codeIs('controller.running'));
    await opened.disposeAsync();
    await assert.rejects(callController(dir.path, 'test.nothing', {}), codeIs('controller.offline'));
  });

  it('finds a place where the path of the folder is too long for a socket', async () => {
    const deep = join(dir.path, 'd'.repeat(120));
    mkdirSync(deep);
    await open({ 'test.nothing': async () => ({ deep: true }) }, deep);
    assert.deepEqual(await callController(deep, 'test.nothing', {}), { deep: true });
  });

  it('tells what went wrong, by code; a defect ends one call and no other', async () => {
    await open({
      'test.refuse': async () => { throw new TenzroError('controller.unknown', 'nobody is called edge-9'); },
      'test.defect': async () => { throw new TypeError('a defect'); },
    });
    await assert.rejects(callController(dir.path, 'test.defect', {}), codeIs('core.invariant'));
    await assert.rejects(callController(dir.path, 'test.refuse', {}), (error) => codeIs('controller.unknown')(error) && /edge-9/.test(String(error)));
    await assert.rejects(callController(dir.path, 'test.absent', {}), (error) => codeIs('controller.request')(error) && /test\.defect, test\.refuse/.test(String(error)));
    await assert.rejects(callController(dir.path, 'toString', {}), codeIs('controller.request'));
  });

  it('refuses what is no object, too deep, or too much, and goes on', async () => {
    const api = await open({ 'test.size': async (parameters) => ({ keys: Object.keys(parameters).length }) });
    const post = async (body: string | Buffer): Promise<string> => {
      const outgoing = request({ socketPath: api.path, path: '/api/test.size', method: 'POST' }).end(body);
      const [response] = (await once(outgoing, 'response')) as [AsyncIterable<Buffer>];
      let text = '';
      for await (const chunk of response) text += chunk.toString();
      return text;
    };
    for (const body of ['[]', '{', 'null', `${'{"a":'.repeat(17)}1${'}'.repeat(17)}`, Buffer.from([0x22, 0xff, 0x22])]) assert.match(await post(body), /^\{"error":\{"code":"controller\.request"/);
    assert.match(await post(Buffer.alloc(LIMITS.apiRequestBytesMax + 1, 0x20)), /more than \d+ bytes: hand it over in parts/);
    assert.equal(await post('{"a":1}'), '{"result":{"keys":1}}\n');
  });

  it('stops what nobody waits for any more', async () => {
    const stopped = Promise.withResolvers<void>();
    await open({
      'test.forever': (_parameters, { emit, signal }) => new Promise((resolve) => {
        signal.addEventListener('abort', () => { stopped.resolve(); resolve({}); });
        emit({ begun: true });
      }),
    });
    const asker = new AbortController();
    await assert.rejects(callController(dir.path, 'test.forever', {}, { signal: asker.signal, onEvent: () => { asker.abort(); } }), codeIs('controller.unanswered'));
    await stopped.promise;
  });

  it('says so when the controller ends in the middle', async () => {
    const begun = Promise.withResolvers<void>();
    await open({ 'test.forever': () => { begun.resolve(); return new Promise(() => undefined); } });
    const call = callController(dir.path, 'test.forever', {});
    await begun.promise;
    await Promise.all([assert.rejects(call, codeIs('controller.unanswered')), opened.disposeAsync()]);
  });

  it('cuts an asker that does not read', async () => {
    const cut = Promise.withResolvers<number>();
    const api = await open({
      'test.flood': async (_parameters, { emit, signal }) => {
        let lines = 0;
        for (; !signal.aborted; lines++) {
          emit({ filler: 'x'.repeat(64 * 1024) });
          if (lines % 16 === 0) await new Promise((resolve) => { setImmediate(resolve); });
        }
        cut.resolve(lines);
        return {};
      },
    });
    const outgoing = request({ socketPath: api.path, path: '/api/test.flood', method: 'POST' }).end('{}');
    outgoing.on('error', () => undefined);
    const lines = await cut.promise;
    outgoing.destroy();
    assert.ok(lines * 64 * 1024 < 2 * LIMITS.apiBacklogBytesMax + 1024 * 1024, `${lines} lines`);
  });

  it('replaces what a killed controller left', async () => {
    const path = join(dir.path, 'api.sock');
    const left = spawn(process.execPath, ['-e', `require('node:net').createServer().listen(${JSON.stringify(path)}, () => console.log('up'))`], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(left.stdout, 'data');
    left.kill('SIGKILL');
    await once(left, 'close');
    await open({ 'test.nothing': async () => ({}) });
    assert.deepEqual(await callController(dir.path, 'test.nothing', {}), {});
  });

  it('calls what answers something else unanswered', async () => {
    const server = createServer((_request, response) => { response.end('no\n'); }).listen(join(dir.path, 'api.sock'));
    await once(server, 'listening');
    try {
      await assert.rejects(callController(dir.path, 'test.nothing', {}), codeIs('controller.unanswered'));
    } finally {
      server.close();
    }
  });

  it('is spoken by any HTTP client', async function () {
    const curl = requirePeer(this, 'curl');
    const api = await open({ 'test.echo': async (parameters) => parameters });
    const child = spawn(curl, ['-s', '--unix-socket', api.path, '-d', '{"a":[1,2]}', 'http://controller/api/test.echo'], { stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) text += chunk.toString();
    assert.equal(text, '{"result":{"a":[1,2]}}\n');
  });

  it('does not join two parts that answer the same', () => {
    assert.throws(() => joinApis([{ 'a.b': async () => ({}) }, { 'a.b': async () => ({}) }]), codeIs('core.invariant'));
  });
});
