/** The gateway's port `Slots` over folders, with root's keeper in a process of its own and the launcher in a shell. */
import assert from 'node:assert/strict';
import { createReadStream, watch } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { openFolderSlots } from '#drivers/slots/folders.ts';
import { compatibleOf } from '#runtime/crypto/appBundle.ts';
import type { BundleSource, Slots } from '#runtime/core/ports.ts';
import { newSeed, signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { compareVersions } from '#runtime/update/version.ts';
import { AppFolders } from '#test/support/appFolders.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

describe('folders of the application: the gateway asks, root keeps', function () {
  this.timeout(30_000);
  let dir: TempDir;
  let folders: AppFolders;
  let slots: Slots;
  let restarts: number;
  const { signal } = new AbortController();

  /** As the path unit does: whoever asks is served. */
  async function served<T>(work: () => Promise<T>): Promise<T> {
    const { handover } = folders.paths;
    let serving = Promise.resolve();
    const watcher = watch(handover, (_event, name) => { if (name === 'request') serving = serving.then(async () => { await folders.keep(); }); });
    try {
      return await work();
    } finally {
      watcher.close();
      await serving;
    }
  }

  const open = async (): Promise<Slots> => {
    const opened = await openFolderSlots({ paths: folders.paths, compatible: compatibleOf(process.arch), compare: compareVersions, owner: process.geteuid?.() ?? 0, endGateway: () => { restarts++; } });
    assert.ok(opened);
    return opened;
  };

  beforeEach(async () => {
    dir = tempDir('folder-slots');
    folders = new AppFolders(dir.path);
    restarts = 0;
    await folders.prepare();
    slots = await open();
  });
  afterEach(() => { dir[Symbol.dispose](); });

  const install = async (version: string): Promise<void> => {
    const path = await folders.bundle(`app-${version}`, version);
    await served(async () => slots.install({ kind: 'file', path }, () => undefined, signal));
  };

  it('installs, starts, commits, installs into the other folder, and goes back when that proves nothing in three starts', async () => {
    await install('1.1.0');
    assert.deepEqual((await slots.status(signal)).other, { name: 'A', version: { kind: 'value', value: '1.1.0' }, state: 'trial', triesLeft: 3 });
    assert.equal((await slots.status(signal)).next, 'A');
    await slots.restart(signal);
    assert.equal(restarts, 1);
    assert.equal(await folders.select(), 'A');
    await served(async () => slots.commit(signal));
    assert.deepEqual((await slots.status(signal)).booted, { name: 'A', version: { kind: 'value', value: '1.1.0' }, state: 'good' });
    await install('1.2.0');
    assert.deepEqual([await folders.select(), await folders.select(), await folders.select()], ['B', 'B', 'B']);
    assert.equal((await slots.status(signal)).booted.state, 'trial');
    assert.equal(await folders.select(), 'A');
    assert.equal((await slots.status(signal)).other.state, 'bad');
  });

  it('commits in the last try too, and takes no other update before that', async () => {
    await install('1.1.0');
    for (let start = 0; start < 3; start++) assert.equal(await folders.select(), 'A');
    await assert.rejects(install('1.2.0'), { code: 'update.on_trial' });
    await served(async () => slots.commit(signal));
    assert.deepEqual(await folders.state(), { committed: 'A', trial: 'none', left: 0 });
    await slots.commit(signal); // said already: nobody is asked
  });

  it('goes back when it is told to, as far as the package, and gives up what was installed', async () => {
    await assert.rejects(served(async () => slots.revert(signal)), { code: 'update.no_way_back' });
    await install('1.1.0');
    await served(async () => slots.abandon(signal));
    assert.equal(await folders.select(), 'package');
    await install('1.1.0');
    await folders.select();
    await served(async () => slots.commit(signal));
    assert.equal((await slots.status(signal)).other.name, 'package');
    await served(async () => slots.revert(signal));
    assert.equal((await slots.status(signal)).next, 'package');
    assert.equal(await folders.select(), 'package');
  });

  it('lets a newer package win over what folders hold', async () => {
    await install('1.1.0');
    await folders.select();
    await served(async () => slots.commit(signal));
    await folders.lay(folders.paths.package, '1.3.0');
    assert.equal(await folders.select(), 'package');
    await install('1.4.0');
    assert.equal(await folders.select(), 'B');
  });

  it('reads bundles by ranges from this machine, and tells who signed nothing here', async () => {
    const bundles = { '/good': await folders.bundle('good', '1.1.0'), '/evil': await folders.bundle('evil', '1.1.0', { signer: signerOfSeed(newSeed()) }) };
    const server = createServer((request, response) => {
      const path = Object.entries(bundles).find(([url]) => url === request.url)?.[1];
      const [, from = '0', to = ''] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
      if (path === undefined) response.writeHead(404).end();
      else createReadStream(path, { start: Number(from), ...(to === '' ? {} : { end: Number(to) }) }).pipe(response.writeHead(206));
    });
    await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
    const address = server.address();
    const at = (path: string): BundleSource => ({ kind: 'loopback', url: `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}${path}` });
    try {
      assert.deepEqual(await slots.inspect(at('/good'), signal), { compatible: compatibleOf(process.arch), version: '1.1.0' });
      await assert.rejects(slots.inspect(at('/evil'), signal), { code: 'update.signature' });
      await assert.rejects(slots.inspect(at('/none'), signal), { code: 'update.bundle' });
      await served(async () => slots.install(at('/good'), () => undefined, signal));
      assert.equal(await folders.select(), 'A');
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });

  it('is not there without a launcher, and keeps nothing of what was handed over', async () => {
    await install('1.1.0');
    await assert.rejects(stat(join(folders.paths.handover, 'bundle')), { code: 'ENOENT' });
    assert.equal(await readFile(join(folders.paths.home, 'A/release'), 'utf8'), '1.1.0\n');
    await folders.select();
    for (const path of [folders.paths.chosen, join(folders.paths.home, 'state'), join(folders.paths.home, 'result'), join(folders.paths.home, 'A')]) assert.equal((await stat(path)).mode & 0o004, 0o004, `${path} is for the gateway to read`);
    assert.equal(await openFolderSlots({ paths: { ...folders.paths, chosen: join(dir.path, 'none') }, compatible: 'x', compare: compareVersions, owner: 0, endGateway: () => undefined }), undefined);
  });
});
