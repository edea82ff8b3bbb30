import assert from 'node:assert/strict';
import { cp, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseManifest } from '#models/manifest.ts';
import { listPackages, loadPackage } from '#models/package.ts';
import { openSession } from '#models/session.ts';
import { onnxModel, onnxNode, onnxTensor, onnxValue } from '#models/onnxWriter.ts';
import { toHex } from '#runtime/core/bytes.ts';
import type { ErrorCode } from '#runtime/core/errors.ts';
import { sha256 } from '#runtime/crypto/hash.ts';

const MODELS = join(import.meta.dirname, '..', '..', 'models');
const NAME = 'motor-vibration';
type Json = Record<string, unknown>;

describe('models: a package is taken whole or not at all', () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'tenzro-models-'));
    await cp(join(MODELS, NAME), join(dir, NAME), { recursive: true });
  });
  afterEach(() => rm(dir, { recursive: true }));

  const onnxFile = () => join(dir, NAME, 'model.onnx');
  const manifestFile = () => join(dir, NAME, 'manifest.json');
  const edit = async (change: (manifest: Json) => void) => {
    const manifest = JSON.parse(await readFile(manifestFile(), 'utf8')) as Json;
    change(manifest);
    await writeFile(manifestFile(), JSON.stringify(manifest));
  };
  const replaceModel = async (bytes: Buffer) => {
    await writeFile(onnxFile(), bytes);
    await edit((manifest) => { manifest['sha256'] = toHex(sha256(bytes)); });
  };
  const open = async () => { await using session = await openSession(await loadPackage(dir, NAME)); assert.ok(session.provider); };
  const refuses = (code: ErrorCode, message?: RegExp) => assert.rejects(open, { name: 'TenzroError', code, ...(message ? { message } : {}) });

  it('opens, and says which provider runs it', async () => {
    await using session = await openSession(await loadPackage(dir, NAME));
    assert.match(session.provider, /^(cpu|cuda)$/);
    assert.deepEqual(await listPackages(dir), [NAME]);
  });

  it('lists nothing where there is no folder', async () => assert.deepEqual(await listPackages(join(dir, 'absent')), []));

  it('refuses a truncated model', async () => {
    await truncate(onnxFile(), 3_000);
    await refuses('model.digest', /3000 bytes/);
  });

  it('refuses one flipped byte', async () => {
    const bytes = await readFile(onnxFile());
    bytes.writeUInt8(bytes.readUInt8(2_000) ^ 1, 2_000);
    await writeFile(onnxFile(), bytes);
    await refuses('model.digest');
  });

  it('refuses a truncated model whose digest somebody wrote anew', async () => {
    await replaceModel((await readFile(onnxFile())).subarray(0, 3_000));
    await refuses('model.invalid');
  });

  it('refuses a missing model and a missing manifest', async () => {
    await rm(onnxFile());
    await refuses('model.missing', /model\.onnx/);
    await rm(manifestFile());
    await refuses('model.missing', /manifest\.json/);
  });

  it('refuses a graph with other shapes than the manifest says', async () => {
    const graph = (inputShape: readonly (number | string)[], type: 'float32' | 'int32') => onnxModel({
      name: 'g', initializers: [onnxTensor('axes', [1], new BigInt64Array([1n]))],
      nodes: [onnxNode('Cast', ['window'], ['x'], { to: { int: 1 } }), onnxNode('ReduceMax', ['x'], ['score'], { axes: { ints: [1] }, keepdims: { int: 0 } })],
      inputs: [onnxValue('window', type, inputShape)], outputs: [onnxValue('score', 'float32', [inputShape[0] ?? 'batch'])],
    }, '');
    await replaceModel(graph(['batch', 64], 'float32'));
    await open();
    await replaceModel(graph(['batch', 48], 'float32'));
    await refuses('model.shape', /window float32 \[batch, 48\]/);
    await replaceModel(graph([1, 64], 'float32'));
    await refuses('model.shape');
    await replaceModel(graph(['batch', 64], 'int32'));
    await refuses('model.shape', /int32/);
  });

  it('refuses a score that is not finite', async () => {
    await replaceModel(onnxModel({
      name: 'g', initializers: [onnxTensor('zero', [], new Float32Array([0]))],
      nodes: [onnxNode('ReduceMax', ['window'], ['max'], { axes: { ints: [1] }, keepdims: { int: 0 } }), onnxNode('Div', ['zero', 'max'], ['score'])],
      inputs: [onnxValue('window', 'float32', ['batch', 64])], outputs: [onnxValue('score', 'float32', ['batch'])],
    }, ''));
    await refuses('model.run', /finite/);
  });

  it('names the key that is wrong in a manifest', async () => {
    const text = await readFile(manifestFile(), 'utf8');
    const cases: readonly (readonly [RegExp, (manifest: Json) => void])[] = [
      [/unknown key "treshold"/, (m) => { m['treshold'] = 1; }],
      [/lacks "threshold"/, (m) => { delete m['threshold']; }],
      [/threshold is not a finite number/, (m) => { m['threshold'] = '1'; }],
      [/window\.stride .* from 1 to 4/, (m) => { m['window'] = { readings: 4, stride: 5, maxGapMs: 1 }; }],
      [/input\.shape/, (m) => { m['input'] = { name: 'window', dtype: 'float32', shape: ['batch', 63] }; }],
      [/input\.dtype/, (m) => { m['input'] = { name: 'window', dtype: 'int8', shape: ['batch', 64] }; }],
      [/channels names a channel twice/, (m) => { m['channels'] = Array.from({ length: 16 }, () => ({ channel: 'rms', unit: '' })); }],
      [/sha256/, (m) => { m['sha256'] = 'ABC'; }],
      [/format is 2/, (m) => { m['format'] = 2; }],
      [/source\.entity/, (m) => { m['source'] = { entity: 'motor' }; }],
      [/training\.seed/, (m) => { m['training'] = { seed: null }; }],
    ];
    assert.equal(parseManifest(text).name, NAME);
    for (const [message, change] of cases) {
      const manifest = JSON.parse(text) as Json;
      change(manifest);
      assert.throws(() => parseManifest(JSON.stringify(manifest)), { code: 'model.manifest', message });
    }
    assert.throws(() => parseManifest(text.slice(0, 100)), { code: 'model.manifest' });
    await edit((m) => { m['name'] = 'other'; });
    await refuses('model.manifest', /the folder is/);
  });
});
