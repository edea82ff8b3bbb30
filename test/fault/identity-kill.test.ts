import assert from 'node:assert/strict';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { newSeed, signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { run } from '#test/support/process.ts';
import { temporaryTpm } from '#test/support/swtpm.ts';
import { tempDir } from '#test/support/temp.ts';

const VICTIM = join(import.meta.dirname, '..', 'support', 'identityVictim.ts');

describe('identity, killed at each of its writes', function () {
  this.timeout(60_000);
  const victim = async (dataDir: string, address: string, what: 'make' | 'rotate', killAt = '-'): Promise<{ key: string | undefined; writes: string[]; code: number | string }> => {
    const { stdout, output, code } = await run(process.execPath, [VICTIM, dataDir, address, what, killAt]);
    const lines = stdout.split('\n').filter((line) => line !== '');
    if (killAt === '-') assert.equal(code, 0, output);
    return { key: lines.find((line) => line.startsWith('key '))?.slice(4), writes: lines.filter((line) => !line.startsWith('key ')), code };
  };

  for (const from of ['nothing', 'a seed file'] as const) {
    it(`makes keys from ${from}, once, and owns the TPM with them`, async function () {
      const seed = newSeed();
      const expected = Buffer.from(signerOfSeed(seed).publicKey).toString('hex').slice(0, 64);
      for (let at = 1; ; at += 1) {
        await using tpm = await temporaryTpm(this);
        using dir = tempDir('identity-kill');
        if (from === 'a seed file') writeFileSync(join(dir.path, 'identity.seed'), seed, { mode: 0o600 });
        const killed = await victim(dir.path, tpm.address, 'make', String(at));
        const { key } = await victim(dir.path, tpm.address, 'make');
        assert.equal((await victim(dir.path, tpm.address, 'make')).key, key, `killed at write ${at}`);
        if (from === 'a seed file') assert.equal(key, expected);
        assert.ok(!existsSync(join(dir.path, 'identity.seed')));
        assert.deepEqual(readdirSync(join(dir.path, 'identity')).toSorted(), ['approvals.json', 'sealed.cbor']);
        if (killed.code === 0) {
          assert.ok(at > 3, `only ${at - 1} writes`);
          break;
        }
        assert.equal(killed.code, 'SIGKILL');
      }
    });
  }

  it('changes keys wholly or not at all, and never loses them', async function () {
    const outcomes = new Set<string>();
    for (let at = 1; ; at += 1) {
      await using tpm = await temporaryTpm(this);
      using dir = tempDir('identity-kill');
      const { key: old } = await victim(dir.path, tpm.address, 'make');
      const killed = await victim(dir.path, tpm.address, 'rotate', String(at));
      const { key } = await victim(dir.path, tpm.address, 'make');
      assert.ok(key !== undefined);
      assert.equal((await victim(dir.path, tpm.address, 'make')).key, key);
      assert.ok(!existsSync(join(dir.path, 'identity', 'next.cbor')));
      const done = key !== old;
      outcomes.add(done ? 'new' : 'old');
      assert.equal(done, killed.writes.includes('revoke'), `killed at write ${at}: ${killed.writes.join()}`);
      if (killed.code === 0) break;
    }
    assert.deepEqual([...outcomes], ['old', 'new']);
  });
});
