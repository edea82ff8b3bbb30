import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { UpdateRecords } from '#runtime/update/record.ts';
import { lockUpdates } from '#runtime/updating.ts';
import { UpdateStage, upstreams } from '#test/support/updateStage.ts';

describe('update: firmware_update', function () {
  this.timeout(60_000);
  let stage: UpdateStage;
  beforeEach(async function () { stage = await UpdateStage.open(this); });
  afterEach(async () => { await stage[Symbol.asyncDispose](); });

  it('comes over a link that drops at every tenth, restarts, is kept when healthy, and only then succeeded', async () => {
    const url = await stage.offer('next', { version: '0.1.0+2', bytes: 900_000 });
    stage.server.served.breakAfter = Math.ceil(stage.server.served.bytes.length / 10);
    const sha256 = createHash('sha256').update(stage.server.served.bytes).digest('hex');
    assert.deepEqual(await stage.updating.inspect('firmware', { url }, stage.never), { version: '0.1.0+2' });
    await stage.install('u1', { url, sha256, bytes: stage.server.served.bytes.length });
    assert.ok(stage.server.ranges.length > 10, 'the link did drop');
    assert.equal(await stage.reboot(), 'B');
    assert.deepEqual(stage.entries, [], 'nothing succeeded yet');
    await stage.restartGateway();
    assert.equal(await stage.confirm({}), 0);
    assert.deepEqual(await stage.updating.ended('firmware', { id: 'u1', parameters: {} }), { effective: 'now', version: '0.1.0+2', slot: 'B', replaced: '0.1.0+1' });
    assert.equal(await stage.updating.ended('firmware', { id: 'another', parameters: {} }), undefined);
    assert.deepEqual(await stage.told(1), [{ change: 'committed', what: 'firmware', to: '0.1.0+2', from: '0.1.0+1', command: 'u1' }]);
    assert.deepEqual(await stage.updating.install('firmware', { id: 'u2', parameters: { url } }, stage.never), { effective: 'already' });
    await stage.restartGateway();
    assert.deepEqual(await stage.updating.ended('firmware', { id: 'u1', parameters: {} }), { effective: 'now', version: '0.1.0+2', slot: 'B', replaced: '0.1.0+1' }, 'told again after a crash before its result');
  });

  it('goes back from a system that never becomes healthy, and says what it lacked', async () => {
    await stage.install('u1', { url: await stage.offer('bad', { version: '0.1.0+2' }) });
    for (let start = 0; start < 3; start++) {
      assert.equal(await stage.reboot(), 'B');
      assert.equal(await stage.confirm({ blocksSealed: 0, fleet: upstreams(false) }), 1);
    }
    assert.equal(await stage.reboot(), 'A');
    await assert.rejects(stage.updating.ended('firmware', { id: 'u1', parameters: {} }), { code: 'update.returned', message: /no block was sealed.*broker/ });
    const [entry] = await stage.told(1);
    assert.equal(entry?.['change'], 'returned');
    assert.equal(await stage.confirm(undefined), 0, 'what ran before is not on trial, and never given up');
    assert.equal((await stage.slots.status(stage.never)).booted.state, 'good');
  });

  it('goes on after a kill at any point, and begins nothing twice', async () => {
    const url = await stage.offer('next', { version: '0.1.0+2' });
    const records = new UpdateRecords(stage.settings.dataDir);
    await records.write({ what: 'firmware', phase: 'installing', to: '0.1.0+2', slot: 'B', wasOffline: false, restarts: 0, command: 'killed' });
    await stage.restartGateway();
    assert.equal(await stage.updating.ended('firmware', { id: 'killed', parameters: {} }), undefined, 'interrupted: the commander says so');
    assert.equal(await records.read('firmware'), undefined);
    await stage.install('u1', { url });
    await records.write({ what: 'firmware', phase: 'installing', to: '0.1.0+2', slot: 'B', wasOffline: false, restarts: 0, command: 'late' });
    await stage.restartGateway();
    assert.equal(await stage.updating.ended('firmware', { id: 'late', parameters: {} }), undefined);
    assert.equal((await stage.slots.status(stage.never)).next, 'A', 'whole, but nobody waited for it: it does not start');
    await stage.install('u2', { url });
    assert.equal(await stage.reboot(), 'B');
    await stage.slots.commit(stage.never);
    await stage.restartGateway();
    assert.equal((await stage.updating.ended('firmware', { id: 'u2', parameters: {} }))?.['effective'], 'now', 'killed between keeping it and writing that down');
  });

  it('stops a download when it is cancelled, and says that the machine is busy while one runs', async () => {
    const url = await stage.offer('next', { version: '0.1.0+2' });
    const cancel = new AbortController();
    stage.server.served.first = (request) => { if (request.headers.range === 'bytes=0-3') return false; cancel.abort(); return true; };
    await assert.rejects(stage.install('u1', { url }, cancel.signal));
    assert.equal((await stage.slots.status(stage.never)).next, 'A');
    stage.server.served.first = () => false;
    {
      await using resources = new AsyncDisposableStack();
      resources.use(await lockUpdates(stage.settings.dataDir));
      await assert.rejects(stage.install('u2', { url }), { code: 'update.busy' });
      const records = new UpdateRecords(stage.settings.dataDir);
      await records.write({ what: 'firmware', phase: 'installing', to: '0.1.0+2', slot: 'B', wasOffline: false, restarts: 0 });
      await stage.restartGateway();
      assert.equal(await stage.updating.ended('firmware', { id: 'u2', parameters: {} }), undefined);
      assert.ok(await records.read('firmware'), 'what another process is in the middle of is left to it');
    }
    await stage.install('u3', { url });
    assert.equal(await stage.reboot(), 'B');
  });

  it('keeps a system without a fleet in reach where policy says so, or none was in reach before', async () => {
    await stage.install('u1', { url: await stage.offer('next', { version: '0.1.0+2' }) });
    await stage.reboot();
    assert.equal(await stage.confirm({ fleet: upstreams(false) }), 1);
    stage.settings.update.commitOffline = true;
    assert.equal(await stage.confirm({ fleet: upstreams(false) }), 0);
    stage.settings.update.commitOffline = false;
    await stage.install('u2', { url: await stage.offer('third', { version: '0.1.0+3' }) });
    const records = new UpdateRecords(stage.settings.dataDir);
    const record = await records.read('firmware');
    assert.ok(record);
    await records.write({ ...record, wasOffline: true });
    await stage.reboot();
    assert.equal(await stage.confirm({ fleet: upstreams(false) }), 0);
  });
});
