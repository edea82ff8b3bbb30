import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fleetPartOf, withPart } from '#runtime/config/fleetPart.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const NAME = 'motor-vibration';
const ours = (name: string): string => join(dirname(createRequire(import.meta.url).resolve(name)), '..');

describe('jetson: an ONNX Runtime of the owner\'s own build', function () {
  this.timeout(30_000);
  let dir: TempDir;
  beforeEach(() => { dir = tempDir('runtime'); });
  afterEach(() => { dir[Symbol.dispose](); });

  /** Our own binding in another place, which knows no CUDA: as a build without --use_cuda. Its own process loads it, as natively there is one of it in each. */
  const layRuntime = (): string => {
    const folder = join(dir.path, 'onnxruntime-node');
    mkdirSync(join(folder, 'node_modules'), { recursive: true });
    for (const part of ['package.json', 'dist']) cpSync(join(ours('onnxruntime-node'), part), join(folder, part), { recursive: true });
    cpSync(join(ours('onnxruntime-node'), 'bin/napi-v6', process.platform, process.arch), join(folder, 'bin/napi-v6', process.platform, process.arch), { recursive: true });
    symlinkSync(join(ours('onnxruntime-common'), '..'), join(folder, 'node_modules/onnxruntime-common'));
    return folder;
  };
  const findings = (runtimeDir: string): ReadonlyMap<string, { state: string; detail: string }> => {
    const file = join(dir.path, 'tenzro.yaml');
    writeFileSync(file, `dataDir: ${dir.path}/data\ninfer: { modelsDir: ${join(ROOT, 'models')}, models: [${NAME}], runtimeDir: ${runtimeDir} }\nattest: { tpm: { mode: none } }\n`);
    const { stdout, stderr } = spawnSync(process.execPath, ['runtime/cli/tenzro.js', 'doctor', '--json', '--config', file], { cwd: ROOT, encoding: 'utf8' });
    assert.notEqual(stdout, '', stderr);
    const said = JSON.parse(stdout) as { findings: { area: string; state: string; detail: string }[] };
    return new Map(said.findings.map((finding) => [finding.area, finding]));
  };

  it('runs the model on the processor and says why not by CUDA', () => {
    layRuntime();
    const model = findings('onnxruntime-node').get(`model ${NAME}`); // relative to the file
    assert.equal(model?.state, 'problem', model?.detail);
    assert.match(model.detail, /^runs on cpu; cuda: /);
  });

  it('does not fall back to another runtime than the one that was named', () => {
    const model = findings('nowhere').get(`model ${NAME}`);
    assert.equal(model?.state, 'problem');
    assert.match(model.detail, /ONNX Runtime does not load on .* from .*nowhere/);
  });

  it('is nothing that a fleet may set: it is native code', () => {
    assert.deepEqual(fleetPartOf('infer: { enabled: true, runtimeDir: /opt/ort }\n'), { infer: { enabled: true } });
    assert.throws(() => withPart('', { infer: { runtimeDir: '/tmp/theirs' } }), { code: 'twin.malformed' });
  });
});
