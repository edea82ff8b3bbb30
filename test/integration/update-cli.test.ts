import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { RaucSlots } from '#drivers/slots/rauc.ts';
import { Io } from '#runtime/cli/io.ts';
import { updateCheck, updateInstall, updateRevert, updateScan, updateStatus } from '#runtime/cli/update.ts';
import { UpdateRecords } from '#runtime/update/record.ts';
import { NO_SLOTS, type SlotsHere } from '#runtime/updating.ts';
import { RaucWorld } from '#test/support/raucWorld.ts';

const NEVER = new AbortController().signal;

/** What a person sees. */
class Screen extends Io {
  readonly lines: string[] = [];
  override line(text: string): void { this.lines.push(text); }
  override error(text: string): void { this.lines.push(`! ${text}`); }
  override catchSignals(): void { this.exitCode = 0; }
}

describe('update: at the machine', function () {
  this.timeout(60_000);
  let world: RaucWorld;
  let slots: RaucSlots;
  let flags: { data: string; config: string; yes: boolean };
  beforeEach(async function () {
    world = await RaucWorld.open(this);
    slots = new RaucSlots(world.places);
    await slots.commit(NEVER);
    flags = { data: world.path('gateway'), config: world.path('tenzro.yaml'), yes: true };
    writeFileSync(flags.config, '');
    mkdirSync(world.path('stick'));
  });
  afterEach(async () => { await world[Symbol.asyncDispose](); });
  const find = async (): Promise<SlotsHere> => ({ ...NO_SLOTS, firmware: { kind: 'value', value: slots } });
  const refusals = async (): Promise<readonly unknown[]> => (await new UpdateRecords(flags.data).untold()).map(({ event }) => [event.change, event.code]);

  it('checks, installs, shows what starts next, and goes back', async () => {
    const bundle = await world.bundle('next', { version: '0.1.0+2' });
    const screen = new Screen();
    await updateCheck(screen, bundle, flags, find);
    await updateInstall(screen, bundle, flags, find);
    assert.ok(existsSync(world.places.askFile), 'the machine restarts');
    await updateStatus(screen, flags, find);
    assert.deepEqual(screen.lines, [
      '0.1.0+2 can be installed: its signature is good, and it is for this machine', '0.1.0+2 is in slot B, and starts on trial', 'the machine restarts now',
      'made for  tenzro-edge-test', 'slot A    0.1.0+1 (good, runs)', 'slot B    0.1.0+2 (trial, starts next)', 'update    0.1.0+1 → 0.1.0+2: trial',
    ]);
    await world.boot();
    await slots.commit(NEVER);
    await updateRevert(screen, flags, find);
    assert.equal(await world.boot(), 'A');
  });

  it('tells the chain what was offered and refused, and asks where it may not decide', async () => {
    const [foreign, old] = [await world.bundle('foreign', { version: '9', signer: 'foreign' }), await world.bundle('old', { version: '0.1.0' })];
    await assert.rejects(updateInstall(new Screen(), foreign, flags, find), { name: 'TenzroError' });
    await assert.rejects(updateInstall(new Screen(), old, flags, find), { code: 'update.older' });
    await assert.rejects(updateInstall(new Screen(), old, { ...flags, allowDowngrade: true, yes: false }, find), { code: 'cli.usage' });
    assert.equal((await refusals()).length, 2);
    await assert.rejects(updateInstall(new Screen(), world.path('none'), flags, find), { code: 'update.source' });
    await assert.rejects(updateStatus(new Screen(), flags, async () => NO_SLOTS), { code: 'update.unsupported' });
  });

  it('takes the newest of a stick, leaves what is older or foreign, and nothing at all without the owner', async () => {
    const stick = (name: string): string => join(world.path('stick'), name);
    for (const [name, words] of Object.entries({ two: { version: '0.1.0+2' }, three: { version: '0.1.0+3' }, old: { version: '0.1.0' }, evil: { version: '9', signer: 'foreign' as const } })) copyFileSync(await world.bundle(name, words), stick(`tenzro-${name}.raucb`));
    writeFileSync(stick('holiday.raucb'), 'no');
    mkdirSync(stick('tenzro-folder.raucb'));
    writeFileSync(flags.config, 'update: { fromMedia: false }\n');
    const screen = new Screen();
    await updateScan(screen, [], flags, find);
    assert.equal(screen.exitCode, 1);
    await updateScan(screen, [world.path('stick')], flags, find);
    assert.ok(!existsSync(world.places.askFile));
    writeFileSync(flags.config, '');
    await updateScan(screen, [], flags, find);
    assert.equal(screen.exitCode, 0);
    await updateScan(screen, [world.path('stick')], flags, find);
    assert.equal(await world.boot(), 'B');
    assert.match(world.holds('B'), /0\.1\.0\+3/);
    assert.equal((await refusals()).length, 1, 'the foreign one');
  });
});
