import assert from 'node:assert/strict';
import { cp, mkdir, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { loadPackage } from '#models/package.ts';
import { openSession } from '#models/session.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { INFERENCE_BODY, READING_BODY, type Cbor } from '#runtime/core/types.ts';
import { decodeEntry } from '#runtime/ledger/entry.ts';
import { openReader } from '#runtime/ledger/reader.ts';
import { INFER_THREAD, MODELS_DIR, motorReadings, readLog, startGateway } from '#test/support/inferHarness.ts';
import { tempDir } from '#test/support/ledger.ts';
import { until } from '#test/support/until.ts';

const NAME = 'motor-vibration';

describe('infer: follower on a real ledger', function () {
  this.timeout(30_000);

  it('turns readings into inferences that an auditor can compute again, and tells of the change', async () => {
    await using dir = await tempDir();
    {
      await using gateway = await startGateway(dir.path);
      const { ledger, inference, changes } = gateway;
      const [first, second] = [motorReadings('device/one//', 61), motorReadings('device/two//', 62)];
      for (let i = 0; i < 12; i++) await Promise.all([ledger.append(first(i < 4 ? 0 : 0.8)), ledger.append(second(0))]);
      await until('six inferences', () => inference.status()[0]?.inferences === 6);
      assert.deepEqual(changes.map(({ model, source, verdict }) => ({ model, source, verdict })), [{ model: NAME, source: 'device/one//', verdict: 'anomaly' }]);
      await until('no lag', () => inference.status()[0]?.lag === 0);
      const { digest } = await loadPackage(MODELS_DIR, NAME);
      assert.deepEqual(inference.status(), [{ name: NAME, digest: toHex(digest), provider: 'cpu', state: { kind: 'value', value: 'running' }, lag: 0, inferences: 6 }]);
    }
    const { inferences, expected } = await readLog(dir.path);
    for (const [source, windows] of expected) assert.deepEqual(inferences.filter((item) => item.source === source).map(({ inputs }) => inputs), windows);
    await using reader = await openReader(dir.path);
    await using session = await openSession(await loadPackage(MODELS_DIR, NAME));
    for (const { inputs, score, body } of inferences) {
      const rows = inputs.flatMap((index) => {
        const values = (decodeEntry(reader.entry(index)).body as ReadonlyMap<number, Cbor>).get(READING_BODY.values) as [string, number, string][];
        return values.map(([, value]) => value);
      });
      assert.equal((await session.run(Float32Array.from(rows), 1))[0], score);
      assert.equal(body.get(INFERENCE_BODY.provider), session.provider);
    }
  });

  it('starts the thread again when it falls over, and loses and doubles nothing', async () => {
    await using dir = await tempDir();
    const thread = join(dir.path, 'falls-over-once.mjs');
    await writeFile(thread, `
      import { existsSync, writeFileSync } from 'node:fs';
      import { parentPort } from 'node:worker_threads';
      const fell = ${JSON.stringify(join(dir.path, 'fell'))};
      if (!existsSync(fell)) parentPort.on('message', ({ kind }) => {
        if (kind !== 'stored') return;
        writeFileSync(fell, '');
        throw new Error('fell over');
      });
      await import(${JSON.stringify(INFER_THREAD.href)});
    `);
    {
      await using gateway = await startGateway(dir.path, { thread: pathToFileURL(thread) });
      const motor = motorReadings('device/one//', 61);
      for (let i = 0; i < 40; i++) await gateway.ledger.append(motor(0));
      await until('ten inferences', () => gateway.inference.status()[0]?.inferences === 10);
      assert.equal(gateway.counters.values['infer.restarts'], 1);
      assert.match(gateway.lines.join('\n'), /infer\.worker.*fell over/);
    }
    const { inferences, expected } = await readLog(dir.path);
    assert.deepEqual(inferences.map(({ inputs }) => inputs), expected.get('device/one//'));
  });

  it('ends without a model, and judges what was recorded meanwhile once there is one', async () => {
    await using dir = await tempDir();
    const folder = await mkdtemp(join(tmpdir(), 'tenzro-models-'));
    try {
      await using gateway = await startGateway(dir.path, { modelsDir: folder, models: [NAME] });
      await until('the missing model to be reported', () => gateway.inference.status()[0]?.state.kind === 'none');
      const motor = motorReadings('device/one//', 61);
      for (let i = 0; i < 8; i++) await gateway.ledger.append(motor(0));
      assert.match(gateway.lines.join('\n'), /model\.missing/);
    } finally {
      await rm(folder, { recursive: true });
    }
    await using again = await startGateway(dir.path);
    await until('what was recorded without a model to be judged', () => again.inference.status()[0]?.inferences === 2);
  });

  it('goes on without models that are truncated, altered or of another shape, beside one that works', async () => {
    await using dir = await tempDir();
    const folder = await mkdtemp(join(tmpdir(), 'tenzro-models-'));
    const copy = async (name: string, change: (dir: string) => Promise<void>) => {
      const to = join(folder, name);
      await cp(join(MODELS_DIR, NAME), to, { recursive: true });
      const manifest = (await readFile(join(to, 'manifest.json'), 'utf8')).replace(`"name": "${NAME}"`, `"name": "${name}"`);
      await writeFile(join(to, 'manifest.json'), manifest);
      await change(to);
    };
    try {
      await copy('sound', async () => undefined);
      await copy('truncated', (to) => truncate(join(to, 'model.onnx'), 1_000));
      await copy('relabelled', async (to) => {
        const text = await readFile(join(to, 'manifest.json'), 'utf8');
        await writeFile(join(to, 'manifest.json'), text.replace('"name": "score"', '"name": "other"'));
      });
      await copy('mangled', (to) => writeFile(join(to, 'manifest.json'), '{'));
      await mkdir(join(folder, 'no-package'));
      await using gateway = await startGateway(dir.path, { modelsDir: folder });
      const status = await until('the models', () => (gateway.inference.status().length > 0 ? gateway.inference.status() : undefined));
      assert.deepEqual(status.map(({ name, state }) => [name, state.kind === 'none' ? state.reason.split(':')[0] : state.value]), [
        ['mangled', 'model.manifest'], ['relabelled', 'model.shape'], ['sound', 'running'], ['truncated', 'model.digest'],
      ]);
      const motor = motorReadings('device/one//', 61);
      for (let i = 0; i < 4; i++) await gateway.ledger.append(motor(0));
      await until('the sound model to judge', () => gateway.inference.status().find(({ name }) => name === 'sound')?.inferences === 1);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
