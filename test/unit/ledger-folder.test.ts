import assert from 'node:assert/strict';
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder } from '#runtime/ledger/folder.ts';
import { run } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const COMMAND = join(import.meta.dirname, '..', '..', 'runtime', 'cli', 'tenzro.js');

describe('ledger: folders', () => {
  let dir: TempDir;
  beforeEach(() => { dir = tempDir('folder'); });
  afterEach(() => { dir[Symbol.dispose](); });

  it('makes what is missing for its owner alone, and leaves what is there', () => {
    const path = join(dir.path, 'a', 'b');
    makeFolder(path);
    makeFolder(path);
    assert.equal(statSync(path).mode & 0o777, 0o700);
  });

  it('refuses where a file is in the way', () => {
    writeFileSync(join(dir.path, 'file'), '');
    assert.throws(() => makeFolder(join(dir.path, 'file', 'below')), { code: 'ENOTDIR' });
  });

  it('ends where a folder can hold none: a gateway and a verifier say so at once', async function () {
    this.timeout(20_000);
    if (!existsSync('/proc/self')) this.skip();
    assert.throws(() => makeFolder('/proc/tenzro/below'), { code: 'ENOENT' });
    for (const args of [['run', '--data', '/proc/tenzro'], ['verifier', 'init', '--dir', '/proc/tenzro']]) {
      const { code, output } = await run(process.execPath, [COMMAND, ...args]);
      assert.equal(code, 2, output);
      assert.match(output, /core\.system/);
    }
  });
});
