import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadIdentitySeed } from '#runtime/attest/identityKey.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

describe('attest: identity key', () => {
  let dir: TempDir;
  let path: string;
  beforeEach(() => { dir = tempDir('identity'); path = join(dir.path, 'identity.seed'); });
  afterEach(() => dir[Symbol.dispose]());

  it('is made once, readable by its owner only, and stays', async () => {
    const seed = await loadIdentitySeed(dir.path, { create: true });
    assert.equal(seed.length, 32);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.deepEqual(readFileSync(path), seed);
    assert.deepEqual(await loadIdentitySeed(dir.path, { create: true }), seed);
    assert.deepEqual(await loadIdentitySeed(dir.path, { create: false }), seed);
    assert.deepEqual(readdirSync(dir.path), ['identity.seed']);
  });

  it('is made over what a power cut left of an earlier attempt', async () => {
    writeFileSync(`${path}.new`, 'half');
    const seed = await loadIdentitySeed(dir.path, { create: true });
    assert.deepEqual(readFileSync(path), seed);
    assert.deepEqual(readdirSync(dir.path), ['identity.seed']);
  });

  it('that is missing from an existing chain is not replaced', async () => {
    await assert.rejects(loadIdentitySeed(dir.path, { create: false }), { code: 'attest.foreign_key' });
    assert.deepEqual(readdirSync(dir.path), []);
  });

  for (const mode of [0o640, 0o604, 0o660, 0o777]) {
    it(`with mode ${mode.toString(8)} is refused`, async () => {
      await loadIdentitySeed(dir.path, { create: true });
      chmodSync(path, mode);
      await assert.rejects(loadIdentitySeed(dir.path, { create: true }), { code: 'attest.key_permissions' });
    });
  }

  for (const size of [0, 31, 33]) {
    it(`of ${size} bytes is refused and left alone`, async () => {
      writeFileSync(path, Buffer.alloc(size), { mode: 0o600 });
      await assert.rejects(loadIdentitySeed(dir.path, { create: true }), { code: 'attest.key_malformed' });
      assert.equal(statSync(path).size, size);
    });
  }

  it('behind a symbolic link, or a folder in its place, is refused', async () => {
    writeFileSync(join(dir.path, 'elsewhere'), Buffer.alloc(32), { mode: 0o600 });
    symlinkSync('elsewhere', path);
    await assert.rejects(loadIdentitySeed(dir.path, { create: true }), { code: 'attest.key_io' });
    using other = tempDir('identity');
    mkdirSync(join(other.path, 'identity.seed'), { mode: 0o700 });
    await assert.rejects(loadIdentitySeed(other.path, { create: true }), { code: 'attest.key_io' });
  });

  it('that cannot be written is attest.key_io', async () => {
    await assert.rejects(loadIdentitySeed(join(dir.path, 'missing'), { create: true }), { code: 'attest.key_io' });
  });
});
