import assert from 'node:assert/strict';
import { copyFileSync, existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { systemClock } from '#runtime/core/clock.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Slots } from '#runtime/core/ports.ts';
import { installBundle, type BundleOrder } from '#runtime/update/install.ts';
import { BundleLink } from '#runtime/update/link.ts';
import { UpdateRecords } from '#runtime/update/record.ts';
import { startBundleServer } from '#test/support/bundleServer.ts';
import { UpdateStage } from '#test/support/updateStage.ts';

describe('attacks: updates', function () {
  this.timeout(60_000);
  let stage: UpdateStage;
  beforeEach(async function () { stage = await UpdateStage.open(this); });
  afterEach(async () => { await stage[Symbol.asyncDispose](); });

  /** The command fails with that, what runs starts next, and no restart was asked for. */
  const refused = async (parameters: Parameters<UpdateStage['install']>[1], code: string): Promise<void> => {
    await assert.rejects(stage.install(`x-${code}`, parameters), { code });
    assert.ok(!existsSync(stage.world.places.askFile));
    assert.equal((await stage.slots.status(stage.never)).next, 'A');
  };
  const install = (order: Partial<BundleOrder> & Pick<BundleOrder, 'source'>, slots: Slots = stage.slots): Promise<unknown> =>
    installBundle({ isDowngradeAllowed: false, ...order }, { slots, records: new UpdateRecords(stage.settings.dataDir), clock: systemClock, wasOffline: false, report: () => undefined }, stage.never);

  it('bundle that a foreign key signed, was cut, altered or is for another board: refused, and what runs stays', async () => {
    await refused({ url: await stage.offer('other', { version: '0.1.0+9', compatible: 'a-toaster' }) }, 'update.compatible');
    const url = await stage.offer('foreign', { version: '0.1.0+9', signer: 'foreign' });
    await assert.rejects(stage.slots.install({ kind: 'file', path: stage.world.path('foreign.raucb') }, () => undefined, stage.never), { code: 'update.signature' });
    await assert.rejects(stage.install('foreign', { url }));
    const good = await stage.world.bundle('good', { version: '0.1.0+9' });
    copyFileSync(good, stage.world.path('cut.raucb'));
    truncateSync(stage.world.path('cut.raucb'), 90_000);
    await assert.rejects(install({ source: stage.world.path('cut.raucb') }), { code: 'update.bundle' });
    const bytes = readFileSync(good);
    bytes.fill(0x5a, 30_000, 30_001);
    writeFileSync(good, bytes);
    await assert.rejects(install({ source: good }));
    assert.equal(await stage.reboot(), 'A');
  });

  it('signed bundle of an older version, offered anew or by a command without consent: refused, and the command that carries it is not done', async () => {
    const url = await stage.offer('old', { version: '0.1.0' });
    await refused({ url }, 'update.older');
    assert.throws(() => { stage.updating.check('firmware', { url, allow_downgrade: true }); }, { code: 'command.consent' });
    stage.settings.update.allowDowngrade = true;
    await stage.install('with-consent', { url, allow_downgrade: true });
    assert.equal(await stage.reboot(), 'B', 'the control: with consent it goes back');
  });

  it('update command played again after the system went back: its update is told as it ended, and nothing is installed', async () => {
    const url = await stage.offer('bad', { version: '0.1.0+2' });
    await stage.install('u1', { url });
    for (let start = 0; start < 3; start++) await stage.reboot();
    assert.equal(await stage.reboot(), 'A');
    await assert.rejects(stage.updating.ended('firmware', { id: 'u1', parameters: { url } }), { code: 'update.returned' });
    const requests = stage.server.ranges.length;
    await stage.restartGateway();
    await assert.rejects(stage.updating.ended('firmware', { id: 'u1', parameters: { url } }), { code: 'update.returned' });
    assert.equal(stage.server.ranges.length, requests);
    assert.equal((await stage.slots.status(stage.never)).next, 'A');
  });

  it('stick whose bundle did not prove itself here, plugged in again and again: not tried a second time', async () => {
    const source = await stage.world.bundle('bad', { version: '0.1.0+2' });
    await stage.install('u1', { url: await stage.offer('same', { version: '0.1.0+2' }) });
    for (let start = 0; start < 3; start++) await stage.reboot();
    assert.equal(await stage.reboot(), 'A');
    await assert.rejects(stage.updating.ended('firmware', { id: 'u1', parameters: {} }), { code: 'update.returned' });
    await assert.rejects(install({ source, isFound: true }), { code: 'update.returned' });
  });

  it('file swapped on the server while it is fetched: not a byte more is taken, update.changed', async () => {
    const file = Buffer.alloc(30 * LIMITS.updateBlockBytes, 1);
    await using server = await startBundleServer(file);
    using link = await BundleLink.open({ url: server.url, clock: systemClock, limits: { retryMs: 2, retryMaxMs: 5 } }, stage.never);
    await link.block(0, stage.never);
    Object.assign(server.served, { bytes: Buffer.alloc(file.length, 2), etag: '"2"' });
    server.cut();
    await assert.rejects(link.block(25, stage.never), { code: 'update.changed' });
    await assert.rejects(link.block(26, stage.never), { code: 'update.changed' });
  });

  it('file swapped between the look at it and its installation, for an older one that is signed as well: given up before it starts', async () => {
    const source = await stage.world.bundle('next', { version: '0.1.0+2' });
    const old = await stage.world.bundle('old', { version: '0.1.0' });
    const { slots } = stage;
    const swapping: Slots = {
      holds: slots.holds, restarts: slots.restarts, status: (signal) => slots.status(signal), commit: (signal) => slots.commit(signal), revert: (signal) => slots.revert(signal),
      abandon: (signal) => slots.abandon(signal), restart: (signal) => slots.restart(signal), inspect: (from, signal) => slots.inspect(from, signal),
      install(from, report, signal) {
        copyFileSync(old, source);
        return slots.install(from, report, signal);
      },
    };
    await assert.rejects(install({ source }, swapping), { code: 'update.changed' });
    assert.equal((await slots.status(stage.never)).next, 'A');
    assert.equal(await stage.reboot(), 'A');
  });

  it('server that redirects to another, sends what is too large, or nothing in parts: refused, and nobody else is asked', async () => {
    await using elsewhere = await startBundleServer(readFileSync(await stage.world.bundle('next', { version: '0.1.0+2' })));
    const { url } = stage.server;
    stage.server.served.first = (_request, response) => { response.writeHead(302, { location: elsewhere.url }).end(); return true; };
    await refused({ url }, 'update.source');
    assert.deepEqual(elsewhere.ranges, []);
    stage.server.served.first = (_request, response) => { response.writeHead(206, { 'content-range': `bytes 0-3/${LIMITS.updateBundleBytesMax + 1}` }).end('hsqs'); return true; };
    await refused({ url }, 'update.source');
    for (const parameters of [{ url: 'file:///etc/shadow' }, { url: 'http://user:secret@x/' }, { url, sha256: 'no' }, { url, extra: 1 }, {}]) assert.throws(() => { stage.updating.check('firmware', parameters); }, { code: 'command.parameters' });
  });

  it('bundle that is not the one whose digest or size was signed: refused before anything is written', async () => {
    const url = await stage.offer('next', { version: '0.1.0+2' });
    await refused({ url, sha256: '0'.repeat(64) }, 'update.digest');
    await refused({ url, bytes: 17 }, 'update.digest');
    assert.equal((await stage.slots.status(stage.never)).other.state, 'empty', 'the other slot was not touched');
  });
});
