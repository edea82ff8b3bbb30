import assert from 'node:assert/strict';
import { SILENT, UNHEALTHY } from '#runtime/controller/rollout.ts';
import { orderOf } from '#runtime/controller/rolloutPlan.ts';
import { commandIdOf } from '#runtime/controller/rolloutState.ts';
import { DeskFleet, type Answer } from '#test/support/deskFleet.ts';
import { failing, type LightGateway } from '#test/support/lightGateway.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const fileOf = (id: string, over: object = {}) => ({
  version: 1,
  rollout: {
    id, group: 'all', command: { type: 'diagnostics', parameters: { to: 'new' }, ttlSeconds: 30 }, rollback: { type: 'diagnostics', parameters: { to: 'old' }, ttlSeconds: 30 },
    stages: [{ name: 'canary', count: 1, soakSeconds: 1 }, { percent: 100 }], healthy: "health.status = 'up'", failures: { percent: 0 }, ...over,
  },
});

describe('roll-outs over a broker', function () {
  this.timeout(60_000);
  let dir: TempDir;
  let fleet: DeskFleet;
  const gateways = new Map<string, LightGateway>();
  const names = ['a1', 'a2', 'a3', 'a4'];

  before(async function () {
    dir = tempDir('rollouts');
    fleet = await DeskFleet.make(this, dir.path);
    await fleet.startController();
    for (const name of names) gateways.set(name, await fleet.gateway(name));
    await until('what they report', async () => (await fleet.ask('fleet.views', {}))['gateways'] === names.length);
  });

  after(async () => {
    await fleet[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  const ended = async (id: string): Promise<Answer> => fleet.ask('rollouts.watch', { id });
  const executions = (id: string, direction: 'forward' | 'undo' = 'forward'): readonly number[] =>
    names.map((name) => gateways.get(name)?.executed.filter((one) => one === commandIdOf(id, name, direction, 1)).length ?? -1);

  it('goes through its stages, each gateway once, and reports', async () => {
    await fleet.startRollout(fileOf('good'), names);
    const told: Answer[] = [];
    const end = await fleet.ask('rollouts.watch', { id: 'good' }, { onEvent: (event) => { told.push(event); } });
    assert.equal(end['outcome'], 'completed', JSON.stringify(end));
    assert.deepEqual(executions('good'), [1, 1, 1, 1]);
    assert.ok(told.some(({ phase, succeeded }) => phase === 'soaking' && succeeded === 1), 'the canary soaks alone');
    const { report } = await fleet.ask('rollouts.show', { id: 'good' });
    assert.deepEqual(((report as Answer)['changed'] as string[]).toSorted(), names);
  });

  it('stops at the first failure that is not borne, rolls back who changed, and names the reason', async () => {
    await using bad = await fleet.gateway('a5', failing('command.config', 'no space'));
    const all = [...names, bad.name];
    await fleet.startRollout(fileOf('bad', { stages: [{ percent: 100 }], onFailure: 'rollBack' }), all);
    const end = await ended('bad');
    assert.equal(end['outcome'], 'rolledBack', JSON.stringify(end));
    const report = end['report'] as { failures: { reason: string; gateways: string[] }[]; undone: string[] };
    assert.deepEqual(report.failures, [{ reason: 'command.config: no space', gateways: ['a5'] }]);
    assert.deepEqual(report.undone.toSorted(), names);
    assert.deepEqual(executions('bad', 'undo'), [1, 1, 1, 1]);
  });

  it('stops when a gateway that changed is down at the end of its soak', async () => {
    const stranger = await fleet.stranger();
    const [canary = ''] = orderOf('sick', names);
    await fleet.startRollout(fileOf('sick', { stages: [{ count: 1, soakSeconds: 2 }, { percent: 100 }] }), names);
    await until('the soak', async () => (await fleet.ask('rollouts.show', { id: 'sick' }))['phase'] === 'soaking');
    await stranger.mqtt.publishAsync(`te/${canary}/status`, '{"status":"down"}', { qos: 1, retain: true });
    const end = await ended('sick');
    assert.equal(end['outcome'], 'stopped');
    assert.deepEqual((end['report'] as { failures: unknown }).failures, [{ reason: UNHEALTHY, gateways: [canary] }]);
    assert.equal(executions('sick').reduce((a, b) => a + b), 1, 'the others are left alone');
    await stranger.mqtt.publishAsync(`te/${canary}/status`, '{"status":"up"}', { qos: 1, retain: true });
  });

  it('gives a silent gateway up in time, and takes its command off the broker', async () => {
    await fleet.startRollout(fileOf('silent', { command: { type: 'diagnostics', ttlSeconds: 1 }, rollback: { type: 'diagnostics', ttlSeconds: 1 }, answerSeconds: 1, stages: [{ percent: 100 }] }), ['b1']);
    const end = await ended('silent');
    assert.deepEqual((end['report'] as { failures: unknown }).failures, [{ reason: SILENT, gateways: ['b1'] }]);
    await until('its command off the broker, after the end is on disk', async () => { // beside the one that cancels it
      const commands = (await fleet.ask('commands.list', { gateway: 'b1' }))['commands'] as Answer[];
      return commands.find(({ type }) => type === 'diagnostics')?.['state'] === 'withdrawn';
    });
  });

  it('sends nothing while it is paused, and is attributed to who paused it', async () => {
    await fleet.startRollout(fileOf('paused', { stages: [{ count: 1, soakSeconds: 2 }, { percent: 100 }] }), names);
    await until('the soak', async () => (await fleet.ask('rollouts.show', { id: 'paused' }))['phase'] === 'soaking');
    await fleet.ask('rollouts.pause', { id: 'paused', by: 'night-shift' });
    await assert.rejects(fleet.ask('rollouts.pause', { id: 'paused', by: 'night-shift' }), { code: 'controller.request' });
    assert.equal((await fleet.ask('rollouts.show', { id: 'paused' }))['isPaused'], true);
    assert.equal(executions('paused').reduce((a, b) => a + b), 1);
    await fleet.ask('rollouts.resume', { id: 'paused', by: 'night-shift' });
    assert.equal((await ended('paused'))['outcome'], 'completed');
  });

  it('rolls back by order after its end, and undoes each change once', async () => {
    await fleet.ask('rollouts.rollback', { id: 'good', by: 'owner', why: 'customers complain' });
    const end = await ended('good');
    assert.equal(end['outcome'], 'rolledBack');
    assert.deepEqual(executions('good', 'undo'), [1, 1, 1, 1]);
  });

  it('aborts: who was not reached is left alone, and what is under way is asked to end', async () => {
    const running = Promise.withResolvers<void>();
    await using slow = await fleet.gateway('a6', async (_command, signal) => {
      running.resolve();
      return new Promise((_resolve, reject) => { signal.addEventListener('abort', () => { reject(new Error('aborted')); }); });
    });
    await fleet.startRollout(fileOf('stopped', { stages: [{ percent: 100 }], concurrency: 1, group: 'slow' }), [slow.name]);
    await running.promise;
    await fleet.ask('rollouts.abort', { id: 'stopped', by: 'owner', why: 'wrong version' });
    const end = await ended('stopped');
    assert.equal(end['outcome'], 'aborted');
    assert.deepEqual((end['report'] as { failures: unknown }).failures, [{ reason: 'command.cancelled: cancelled', gateways: ['a6'] }]);
  });

  it('begins nothing without every message, and takes none that is not of its plan', async () => {
    const file = fileOf('unsigned');
    await fleet.ask('rollouts.prepare', { plan: file, gateways: names });
    await assert.rejects(fleet.ask('rollouts.start', { id: 'unsigned' }), { code: 'controller.request', message: /16 messages|not signed yet/ });
    const id = commandIdOf('unsigned', 'a1', 'forward', 1);
    await assert.rejects(fleet.ask('rollouts.sign', { id: 'unsigned', commands: [fleet.sign('a1', { id, parameters: { to: 'elsewhere' }, ttlSeconds: 90_000 })] }), { code: 'controller.request', message: /none of the messages/ });
    await assert.rejects(fleet.ask('rollouts.sign', { id: 'unsigned', commands: [fleet.sign('a2', { id, parameters: { to: 'new' }, ttlSeconds: 90_000 })] }), { code: 'controller.request' });
    await assert.rejects(fleet.ask('rollouts.sign', { id: 'unsigned', commands: [fleet.sign('a1', { id, parameters: { to: 'new' }, ttlSeconds: 10 })] }), { code: 'controller.request', message: /not valid for as long/ });
    await assert.rejects(fleet.ask('rollouts.prepare', { plan: fileOf('good'), gateways: names }), { code: 'controller.request', message: /ids serve once/ });
    await assert.rejects(fleet.ask('rollouts.show', { id: 'unsigned' }), { code: 'controller.request' });
  });
});
