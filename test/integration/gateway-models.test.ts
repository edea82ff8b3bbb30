import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { OwnedGateway, Requester, type Message } from '#test/support/commandGateway.ts';
import { logLines, type Gateway } from '#test/support/gateway.ts';
import { MODELS_DIR } from '#test/support/inferHarness.ts';
import { dropping, packModel, sha256Hex, startModelServer } from '#test/support/modelServer.ts';
import { requirePeer } from '#test/support/peers.ts';
import { run } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

/** The real gateway, inference thread and ONNX Runtime; packages made by tar. */
describe('gateway: models by command', function () {
  this.timeout(120_000);
  let dir: TempDir;
  let owned: OwnedGateway;
  let gateway: Gateway;
  let requester: Requester;
  let archive: Buffer;

  const start = async (): Promise<void> => {
    gateway = await owned.start();
    requester = await Requester.of(gateway);
  };
  const install = async (id: string, parameters: Message, isDryRun = false): Promise<Message> => {
    await requester.publish('model_install', id, owned.sign('model_install', id, { parameters, isDryRun }));
    return requester.ended('model_install', id);
  };
  const inline = (bytes: Buffer, over: Message = {}): Message => ({ name: 'motor-vibration', inline: bytes.toString('base64'), bytes: bytes.length, sha256: sha256Hex(bytes), ...over });
  const running = async (): Promise<readonly string[]> => (await gateway.status())?.models.filter(({ provider }) => provider !== '').map(({ name, digest }) => `${name} ${digest.slice(0, 8)}`) ?? [];
  const packages = (): readonly string[] => readdirSync(join(owned.dataDir, 'models', '.packages'));

  before(async function () {
    requirePeer(this, 'mosquitto_pub');
    requirePeer(this, 'mosquitto_sub');
    dir = tempDir('models');
    owned = new OwnedGateway(dir.path);
    await owned.prepare();
    writeFileSync(owned.configFile, owned.configuration().replace('infer: { enabled: false }', `infer: { modelsDir: ${dir.path}/none }`));
    archive = await packModel(dir.path);
    await start();
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  it('fetches one from a server that breaks every connection, loads it without a restart, and records that', async () => {
    assert.deepEqual(await running(), []);
    await using server = await startModelServer(dropping(archive));
    const parameters = { name: 'motor-vibration', url: server.url, bytes: archive.length, sha256: sha256Hex(archive) };
    assert.deepEqual((await install('dry', parameters, true))['result'], { dry_run: true });
    assert.equal(server.requests.length, 0);
    const ended = await install('first', parameters);
    assert.deepEqual(ended['result'], { name: 'motor-vibration', sha256: sha256Hex(archive), effective: 'now' }, JSON.stringify(ended));
    assert.ok(server.requests.length >= 10);
    assert.equal((await running()).length, 1);
    assert.deepEqual((await logLines(owned.dataDir, ['--kind', 'model', '--limit', '1'])).map(({ body }) => (body as Message)['state']), ['running']);
    assert.deepEqual((await install('again', parameters))['result'], { name: 'motor-vibration', sha256: sha256Hex(archive), effective: 'already' });
  });

  it('refuses what does not load, or is not what was signed, and leaves the one in use alone', async () => {
    const before = await running();
    const broken = dir.path;
    const from = join(MODELS_DIR, 'motor-vibration');
    const onnx = readFileSync(join(from, 'model.onnx'));
    onnx.fill(0xff, 200, 1_200);
    writeFileSync(join(broken, 'model.onnx'), onnx);
    writeFileSync(join(broken, 'manifest.json'), readFileSync(join(from, 'manifest.json'), 'utf8').replace(sha256Hex(readFileSync(join(from, 'model.onnx'))), sha256Hex(onnx)));
    writeFileSync(join(broken, 'MODEL_CARD.md'), 'x');
    const bad = await packModel(dir.path, broken);
    const cases: readonly (readonly [string, string, Message])[] = [
      ['r1', 'model.invalid', inline(bad)], ['r2', 'model.digest', inline(archive, { sha256: 'ab'.repeat(32) })], ['r3', 'command.parameters', inline(archive, { bytes: 1 })],
      ['r4', 'model.manifest', inline(archive, { name: 'other' })], ['r5', 'command.parameters', inline(archive, { name: '../../escape' })], ['r6', 'model.archive', inline(Buffer.alloc(2_000, 'x'))],
      ['r7', 'command.parameters', inline(archive, { url: 'http://127.0.0.1:1/' })], ['r8', 'command.parameters', { name: 'motor-vibration', url: 'file:///etc/passwd', bytes: 9, sha256: 'ab'.repeat(32) }],
      ['r9', 'command.parameters', { name: 'absent', remove: true }], ['r10', 'command.parameters', inline(archive, { bytes: 10 ** 12 })],
    ];
    for (const [id, code, parameters] of cases) assert.match(String((await install(id, parameters))['reason']), new RegExp(`^${code.replace('.', '\\.')}`), id);
    assert.deepEqual(await running(), before);
    assert.deepEqual(packages(), [`motor-vibration-${sha256Hex(archive)}`]);
    assert.ok(!existsSync(join(owned.dataDir, 'escape')));
  });

  it('replaces it by one that judges otherwise, and is cancelled while it waits for a server', async () => {
    const other = join(dir.path, 'other');
    await run('cp', ['-r', join(MODELS_DIR, 'motor-vibration'), other]);
    writeFileSync(join(other, 'manifest.json'), readFileSync(join(other, 'manifest.json'), 'utf8').replace(/"version": "[^"]+"/, '"version": "9.9.9"'));
    const next = await packModel(dir.path, other);
    await using hanging = await startModelServer(() => undefined);
    await requester.publish('model_install', 'hang', owned.sign('model_install', 'hang', { parameters: { name: 'motor-vibration', url: hanging.url, bytes: next.length, sha256: sha256Hex(next) } }));
    await until('the request to come', () => hanging.requests.length > 0);
    await requester.publish('cancel', 'c1', owned.sign('cancel', 'c1', { parameters: { type: 'model_install', id: 'hang' } }));
    assert.match(String((await requester.ended('model_install', 'hang'))['reason']), /^command\.cancelled/);
    const ended = await install('next', inline(next));
    assert.deepEqual(ended['result'], { name: 'motor-vibration', sha256: sha256Hex(next), replaced: sha256Hex(archive), effective: 'now' }, JSON.stringify(ended));
    assert.deepEqual(packages(), [`motor-vibration-${sha256Hex(next)}`]);
  });

  it('killed at any point of an installation, it has the one or the other at the next start, and says which', async () => {
    const packed = [archive, await packModel(dir.path, join(dir.path, 'other'))];
    for (const [round, afterMs] of [0, 40, 90, 150, 220, 300, 400, 550].entries()) {
      const wanted = packed[round % 2] ?? archive;
      const id = `kill-${round}`;
      await requester.publish('model_install', id, owned.sign('model_install', id, { parameters: inline(wanted) }));
      await new Promise((resolve) => { setTimeout(resolve, afterMs); });
      await gateway.kill();
      await start();
      const ended = await requester.ended('model_install', id);
      const isIn = packages().includes(`motor-vibration-${sha256Hex(wanted)}`) && existsSync(join(owned.dataDir, 'models', 'motor-vibration', 'manifest.json'));
      if (ended['status'] === 'successful') assert.ok(isIn, `after ${afterMs} ms`);
      else assert.match(String(ended['reason']), /^command\.interrupted/, `after ${afterMs} ms: ${JSON.stringify(ended)}`);
      await gateway.until('the model to run', ({ models }) => models.some(({ provider }) => provider !== ''));
    }
  });

  it('removes it, and nothing runs', async () => {
    assert.deepEqual((await install('gone', { name: 'motor-vibration', remove: true }))['result'], { name: 'motor-vibration', removed: true });
    assert.deepEqual(await running(), []);
    assert.deepEqual(packages(), []);
    assert.deepEqual((await logLines(owned.dataDir, ['--kind', 'model', '--limit', '1'])).map(({ body }) => (body as Message)['state']), ['removed']);
    rmSync(join(dir.path, 'other'), { recursive: true });
  });
});
