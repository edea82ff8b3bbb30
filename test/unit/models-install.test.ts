import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readArchive } from '#models/archive.ts';
import { checkUrl, fetchFile } from '#models/fetch.ts';
import { InstalledModels } from '#models/installed.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { Modelling } from '#runtime/modelling.ts';
import { MODELS_DIR } from '#test/support/inferHarness.ts';
import { dropping, packModel, sha256Hex, startModelServer } from '#test/support/modelServer.ts';
import { run } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

describe('models: packages on their way', () => {
  let dir: TempDir;
  const at = (name: string): string => join(dir.path, name);
  beforeEach(() => { dir = tempDir('models-install'); });
  afterEach(() => dir[Symbol.dispose]());

  it('reads what tar made', async () => {
    const files = readArchive(await packModel(dir.path));
    assert.deepEqual([...files.keys()], ['manifest.json', 'model.onnx', 'MODEL_CARD.md']);
    assert.deepEqual(files.get('model.onnx'), readFileSync(join(MODELS_DIR, 'motor-vibration', 'model.onnx')));
  });

  it('refuses every archive that says more than a package', async () => {
    const good = await packModel(dir.path);
    const tar = async (args: readonly string[]): Promise<Buffer> => {
      const { code, output } = await run('tar', ['-cf', at('odd.tar'), '-C', dir.path, ...args]);
      assert.equal(code, 0, output);
      return readFileSync(at('odd.tar'));
    };
    mkdirSync(at('folder'));
    writeFileSync(at('model.onnx'), 'x');
    writeFileSync(at('other'), 'x');
    symlinkSync('/etc/passwd', at('manifest.json'));
    const huge = Buffer.from(good);
    huge.write('77777777777', 124, 'latin1');
    const sum = huge.subarray(0, 512).reduce((total, byte, i) => total + (i >= 148 && i < 156 ? 32 : byte), 0);
    huge.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    const cases: readonly (readonly [string, Buffer])[] = [
      ['a path that leads out', await tar(['-P', '--transform', 's|other|../../other|', 'other'])], ['a folder', await tar(['folder'])], ['another file', await tar(['other'])], ['a link', await tar(['manifest.json'])],
      ['a file too few', await tar(['model.onnx'])], ['a file twice', Buffer.concat([good.subarray(0, -10_240), good])], ['a wrong checksum', Buffer.concat([Buffer.from('n'), good.subarray(1)])],
      ['nothing', Buffer.alloc(0)], ['cut short', good.subarray(0, 3_000)], ['more behind it', Buffer.concat([good, Buffer.alloc(100_000)])], ['8 GiB in a header', huge],
    ];
    for (const [what, archive] of cases) assert.throws(() => readArchive(archive), { code: what === '8 GiB in a header' ? 'model.too_large' : 'model.archive' }, what);
  });

  it('fetches from a server that breaks the connection at every tenth, each byte once', async function () {
    this.timeout(20_000);
    const bytes = await packModel(dir.path);
    await using server = await startModelServer(dropping(bytes));
    await fetchFile({ url: server.url, bytes: bytes.length, file: at('part') }, AbortSignal.timeout(15_000));
    assert.equal(sha256Hex(readFileSync(at('part'))), sha256Hex(bytes));
    assert.ok(server.requests.length >= 10, `${server.requests.length} requests`);
    assert.ok(server.requests.slice(1).every(({ headers }) => headers.range !== undefined), 'it went on where it was');
  });

  it('starts over with a server that knows no Range, and tries passing errors again', async () => {
    const bytes = await packModel(dir.path);
    writeFileSync(at('part'), bytes.subarray(0, 100));
    await using server = await startModelServer((_request, response, count) => {
      response.statusCode = count === 1 ? 503 : 200;
      response.end(count === 1 ? '' : bytes);
    });
    await fetchFile({ url: server.url, bytes: bytes.length, file: at('part') }, AbortSignal.timeout(10_000));
    assert.equal(sha256Hex(readFileSync(at('part'))), sha256Hex(bytes));
    assert.equal(server.requests.length, 2);
  });

  it('gives up at once what will not change, and keeps no more than was signed', async () => {
    const answers = [
      [404, {}, ''], [302, { location: 'http://127.0.0.1:1/secret' }, ''], [200, {}, 'x'.repeat(101)], [200, { 'content-length': '5000000000' }, ''],
      [200, { 'content-encoding': 'gzip' }, 'x'], [206, { 'content-range': 'bytes 7-99/100' }, 'x'.repeat(93)], [200, { 'content-length': '50' }, 'x'.repeat(50)],
    ] as const;
    for (const [status, headers, body] of answers) {
      await using server = await startModelServer((_request, response) => {
        response.writeHead(status, headers);
        if (body === '') response.flushHeaders();
        response.write(body);
        if (!('content-length' in headers) || body !== '') response.end();
      });
      await assert.rejects(fetchFile({ url: server.url, bytes: 100, file: at('part') }, AbortSignal.timeout(10_000)), { code: 'model.source' }, `HTTP ${status} ${JSON.stringify(headers)}`);
      assert.ok(!existsSync(at('part')) || readFileSync(at('part')).length <= 100);
    }
  });

  it('ends when nobody wants it any more', async () => {
    await using server = await startModelServer((_request, response) => { response.statusCode = 503; response.end(); });
    await assert.rejects(fetchFile({ url: server.url, bytes: 100, file: at('part') }, AbortSignal.timeout(400)), { name: 'AbortError' });
    assert.ok(server.requests.length <= 4, `${server.requests.length} requests in 400 ms`);
  });

  it('reaches http and https without a login, and nothing else', () => {
    for (const url of ['http://10.0.0.1/m.tar', 'https://models.example/m.tar?v=2']) checkUrl(url);
    for (const url of ['file:///etc/shadow', 'ftp://host/m', 'data:,x', 'https://user:secret@host/m', 'http://user@host/', 'm.tar', `http://h/${'x'.repeat(3_000)}`]) assert.throws(() => checkUrl(url), { code: 'command.parameters' });
  });
});

