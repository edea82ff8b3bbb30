import assert from 'node:assert/strict';
import { DeskFleet } from '#test/support/deskFleet.ts';
import { newParty } from '#test/support/commandHarness.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import type { TestClient } from '#test/support/mqttClient.ts';
import { until } from '#test/support/until.ts';

const nameOf = (gateway: string, id: string) => ({ gateway, type: 'diagnostics', id });
const topicOf = (gateway: string, id: string): string => `te/${gateway}/device/main///cmd/diagnostics/${id}`;

/** Whoever has the password of the fleet's broker, or the broker itself, against the controller's desk. */
describe('attacks on the desk of commands', function () {
  this.timeout(60_000);
  let dir: TempDir;
  let fleet: DeskFleet;
  let stranger: TestClient;

  before(async function () {
    dir = tempDir('attack-desk');
    fleet = await DeskFleet.make(this, dir.path);
    await fleet.startController();
    stranger = await fleet.stranger();
  });

  after(async () => {
    await fleet[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  const say = async (topic: string, message: unknown): Promise<void> => { await stranger.mqtt.publishAsync(topic, typeof message === 'string' ? message : JSON.stringify(message), { qos: 1, retain: true }); };
  const stateOf = async (gateway: string, id: string): Promise<unknown> => (await fleet.ask('commands.show', nameOf(gateway, id)))['state'];
  let marks = 0;
  const marked = async (gateway: string): Promise<void> => {
    const id = `mark-${++marks}`;
    await fleet.ask('commands.submit', { commands: [fleet.sign(gateway, { id })] });
    await say(topicOf(gateway, id), { status: 'executing' });
    await until('what came before it to be heard', async () => (await stateOf(gateway, id)) === 'executing');
  };

  it('does not believe states that fit another command, or that are no states at all', async () => {
    const order = fleet.sign('f1', { id: 'a', parameters: { to: 'valve 1' } });
    await fleet.ask('commands.submit', { commands: [order] });
    const { signature: _, ...members } = order.message;
    for (const forged of [
      { ...members, status: 'successful', parameters: { to: 'valve 2' } }, { ...members, status: 'successful', issued: 1 }, { ...members, status: 'failed', gateway: 'f2' }, { ...members, status: 'successful', result: 'done' },
      { status: 7 }, '[]', 'not JSON', '{"status":"successful","result":{"a":[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]}}', JSON.stringify({ status: 'successful', more: 'x'.repeat(120_000) }), { status: 'refused' },
    ]) await say(topicOf('f1', 'a'), forged);
    await marked('f1');
    assert.equal(await stateOf('f1', 'a'), 'sent');
  });

  it('does not let states go back, nor an outcome change', async () => {
    await fleet.ask('commands.submit', { commands: [fleet.sign('f2', { id: 'a' })] });
    await until('the broker to have it', async () => (await stateOf('f2', 'a')) === 'sent');
    for (const status of ['executing', 'scheduled']) await say(topicOf('f2', 'a'), { status });
    await marked('f1');
    assert.equal(await stateOf('f2', 'a'), 'executing', 'it had begun');
    for (const status of ['failed', 'successful', 'executing', 'init']) await say(topicOf('f2', 'a'), { status, ...(status === 'failed' ? { reason: 'command.timeout: late' } : {}) });
    await marked('f2');
    const { state, reason } = await fleet.ask('commands.show', nameOf('f2', 'a'));
    assert.deepEqual([state, reason], ['failed', 'command.timeout: late']);
  });

  it('does a command once, however often its retained message is played again, and clears it each time', async () => {
    const gateway = await fleet.gateway('f3');
    const order = fleet.sign('f3', { id: 'a' });
    await fleet.ask('commands.submit', { commands: [order] });
    await fleet.watch([nameOf('f3', 'a')]);
    await stranger.mqtt.subscribeAsync(topicOf('f3', 'a'), { qos: 1 });
    for (let round = 0; round < 3; round++) {
      const before = stranger.received.filter(({ topic, payload }) => topic === topicOf('f3', 'a') && payload === '').length;
      await say(topicOf('f3', 'a'), order.message);
      await until('it to be cleared', () => stranger.received.filter(({ topic, payload }) => topic === topicOf('f3', 'a') && payload === '').length > before);
    }
    assert.deepEqual(gateway.executed, ['a']);
    assert.equal(await stateOf('f3', 'a'), 'successful');
  });

  it('brings a command back that somebody cleared before its gateway came', async () => {
    await fleet.ask('commands.submit', { commands: [fleet.sign('f4', { id: 'a' })] });
    await until('the broker to have it', async () => (await stateOf('f4', 'a')) === 'sent');
    await say(topicOf('f4', 'a'), '');
    await fleet.killController();
    await fleet.startController();
    const gateway = await fleet.gateway('f4');
    const [told] = await fleet.watch([nameOf('f4', 'a')]);
    assert.equal(told?.['state'], 'successful');
    assert.deepEqual(gateway.executed, ['a']);
  });

  it('takes no command by a key that is not of the fleet, whoever hands it in', async () => {
    const order = fleet.sign('f5', { id: 'a' }, newParty('thief'));
    await assert.rejects(fleet.ask('commands.submit', { commands: [order] }), { code: 'command.operator' });
    const { gateway, message } = fleet.sign('f5', { id: 'a' });
    await assert.rejects(fleet.ask('commands.submit', { commands: [{ gateway, message: { ...message, parameters: { to: 'theirs' } } }] }), { code: 'command.signature' }, 'altered under a good one');
    await assert.rejects(fleet.ask('commands.show', nameOf('f5', 'a')), { code: 'controller.request' });
  });
});
