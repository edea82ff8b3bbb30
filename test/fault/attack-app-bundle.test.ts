/** Bundles and requests by who may not update this machine, and by a gateway that was taken over, against root's keeper in a process of its own. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { constants } from 'node:fs';
import { access, mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { brotliCompressSync } from 'node:zlib';
import { createHash } from 'node:crypto';
import { BUNDLE_HEAD_BYTES, BUNDLE_LIMITS, compatibleOf, encodeHead, statementLength, type BundleManifest } from '#runtime/crypto/appBundle.ts';
import { FACTORY } from '#drivers/slots/folderState.ts';
import { newSeed, signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { AppFolders, KEEPER, REQUEST_ID } from '#test/support/appFolders.ts';
import { Program } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const exists = async (path: string): Promise<boolean> => access(path).then(() => true, () => false);
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

describe('attacks on updates of the application', function () {
  this.timeout(30_000);
  let dir: TempDir;
  let folders: AppFolders;

  beforeEach(async () => {
    dir = tempDir('attack-app');
    folders = new AppFolders(dir.path);
    await folders.prepare();
  });
  afterEach(() => { dir[Symbol.dispose](); });

  /** The keeper refuses it with `code`; nothing changed, nothing is left. */
  async function refused(code: string): Promise<void> {
    const { output } = await folders.keep();
    assert.match(output, new RegExp(`"id":"${REQUEST_ID}","code":"${code.replace('.', String.raw`\.`)}"`));
    for (const name of ['A', 'B', 'A.next', 'incoming']) assert.equal(await exists(join(folders.paths.home, name)), false, name);
    assert.equal(await exists(join(folders.paths.handover, 'request')), false);
    assert.equal(await folders.select(), 'package');
  }

  /** Head and payload of a manifest that our own release key signed: what its author could do. */
  const crafted = (change: Partial<BundleManifest>, payload: Buffer): Buffer => {
    const manifest = { compatible: compatibleOf(process.arch), version: '2.0.0', payload: { bytes: payload.length, sha256: sha256(payload) }, files: [], ...change };
    return Buffer.concat([encodeHead(manifest, folders.signer), payload]);
  };
  const one = (path: string, content: Buffer): Buffer => crafted({ files: [{ path, bytes: content.length, sha256: sha256(content), isRun: false }] }, brotliCompressSync(content));

  it('a bundle that a stranger signed', async () => {
    await folders.handOver(await folders.bundle('new', '2.0.0', { signer: signerOfSeed(newSeed()) }));
    await refused('update.signature');
  });

  it('a release key that others than root may write counts for nothing', async () => {
    execFileSync('chmod', ['-R', 'a+w', folders.paths.keys[0] ?? '']);
    await folders.handOver(await folders.bundle('new', '2.0.0'));
    await refused('update.signature');
  });

  it('a bundle cut anywhere', async () => {
    const whole = await readFile(await folders.bundle('new', '2.0.0'));
    const payload = BUNDLE_HEAD_BYTES + statementLength(whole);
    for (const length of [0, 7, BUNDLE_HEAD_BYTES, payload - 1, payload, whole.length - 1]) {
      await folders.handOver(whole.subarray(0, length));
      await refused('update.bundle');
    }
  });

  it('a bundle with a byte changed or added', async () => {
    const whole = await readFile(await folders.bundle('new', '2.0.0'));
    for (const at of [BUNDLE_HEAD_BYTES + 60, whole.length - 3]) {
      const changed = Buffer.from(whole);
      changed[at] = (changed[at] ?? 0) ^ 1;
      await folders.handOver(changed);
      const { output } = await folders.keep();
      assert.match(output, /"code":"update\.(?:bundle|signature)"/);
    }
    await folders.handOver(Buffer.concat([whole, Buffer.alloc(1)]));
    await refused('update.bundle');
  });

  it('an older application, or the same again', async () => {
    for (const version of ['0.9.9', '1.0.0']) {
      await folders.handOver(await folders.bundle(`app-${version}`, version));
      await refused('update.older');
    }
  });

  it('an application for another processor', async () => {
    await folders.handOver(await folders.bundle('new', '2.0.0', { compatible: 'tenzro-edge-app-riscv64' }));
    await refused('update.compatible');
  });

  it('paths that lead out of the folder, signed', async () => {
    for (const path of ['../escaped', '/escaped', 'a/../../escaped', 'a//b', './escaped', '..', 'a\0b', `${'a/'.repeat(BUNDLE_LIMITS.pathChars)}b`]) {
      await folders.handOver(one(path, Buffer.from('x')));
      await refused('update.bundle');
      assert.equal(await exists(join(folders.paths.home, 'escaped')), false);
    }
  });

  it('a stream that unpacks to more than was signed', async () => {
    const bomb = brotliCompressSync(Buffer.alloc(2 ** 26));
    await folders.handOver(crafted({ files: [{ path: 'release', bytes: 10, sha256: sha256(Buffer.from('2.0.0\n')), isRun: false }] }, bomb));
    const { output } = await folders.keep();
    assert.match(output, /"code":"update\.bundle"/);
    assert.deepEqual([await exists(join(folders.paths.home, 'A')), await exists(join(folders.paths.home, 'A.next'))], [false, false]);
  });

  it('a manifest that asks for more than a board has', async () => {
    await folders.handOver(crafted({ files: [{ path: 'release', bytes: BUNDLE_LIMITS.unpackedBytes + 1, sha256: sha256(Buffer.from('x')), isRun: false }] }, Buffer.from('x')));
    await refused('update.bundle');
  });

  it('links and pipes in place of the bundle', async () => {
    const target = join(dir.path, 'secret');
    await writeFile(target, 'not to be touched');
    const bundle = join(folders.paths.handover, 'bundle');
    await symlink(target, bundle);
    await folders.request('install');
    await refused('update.slots');
    assert.equal(await readFile(target, 'utf8'), 'not to be touched');
    execFileSync('mkfifo', [bundle]);
    await folders.request('install');
    await refused('update.bundle');
  });

  it('a link in place of the folder that the gateway hands over by', async () => {
    const elsewhere = join(dir.path, 'elsewhere');
    await rename(folders.paths.handover, elsewhere);
    await symlink(elsewhere, folders.paths.handover);
    await writeFile(join(elsewhere, 'request'), JSON.stringify({ id: REQUEST_ID, do: 'install' }));
    assert.equal((await folders.keep()).code, 1);
    assert.equal(await exists(join(elsewhere, 'request')), true);
  });

  it('a request that is none', async () => {
    for (const text of ['', '{', '[]', '{"id":"x","do":"install"}', JSON.stringify({ id: REQUEST_ID, do: 'erase' }), JSON.stringify({ id: REQUEST_ID, do: 'commit', as: 'root' })]) {
      await writeFile(join(folders.paths.handover, 'request'), text);
      assert.match((await folders.keep()).output, /"code":"update\.slots"/);
    }
    assert.deepEqual(await folders.state(), FACTORY);
  });

  it('a bundle exchanged after it was verified', async () => {
    const good = await folders.bundle('new', '2.0.0', { more: { 'big.bin': Buffer.alloc(2 ** 24, 7) } });
    const evil = await readFile(await folders.bundle('evil', '2.0.0', { signer: signerOfSeed(newSeed()), more: { 'evil.ts': 'x' } }));
    await folders.handOver(good);
    await using keeper = new Program(process.execPath, [KEEPER], { env: { ...process.env, TENZRO_ROOT: dir.path } });
    await until('the copy', async () => exists(join(folders.paths.home, 'incoming')), { intervalMs: 1 });
    const bundle = join(folders.paths.handover, 'bundle');
    await writeFile(`${bundle}.next`, evil);
    while (keeper.running) {
      await writeFile(bundle, evil, { flag: constants.O_WRONLY | constants.O_CREAT }); // into the file that was opened, and in its place
      await rm(bundle, { force: true });
    }
    await keeper.exited();
    const installed = await exists(join(folders.paths.home, 'A/release'));
    if (installed) assert.deepEqual([...(await folders.contents('A')).keys()], ['big.bin', 'bin/node', 'release', 'runtime/empty.ts', 'runtime/main.ts']);
    else assert.match(keeper.output, /"code":"update\.(?:bundle|signature|changed|slots)"/);
    assert.equal(await exists(join(folders.paths.home, 'A/evil.ts')), false);
  });

  it('a gateway that says an application has proved itself which does not run', async () => {
    await folders.handOver(await folders.bundle('new', '2.0.0'));
    assert.match((await folders.keep()).output, /^\{"id":"[^"]+"\}\n$/);
    await folders.request('commit'); // the package runs, A was never started
    await folders.keep();
    assert.deepEqual(await folders.state(), { committed: 'package', trial: 'A', left: 3 });
    await mkdir(join(folders.paths.handover, 'state'));
    assert.equal(await folders.select(), 'A');
  });
});
