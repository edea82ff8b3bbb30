import assert from 'node:assert/strict';
import { readFileSync, readdirSync, renameSync, watch, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildHouse, filesOf, openHouse } from '#runtime/controller/house.ts';
import type { KeyFile } from '#runtime/controller/passphraseChange.ts';
import { decryptOwnerKey, newOwnerKey } from '#runtime/crypto/ownerKey.ts';
import { acquireLock } from '#runtime/ledger/lock.ts';
import { tenzro } from '#test/support/gateway.ts';
import { Program } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const COMMAND = join(import.meta.dirname, '..', '..', 'runtime', 'cli', 'tenzro.js');
const KEYS = ['owner-1.key', 'owner-2.key', 'root.key', 'server.key'] as const;
const WORDS = ['correct horse battery', 'staple wrong donkey', 'another one, longer'] as const;

describe('tenzro fleet passphrase', function () {
  this.timeout(180_000);
  let dir: TempDir;
  let home: string;

  const fileOf = (at: number): string => {
    const path = join(dir.path, `words-${at}`);
    writeFileSync(path, `${WORDS[at] ?? ''}\n`, { mode: 0o600 });
    return path;
  };
  const argumentsFor = (turn: number, ...more: readonly string[]): readonly string[] => ['fleet', 'passphrase', '--dir', home, '--passphrase-file', fileOf(turn), '--new-passphrase-file', fileOf(turn + 1), '--json', ...more];
  const bytes = (): readonly string[] => KEYS.map((name) => readFileSync(join(home, name), 'latin1'));
  const changed = async (turn: number, ...more: readonly string[]): Promise<readonly string[]> => {
    const { code, stdout, output } = await tenzro(dir.path, argumentsFor(turn, ...more));
    assert.equal(code, 0, output);
    assert.ok(WORDS.every((word) => !output.includes(word)));
    return (JSON.parse(stdout) as { readonly files: readonly KeyFile[] }).files.map(({ state }) => state);
  };

  before(async () => {
    dir = tempDir('passphrase');
    home = join(dir.path, 'fleet');
    await buildHouse({ dir: home, name: 'workshop', hosts: [], policy: 'version: 1\n', passphrase: Buffer.from(WORDS[0]), nowMs: Date.UTC(2026, 10, 23) });
  });
  after(() => { dir[Symbol.dispose](); });

  it('changes nothing beside a controller, and for passphrases that are not those', async () => {
    const before = bytes();
    {
      using _ = acquireLock(filesOf(home).lock);
      assert.match((await tenzro(dir.path, argumentsFor(0))).output, /controller\.running/);
    }
    assert.match((await tenzro(dir.path, argumentsFor(1))).output, /fleet\.key/);
    assert.deepEqual(bytes(), before);
  });

  it('killed when two of four files changed, leaves each under one of the two; the same again finishes it, takes keys that were carried away, and leaves those that it cannot open', async () => {
    const before = bytes();
    await using victim = new Program(process.execPath, [COMMAND, ...argumentsFor(0)]);
    const seen = new Set<string>();
    const folder = watch(home, (_event, name) => {
      if (name !== null && KEYS.some((key) => key === name)) seen.add(name);
      if (seen.size === 2) void victim.end('SIGKILL');
    });
    await victim.exited();
    folder.close();
    const alike = bytes().filter((text, at) => text === before[at]).length;
    assert.ok(alike <= 2, `${alike} files are as before: ${victim.output}`);

    const [first, second] = filesOf(home).owners;
    const carried = join(dir.path, 'owner-2.key');
    renameSync(second, carried);
    writeFileSync(first, newOwnerKey(Buffer.from('of somebody else')).privatePem);
    assert.deepEqual(await changed(0, '--key', carried), ['another', 'elsewhere', alike > 1 ? 'changes' : 'already', 'already', alike > 0 ? 'changes' : 'already']);
    await openHouse(home, Buffer.from(WORDS[1]));
    assert.equal(decryptOwnerKey(readFileSync(carried, 'latin1'), Buffer.from(WORDS[1])).length, 32);
    assert.deepEqual(readdirSync(home).filter((name) => name.endsWith('.new')), []);
  });
});
