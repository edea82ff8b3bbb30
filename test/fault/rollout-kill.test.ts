import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { DeskFleet } from '#test/support/deskFleet.ts';
import { failing, lasting, type LightGateway } from '#test/support/lightGateway.ts';
import { randomOf } from '#test/support/random.ts';
import { tempDir } from '#test/support/temp.ts';

const KILLS = Number(process.env['TENZRO_KILL_RUNS'] ?? 4);
const GATEWAYS = 24;
/** From the connect on it waits 2 s for what the broker retains: kills come before, in and after that. */
const LIFE_MS_MAX = 3_000;

/** kill −9 of controller and broker, in turns, in the middle of a roll-out: it goes on where it was, every gateway does every command at most once, and nobody is forgotten. */
describe('roll-outs: kill -9 of controller and broker', function () {
  this.timeout(180_000);

  it(`ends as its plan says, each command done once, over ${KILLS} kills`, async function () {
    using dir = tempDir('rollout-kill');
    await using fleet = await DeskFleet.make(this, dir.path);
    const gateways: LightGateway[] = [];
    for (let at = 0; at < GATEWAYS; at++) gateways.push(await fleet.gateway(`k${at}`, at < 2 ? failing('command.config', 'no space') : lasting(300)));
    const random = randomOf(20_261_123);
    await fleet.startController();
    const command = { type: 'diagnostics', ttlSeconds: 120 };
    await fleet.startRollout({
      version: 1, rollout: { id: 'kill', group: 'all', command, rollback: command, stages: [{ count: 4, soakSeconds: 1 }, { percent: 50, soakSeconds: 1 }, { percent: 100 }], failures: { max: 2 }, concurrency: 3, healthy: "health.status = 'up'" },
    }, gateways.map(({ name }) => name));
    for (let kill = 0; kill < KILLS; kill++) {
      await delay(random(LIFE_MS_MAX));
      if (kill % 2 === 1) await fleet.killBroker();
      else {
        await fleet.killController();
        await fleet.startController();
      }
    }
    const end = await fleet.ask('rollouts.watch', { id: 'kill' });
    assert.equal(end['outcome'], 'completed', JSON.stringify(end));
    assert.equal(end['succeeded'], GATEWAYS - 2);
    for (const { name, executed } of gateways) assert.equal(executed.length, 1, `${name}: ${executed.join(' ')}`);
    const { total } = await fleet.ask('commands.list', { open: true });
    assert.equal(total, 0);
  });
});
