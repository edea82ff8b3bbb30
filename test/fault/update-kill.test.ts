import assert from 'node:assert/strict';
import { UpdateRecords } from '#runtime/update/record.ts';
import { Program } from '#test/support/process.ts';
import { until } from '#test/support/until.ts';
import { UpdateStage } from '#test/support/updateStage.ts';

const VICTIM = new URL('../support/updateVictim.ts', import.meta.url).pathname;

describe('update: kill -9', function () {
  this.timeout(60_000);
  let stage: UpdateStage;
  beforeEach(async function () { stage = await UpdateStage.open(this); });
  afterEach(async () => { await stage[Symbol.asyncDispose](); });

  /** Kills the one that installs when its output says so. */
  async function killedAt(url: string, sign: RegExp): Promise<void> {
    await using victim = new Program(process.execPath, [VICTIM, stage.settings.dataDir, url, JSON.stringify(stage.world.places)]);
    await until('the installation', () => sign.test(victim.stdout), { intervalMs: 2, hopeless: () => (victim.running || sign.test(victim.stdout) ? undefined : victim.output) });
    await victim.end('SIGKILL');
  }

  it('of who installs, at its beginning, in its middle and at its end: what ran starts next unless all of the other one is there', async () => {
    const url = await stage.offer('next', { version: '0.1.0+2' });
    const records = new UpdateRecords(stage.settings.dataDir);
    for (const sign of [/installing \d/, /installing [4-9]\d/, /installing 100/, /installed/]) {
      await killedAt(url, sign);
      const isWhole = (await records.read('firmware'))?.phase === 'trial';
      await stage.restartGateway();
      if (isWhole) continue;
      assert.equal(await stage.updating.ended('firmware', { id: 'killed', parameters: {} }), undefined, 'and it waited for RAUC, which goes on');
      const { booted, next } = await stage.slots.status(stage.never);
      assert.deepEqual([booted.name, next, await records.read('firmware')], ['A', 'A', undefined], String(sign));
    }
    assert.equal(await stage.reboot(), 'B');
    assert.equal(await stage.confirm({}), 0);
    assert.deepEqual(await stage.updating.ended('firmware', { id: 'killed', parameters: {} }), { effective: 'now', version: '0.1.0+2', slot: 'B', replaced: '0.1.0+1' });
  });
});
