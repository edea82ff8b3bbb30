import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { tenzro } from '#test/support/gateway.ts';
import { randomOf } from '#test/support/random.ts';
import { tempDir } from '#test/support/temp.ts';
import { TwinFleet } from '#test/support/twinFleet.ts';
import { until } from '#test/support/until.ts';

const RUNS = Number(process.env['TENZRO_KILL_RUNS'] ?? 3);
/** Verifying, recording, replacing the file, failing to start, going back and starting again take some 800 ms. */
const LIFE_MS_MAX = 1_000;

/** kill -9 of the real gateway while it tries a configuration: it ends with one that its fleet can reach, and says what became of the other. */
describe('twin: kill -9', function () {
  this.timeout(240_000);

  it(`goes back from a configuration that it cannot start with, over ${RUNS} kills in the middle`, async function () {
    using dir = tempDir('twin-kill');
    await using fleet = await TwinFleet.open(this, dir.path);
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as AddressInfo;
    const random = randomOf(20_261_124);
    const before = fleet.config;
    for (let run = 1; run <= RUNS; run++) {
      {
        await using gateway = await fleet.start();
        await until('a report', () => fleet.last);
        await fleet.set(run, { mqtt: { listeners: [{ host: '127.0.0.1', port, anonymous: true }] } });
        await delay(random(LIFE_MS_MAX));
        await gateway.kill();
      }
      await using gateway = await fleet.start();
      await fleet.reported(run, 'reverted');
      assert.deepEqual([fleet.config, existsSync(`${fleet.configFile}.trial`)], [before, false], `run ${run}`);
      assert.equal((await fleet.told(run)).at(-1), 'reverted');
      await gateway.stop();
    }
    taken.close();
    const checked = await tenzro(fleet.dataDir, ['fsck', '--json']);
    assert.equal(checked.code, 0, checked.output);
  });

  it('goes back from a configuration without a fleet, when it was killed under it', async function () {
    using dir = tempDir('twin-cut');
    await using fleet = await TwinFleet.open(this, dir.path);
    const before = fleet.config;
    {
      await using gateway = await fleet.start();
      await until('a report', () => fleet.last);
      await fleet.set(1, fleet.cutOff, { confirmSeconds: 10 });
      await until('the trial', () => fleet.config !== before);
      await gateway.kill();
    }
    await using gateway = await fleet.start();
    assert.equal((await fleet.reported(1, 'reverted', 40_000)).reason, 'the fleet did not confirm it within 10 s');
    assert.deepEqual([fleet.config, await gateway.stop()], [before, 0]);
  });

  it('confirms nothing by being killed: after three restarts without a confirmation it goes back', async function () {
    using dir = tempDir('twin-starts');
    await using fleet = await TwinFleet.open(this, dir.path);
    fleet.isConfirming = false;
    const before = fleet.config;
    {
      await using gateway = await fleet.start();
      await until('a report', () => fleet.last);
      await fleet.set(1, { log: { level: 'debug' } }, { confirmSeconds: 600 });
      await fleet.reported(1, 'probation');
      await gateway.kill();
    }
    for (let start = 1; start <= 3; start++) {
      await using gateway = await fleet.start();
      assert.match(fleet.config, /debug/);
      await gateway.kill();
    }
    await using gateway = await fleet.start();
    assert.match((await fleet.reported(1, 'reverted')).reason ?? '', /restarted|started 4 times/);
    assert.equal(fleet.config, before);
    await gateway.stop();
  });
});
