import assert from 'node:assert/strict';
import { DeskFleet } from '#test/support/deskFleet.ts';
import { Responders } from '#test/support/responders.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const GATEWAYS = 300;
const names = Array.from({ length: GATEWAYS }, (_, at) => `s${at}`);

/** The gateways are simulated: one connection answers for all of them. Broker, desk, roll-outs and signatures are the real ones. */
describe(`desk and roll-outs with ${GATEWAYS} simulated gateways`, function () {
  this.timeout(120_000);
  let dir: TempDir;
  let fleet: DeskFleet;
  let responders: Responders;

  before(async function () {
    dir = tempDir('desk-scale');
    fleet = await DeskFleet.make(this, dir.path);
    await fleet.startController();
    responders = await Responders.of(await fleet.stranger(), names, { miss: 200, repeat: 200, shuffle: 200, fail: 50 });
  });

  after(async () => {
    await fleet[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  it('ends every command once, in the state that its gateway said, where deliveries get lost, doubled and out of order', async () => {
    const orders = names.map((name) => fleet.sign(name, { id: 'one' }));
    const beganMs = performance.now();
    for (let at = 0; at < orders.length; at += 100) await fleet.ask('commands.submit', { commands: orders.slice(at, at + 100) });
    const watched = fleet.watch(names.map((gateway) => ({ gateway, type: 'diagnostics', id: 'one' })));
    await until('the first round', () => responders.done.size + responders.missed >= GATEWAYS, { timeoutMs: 30_000 });
    assert.ok(responders.missed > 0);
    while (responders.done.size < GATEWAYS) await responders.listen();
    const told = await watched;
    console.log(`        ${GATEWAYS} commands to their end in ${Math.round(performance.now() - beganMs)} ms, ${responders.missed} deliveries missed`);
    assert.equal(told.length, GATEWAYS);
    for (const { gateway, state } of told as { gateway: string; state: 'successful' | 'failed' }[]) assert.equal(state, responders.done.get(`te/${gateway}/device/main///cmd/diagnostics/one`), gateway);
    assert.equal((await fleet.ask('commands.list', { open: true }))['total'], 0);
  });

  it('rolls out to all of them, and tells the reason of those that failed', async () => {
    const command = { type: 'diagnostics', ttlSeconds: 60 };
    const beganMs = performance.now();
    const file = { version: 1, rollout: { id: 'wide', group: 'all', command, rollback: command, stages: [{ count: 10 }, { percent: 50 }, { percent: 100 }], failures: { percent: 100 }, concurrency: 100, healthy: "health.status = 'up'" } };
    await fleet.startRollout(file, names);
    const signedMs = performance.now();
    const rounds = setInterval(() => { void responders.listen(); }, 500);
    const end = await fleet.ask('rollouts.watch', { id: 'wide' });
    clearInterval(rounds);
    console.log(`        signed and handed in 6 × ${GATEWAYS} messages in ${Math.round(signedMs - beganMs)} ms, rolled out in ${Math.round(performance.now() - signedMs)} ms`);
    assert.equal(end['outcome'], 'completed', JSON.stringify(end));
    const failed = [...responders.done.values()].filter((state) => state === 'failed').length;
    const { failures } = end['report'] as { failures: { reason: string; gateways: string[] }[] };
    assert.deepEqual(failures.map(({ reason }) => reason), ['command.config: disk full']);
    assert.ok((failures[0]?.gateways.length ?? 0) <= failed);
    assert.equal(Number(end['succeeded']) + Number(end['failed']), GATEWAYS);
  });
});
