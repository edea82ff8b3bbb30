import assert from 'node:assert/strict';
import { existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { RaucSlots } from '#drivers/slots/rauc.ts';
import type { Slot } from '#runtime/core/ports.ts';
import { RaucWorld } from '#test/support/raucWorld.ts';

const NEVER = new AbortController().signal;
const quiet = (): void => undefined;
const slot = (name: string, state: Slot['state'], version?: string): Slot => ({ name, state, version: version === undefined ? { kind: 'none', reason: 'nothing says what it holds' } : { kind: 'value', value: version } });

describe("update: RAUC's service", function () {
  this.timeout(60_000);
  let world: RaucWorld;
  let slots: RaucSlots;
  beforeEach(async function () {
    world = await RaucWorld.open(this);
    slots = new RaucSlots(world.places);
  });
  afterEach(async () => { await world[Symbol.asyncDispose](); });

  it('installs into the other slot, runs it on trial, keeps it when it is committed, and goes back when asked', async () => {
    assert.deepEqual(await slots.status(NEVER), { compatible: 'tenzro-edge-test', booted: slot('A', 'trial', '0.1.0+1'), other: slot('B', 'empty'), next: 'A' }, 'as it was flashed');
    await assert.rejects(slots.revert(NEVER), { code: 'update.no_way_back' });
    await slots.commit(NEVER);
    const bundle = await world.bundle('next', { version: '0.1.0+2' });
    assert.deepEqual(await slots.inspect({ kind: 'file', path: bundle }, NEVER), { compatible: 'tenzro-edge-test', version: '0.1.0+2' });
    const percents: number[] = [];
    await slots.install({ kind: 'file', path: bundle }, (percent) => { percents.push(percent); }, NEVER);
    assert.deepEqual(percents.at(-1), 100);
    assert.deepEqual(percents.toSorted((a, b) => a - b), percents);
    assert.deepEqual(await slots.status(NEVER), { compatible: 'tenzro-edge-test', booted: slot('A', 'good', '0.1.0+1'), other: slot('B', 'trial', '0.1.0+2'), next: 'B' });
    assert.equal(await world.boot(), 'B');
    assert.deepEqual(await slots.status(NEVER), { compatible: 'tenzro-edge-test', booted: slot('B', 'trial', '0.1.0+2'), other: slot('A', 'good', '0.1.0+1'), next: 'B' });
    await slots.commit(NEVER);
    await slots.commit(NEVER);
    assert.equal((await slots.status(NEVER)).booted.state, 'good');
    await slots.revert(NEVER);
    assert.equal((await slots.status(NEVER)).next, 'A');
    assert.equal(await world.boot(), 'A');
    assert.deepEqual(await slots.status(NEVER), { compatible: 'tenzro-edge-test', booted: slot('A', 'good', '0.1.0+1'), other: slot('B', 'good', '0.1.0+2'), next: 'A' });
  });

  it('goes back by itself after three starts that nobody committed', async () => {
    await slots.commit(NEVER);
    await slots.install({ kind: 'file', path: await world.bundle('bad', { version: '0.1.0+2' }) }, quiet, NEVER);
    const tried = [await world.boot(), await world.boot(), await world.boot(), await world.boot()];
    assert.deepEqual(tried, ['B', 'B', 'B', 'A']);
    const { booted, other, next } = await slots.status(NEVER);
    assert.deepEqual([booted, other, next], [slot('A', 'good', '0.1.0+1'), slot('B', 'bad', '0.1.0+2'), 'A']);
    await slots.install({ kind: 'file', path: await world.bundle('better', { version: '0.1.0+3' }) }, quiet, NEVER);
    assert.equal((await slots.status(NEVER)).other.state, 'trial', 'another version has its tries again');
  });

  it('refuses what is foreign, cut, altered, for another machine or no bundle, each by its code, and boots what ran', async () => {
    await slots.commit(NEVER);
    const [cut, altered, none] = [await world.bundle('cut', { version: '9' }), await world.bundle('altered', { version: '9' }), world.path('none.raucb')];
    truncateSync(cut, 100_000);
    const bytes = readFileSync(altered);
    bytes.fill(0x5a, 20_000, 20_001);
    writeFileSync(altered, bytes);
    writeFileSync(none, 'not a bundle at all');
    const refused = async (path: string, code: string): Promise<void> => { await assert.rejects(slots.install({ kind: 'file', path }, quiet, NEVER), { code }); };
    await refused(await world.bundle('foreign', { version: '9', signer: 'foreign' }), 'update.signature');
    await refused(altered, 'update.signature');
    await refused(await world.bundle('other', { version: '9', compatible: 'a-toaster' }), 'update.compatible');
    await refused(cut, 'update.bundle');
    await refused(none, 'update.bundle');
    await refused(world.path('not-there.raucb'), 'update.source');
    await assert.rejects(slots.inspect({ kind: 'file', path: none }, NEVER), { code: 'update.bundle' });
    assert.equal((await slots.status(NEVER)).next, 'A');
    assert.equal(await world.boot(), 'A');
  });

  it('gives up what was installed and is not wanted, and says it where nobody answers', async () => {
    await slots.commit(NEVER);
    const bundle = await world.bundle('next', { version: '0.1.0+2' });
    await slots.install({ kind: 'file', path: bundle }, quiet, NEVER);
    await slots.abandon(NEVER);
    const { other, next } = await slots.status(NEVER);
    assert.deepEqual([other.state, next], ['bad', 'A']);
    const stop = new AbortController();
    const running = slots.install({ kind: 'file', path: bundle }, () => { stop.abort(); }, stop.signal);
    await assert.rejects(running, { code: 'update.slots' });
    await slots.install({ kind: 'file', path: bundle }, quiet, NEVER);
    await slots.restart(NEVER);
    assert.ok(existsSync(world.places.askFile));
    process.env['DBUS_SYSTEM_BUS_ADDRESS'] = `unix:path=${world.path('nobody')}`;
    await assert.rejects(slots.status(NEVER), { code: 'update.slots' });
  });

  it('tells a host that was not made from an image', async () => {
    assert.equal((await RaucSlots.here({ ...world.places, imageFile: world.path('nothing') })).kind, 'none');
    assert.equal((await RaucSlots.here(world.places)).kind, 'value');
  });
});