describe('models: installed packages', () => {
  it('points names at packages in one step, and sweeps what nobody uses', async () => {
    using dir = tempDir('models-installed');
    const store = new InstalledModels(dir.path);
    const files = readArchive(await packModel(dir.path));
    assert.deepEqual(store.names(), []);
    store.unpack('a-1', files);
    store.unpack('a-2', files);
    store.point('a', 'a-1');
    store.point('a', 'a-2');
    assert.equal(store.current('a'), 'a-2');
    assert.deepEqual(store.names(), ['a']);
    store.sweep();
    assert.ok(existsSync(join(dir.path, '.packages', 'a-2')) && !existsSync(join(dir.path, '.packages', 'a-1')));
    store.point('a', undefined);
    assert.equal(store.current('a'), undefined);
  });

  it('points back where inference does not come up with it, or nobody wants it any more', async function () {
    this.timeout(10_000);
    using dir = tempDir('models-back');
    const archive = await packModel(dir.path);
    const order = { name: 'motor-vibration', sha256: sha256Hex(archive), bytes: archive.length, from: { inline: archive } };
    const settings = { enabled: true, modelsDir: dir.path, models: [], runtimeDir: '' };
    const store = new InstalledModels(join(dir.path, 'models'));
    store.unpack('motor-vibration-before', readArchive(archive));
    store.point('motor-vibration', 'motor-vibration-before');
    const seen: (string | undefined)[] = [];
    const modelling = new Modelling(dir.path, settings, { reload: async () => { seen.push(store.current('motor-vibration')); return []; } });
    await assert.rejects(modelling.install(order, new AbortController().signal), { code: 'model.run' });
    const cancelled = new AbortController();
    const unwanted = new Modelling(dir.path, settings, { reload: async () => { cancelled.abort(); return [{ name: 'motor-vibration', digest: '', provider: 'cpu', state: { kind: 'value', value: 'running' } }]; } });
    await assert.rejects(unwanted.install(order, cancelled.signal), { name: 'AbortError' });
    assert.deepEqual(seen, [`motor-vibration-${order.sha256}`, 'motor-vibration-before']);
    assert.equal(store.current('motor-vibration'), 'motor-vibration-before');
  });

  it('refuses what the disk has no room for', () => {
    using dir = tempDir('models-space');
    new InstalledModels(dir.path).checkSpace(LIMITS.modelBytesMax);
    assert.throws(() => new InstalledModels(dir.path).checkSpace(2 ** 50), { code: 'model.space' });
  });
});
