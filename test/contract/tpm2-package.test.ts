/** The tarball of @tenzro/tpm2 as somebody else installs it, and the README's examples run with it against a real emulator. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packTpm2 } from '#drivers/tpm2/pack.ts';
import { requirePeer } from '#test/support/peers.ts';
import { run } from '#test/support/process.ts';
import { startTpm, type TemporaryTpm } from '#test/support/swtpm.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const README = readFileSync(join(ROOT, 'drivers', 'tpm2', 'README.md'), 'utf8');

/** What stands for the TPM in the examples. */
const DEVICE = "deviceTransport('/dev/tpmrm0')";

interface Example {
  readonly title: string;
  readonly code: string;
}

/** The code blocks, each under its heading. */
const examples: readonly Example[] = [...README.matchAll(/^## (.+)$|^```ts\n([\s\S]*?)^```$/gm)].reduce<{ title: string; found: Example[] }>(
  ({ title, found }, [, heading, code]) => (heading === undefined ? { title, found: [...found, { title, code: code ?? '' }] } : { title: heading, found }), { title: '', found: [] },
).found;
const [opening, ...rest] = examples;

describe('tpm2: the package', function () {
  this.timeout(60_000);
  let dir: TempDir;
  let emulator: TemporaryTpm;

  before(async function () {
    emulator = await startTpm(requirePeer(this, 'swtpm'));
    dir = tempDir('package');
    const tarball = await packTpm2(dir.path);
    writeFileSync(join(dir.path, 'package.json'), '{"private":true,"type":"module"}');
    const { code, output } = await run('npm', ['install', '--offline', '--no-audit', '--no-fund', tarball], { cwd: dir.path });
    assert.equal(code, 0, output);
  });
  after(async () => {
    dir?.[Symbol.dispose]();
    await emulator?.[Symbol.asyncDispose]();
  });

  it('holds compiled code, declarations, README and licence, and no source', () => {
    const installed = join(dir.path, 'node_modules', '@tenzro', 'tpm2');
    for (const file of ['LICENSE', 'README.md', 'drivers/tpm2/index.js', 'drivers/tpm2/index.d.ts']) assert.ok(existsSync(join(installed, file)), file);
    for (const file of ['drivers/tpm2/tpm.ts', 'drivers/tpm2/vault.js', 'drivers/tpm2/pack.js', 'runtime/core/settings.js', 'tsconfig.json']) assert.ok(!existsSync(join(installed, file)), file);
  });

  it('its README opens a TPM first', () => assert.ok(opening?.code.includes(DEVICE)));

  const program = ({ code }: Example): string => `${(opening?.code ?? '').replace(DEVICE, `(await import('@tenzro/tpm2')).socketTransport(${JSON.stringify(emulator.address)})`)}\n${code}`;
  const fileOf = (at: number): string => join(dir.path, `example-${at}.ts`);

  for (const [at, example] of rest.entries()) {
    it(`runs "${example.title}"`, async () => {
      writeFileSync(fileOf(at), program(example));
      const { code, output } = await run(process.execPath, [fileOf(at)], { cwd: dir.path });
      assert.equal(code, 0, output);
    });
  }

  it('its declarations type the examples', async () => {
    symlinkSync(join(ROOT, 'node_modules', '@types'), join(dir.path, 'node_modules', '@types'));
    const compilerOptions = { target: 'es2024', lib: ['es2024', 'esnext.disposable'], module: 'nodenext', strict: true, noEmit: true, skipLibCheck: false, types: ['node'] };
    writeFileSync(join(dir.path, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['example-*.ts'] }));
    const { code, output } = await run(join(ROOT, 'node_modules', '.bin', 'tsc'), ['--project', dir.path]);
    assert.equal(code, 0, output);
  });
});
