import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { TenzroError } from '#runtime/core/errors.ts';
import { openControl, readStatus, requestFresh } from '#runtime/observe/control.ts';
import type { GatewayStatus } from '#runtime/observe/status.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const NEVER = new AbortController().signal;
const STATUS: GatewayStatus = {
  ready: true, node: 'n', version: '0', pid: process.pid, uptimeMs: 1_500, dataDir: '/d', chain: { id: null, entries: 3, blocks: 0, attestedEntries: 0, lastBlockAt: null },
  trust: { level: 'none', reason: 'r' }, anchor: null, blocksSealed: 0, update: null,
  identity: { state: 'unasked', code: null, detail: null, hint: null, protection: null, unprotected: null, authority: null, signingKeyDigest: null, createdAt: null, tpmOwned: null, request: null },
  claim: { state: 'unclaimed', port: null, discriminators: [], words: null, claimId: null, generation: 0, code: null, detail: null }, portal: { state: 'disabled', url: null, last: null, code: null, detail: null }, lease: null, fleet: { upstreams: [], commands: [], owner: null, clock: { state: 'unrefuted', wall: '2026-11-23T00:00:00.000Z', provable: '2026-11-23T00:00:00.000Z' } }, broker: { listeners: [], clients: 2 }, models: [], health: { ok: true, stalled: [] }, board: [], counters: { 'ingest.rejected.json': 4 },
};

const none = (): Promise<Uint8Array> => Promise.reject(new TenzroError('attest.too_many_challenges', 'not in this test'));

function get(socketPath: string, path: string, method = 'GET', sent = ''): Promise<{ code: number | undefined; body: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ code: number | undefined; body: string }>();
  request({ socketPath, path, method }, (response) => {
    let body = '';
    response.setEncoding('utf8').on('data', (text: string) => { body += text; }).on('end', () => { resolve({ code: response.statusCode, body }); });
  }).on('error', reject).end(sent);
  return promise;
}

describe('observe: control socket', () => {
  let dir: TempDir;
  beforeEach(() => { dir = tempDir('control'); });
  afterEach(() => { dir[Symbol.dispose](); });

  it('answers its owner, and is gone when closed', async () => {
    const control = await openControl({ dataDir: dir.path, status: () => STATUS, freshBundle: none });
    assert.equal(statSync(control.path).mode & 0o777, 0o600);
    assert.deepEqual(await readStatus(dir.path), { kind: 'value', value: STATUS });
    assert.match((await get(control.path, '/metrics')).body, /^# TYPE tenzro_chain_entries gauge\ntenzro_chain_entries 3\n[^]*tenzro_ingest_rejected_json 4\n/m);
    assert.equal((await get(control.path, '/health')).code, 200);
    assert.equal((await get(control.path, '/other')).code, 404);
    assert.equal((await get(control.path, '/status', 'POST')).code, 405);
    await control[Symbol.asyncDispose]();
    assert.equal(existsSync(control.path), false);
    assert.equal((await readStatus(dir.path)).kind, 'none');
  });

  it('says 503 when something is stalled, or while it starts', async () => {
    let status: GatewayStatus = { ...STATUS, health: { ok: false, stalled: [{ name: 'infer', behind: 9, stalledMs: 60_000 }] } };
    await using control = await openControl({ dataDir: dir.path, status: () => status, freshBundle: none });
    const stalled = await get(control.path, '/health');
    assert.equal(stalled.code, 503);
    assert.match(stalled.body, /infer/);
    status = { ...STATUS, ready: false };
    assert.equal((await get(control.path, '/health')).code, 503);
  });

  it('passes a challenge on, and its answer or refusal back', async () => {
    const nonce = Buffer.alloc(32, 7);
    const asked: unknown[] = [];
    {
      await using control = await openControl({ dataDir: dir.path, status: () => STATUS, freshBundle: (given, options) => { asked.push([Buffer.from(given).toString('hex'), options]); return Promise.resolve(Buffer.from('proof')); } });
      assert.deepEqual(await requestFresh(dir.path, nonce, 4, NEVER), { kind: 'value', value: Buffer.from('proof') });
      assert.equal(existsSync(control.path), true);
      assert.deepEqual(asked, [['07'.repeat(32), { from: 4 }]]);
    }
    assert.equal((await requestFresh(dir.path, nonce, 4, NEVER)).kind, 'none');
    await using control = await openControl({ dataDir: dir.path, status: () => STATUS, freshBundle: none });
    await assert.rejects(requestFresh(dir.path, nonce, 4, NEVER), { code: 'attest.too_many_challenges' });
    for (const body of ['', '{', '[]', '{"nonce":"xyz"}', '{"nonce":"AB"}', '{"nonce":"ab","from":"1"}', JSON.stringify({ nonce: 'ab'.repeat(600) })]) {
      const { code, body: told } = await get(control.path, '/challenge', 'POST', body);
      assert.equal(code, 400, body);
      assert.match(told, /attest\.challenge_malformed/);
    }
  });

  it('replaces what a killed gateway left, and refuses beside a living one', async () => {
    const socket = join(dir.path, 'control.sock');
    const script = `require('node:net').createServer().listen(${JSON.stringify(socket)}, () => process.kill(process.pid, 'SIGKILL'))`;
    assert.equal(spawnSync(process.execPath, ['-e', script]).signal, 'SIGKILL');
    assert.equal(existsSync(socket), true, 'kill -9 leaves the socket');
    assert.equal((await readStatus(dir.path)).kind, 'none');
    await using control = await openControl({ dataDir: dir.path, status: () => STATUS, freshBundle: none });
    assert.equal((await readStatus(dir.path)).kind, 'value');
    await assert.rejects(openControl({ dataDir: dir.path, status: () => STATUS, freshBundle: none }), (error) => error instanceof TenzroError && error.code === 'ledger.locked');
    assert.equal(existsSync(control.path), true, 'the living one keeps its socket');
  });

  it('finds a place for the socket of a data directory with a long path', async () => {
    const dataDir = join(dir.path, 'd'.repeat(120));
    mkdirSync(dataDir);
    const control = await openControl({ dataDir, status: () => STATUS, freshBundle: none });
    assert.ok(Buffer.byteLength(control.path) <= 107);
    assert.equal(readFileSync(join(dataDir, 'control.path'), 'utf8'), control.path);
    assert.equal(statSync(dirname(control.path)).mode & 0o777, 0o700);
    assert.equal((await readStatus(dataDir)).kind, 'value');
    await control[Symbol.asyncDispose]();
    assert.equal(existsSync(dirname(control.path)), false);
    assert.equal((await readStatus(dataDir)).kind, 'none');
  });

  it('tells a gateway that hangs from one that is not there', async () => {
    const server = createServer((socket) => { socket.on('data', () => { socket.destroy(); }); }).listen(join(dir.path, 'control.sock'));
    await once(server, 'listening');
    await assert.rejects(readStatus(dir.path), (error) => error instanceof TenzroError && error.code === 'control.unanswered');
    server.close();
  });
});
