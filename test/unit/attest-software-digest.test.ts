import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { softwareDigest } from '#runtime/attest/softwareDigest.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { run } from '#test/support/process.ts';
import { tempDir } from '#test/support/temp.ts';

const ROOT = join(import.meta.dirname, '..', '..');

describe('attest: software digest', () => {
  it('is what find and sha256sum make of the project', async () => {
    const script = `(find runtime drivers models provisioning -type f '(' -name '*.ts' -o -name '*.js' ')'; echo package.json; echo package-lock.json) | LC_ALL=C sort | xargs sha256sum | sha256sum`;
    const { stdout } = await run('sh', ['-c', script], { cwd: ROOT });
    assert.equal(toHex(softwareDigest(ROOT)), stdout.slice(0, 64));
  });

  it('changes with every source file\'s content and name, and with nothing else', () => {
    using dir = tempDir('digest');
    const file = (path: string, text: string): void => { mkdirSync(join(dir.path, path, '..'), { recursive: true }); writeFileSync(join(dir.path, path), text); };
    for (const path of ['runtime/a/one.ts', 'drivers/two.js', 'models/m/three.ts', 'provisioning/four.ts', 'package.json', 'package-lock.json']) file(path, path);
    const seen = new Set([toHex(softwareDigest(dir.path))]);
    const differs = (): void => { const size = seen.size; seen.add(toHex(softwareDigest(dir.path))); assert.equal(seen.size, size + 1); };
    for (const path of ['runtime/a/one.ts', 'drivers/two.js', 'models/m/three.ts', 'provisioning/four.ts', 'package.json', 'package-lock.json']) { appendFileSync(join(dir.path, path), ' '); differs(); }
    renameSync(join(dir.path, 'runtime/a/one.ts'), join(dir.path, 'runtime/a/renamed.ts'));
    differs();
    file('models/m/model.onnx', 'has its own digest');
    file('notes.md', 'no software');
    assert.ok(seen.has(toHex(softwareDigest(dir.path))));
  });
});
