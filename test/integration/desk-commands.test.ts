import assert from 'node:assert/strict';
import { DeskFleet } from '#test/support/deskFleet.ts';
import { failing } from '#test/support/lightGateway.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const nameOf = (gateway: string, id: string, type = 'diagnostics') => ({ gateway, type, id });

describe('desk of commands', function () {
  this.timeout(60_000);
  let dir: TempDir;
  let fleet: DeskFleet;

  before(async function () {
    dir = tempDir('desk');
    fleet = await DeskFleet.make(this, dir.path);
    await fleet.startController();
  });

  after(async () => {
    await fleet[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  it('brings a command to a gateway, keeps its result, and clears the topic', async () => {
    const gateway = await fleet.gateway('edge-1', async () => ({ answer: 42 }));
    const stranger = await fleet.stranger();
    await stranger.mqtt.subscribeAsync('te/edge-1/device/main///cmd/+/+', { qos: 1 });
    const { commands } = await fleet.ask('commands.submit', { commands: [fleet.sign('edge-1', { id: 'a' })] });
    assert.equal((commands as unknown[]).length, 1);
    const [told] = await fleet.watch([nameOf('edge-1', 'a')]);
    assert.equal(told?.['state'], 'successful');
    assert.deepEqual(told['said'], { result: { answer: 42 } });
    assert.equal(told['by'], 'owner-1');
    await until('the topic to be cleared', () => stranger.received.at(-1)?.payload === '');
    assert.deepEqual(gateway.executed, ['a']);
    await fleet.ask('commands.submit', { commands: [fleet.sign('edge-1', { id: 'b' })] });
    await fleet.watch([nameOf('edge-1', 'b')]);
    const { commands: listed } = await fleet.ask('commands.list', { gateway: 'edge-1' });
    assert.deepEqual((listed as { id: string }[]).map(({ id }) => id).toSorted(), ['a', 'b']);
  });

  it('tells why a command failed, as the gateway says it', async () => {
    await fleet.gateway('edge-2', failing('command.config', 'the file is read-only'));
    await fleet.ask('commands.submit', { commands: [fleet.sign('edge-2')] });
    const [told] = await fleet.watch([nameOf('edge-2', '1')]);
    assert.equal(told?.['state'], 'failed');
    assert.equal(told['reason'], 'command.config: the file is read-only');
  });

  const refusals: readonly (readonly [what: string, code: string, order: () => { gateway: string; message: Readonly<Record<string, unknown>> }])[] = [
    ['a command for another gateway', 'command.target', () => ({ ...fleet.sign('edge-1'), gateway: 'edge-9' })],
    ['an altered command', 'command.signature', () => { const { gateway, message } = fleet.sign('edge-9'); return { gateway, message: { ...message, parameters: { more: 1 } } }; }],
    ['a command without a signature', 'command.unsigned', () => { const { gateway, message: { signature: _, ...message } } = fleet.sign('edge-9'); return { gateway, message }; }],
    ['a command whose time is over', 'command.expired', () => fleet.sign('edge-9', { issued: 1_700_000_000 })],
    ['a command of a version to come', 'command.version', () => { const { gateway, message } = fleet.sign('edge-9'); return { gateway, message: { ...message, version: 2 } }; }],
    ['a state in place of a command', 'command.malformed', () => { const { gateway, message } = fleet.sign('edge-9'); return { gateway, message: { ...message, status: 'successful' } }; }],
    ['a command of more than 64 KiB', 'command.malformed', () => { const { gateway, message } = fleet.sign('edge-9'); return { gateway, message: { ...message, more: 'x'.repeat(70_000) } }; }],
    ['what is no command', 'command.unsigned', () => ({ gateway: 'edge-9', message: { hello: true } })],
  ];
  for (const [what, code, order] of refusals) {
    it(`refuses ${what}, and takes none of those beside it`, async () => {
      const id = `beside-${code.replace('.', '-')}`;
      await assert.rejects(fleet.ask('commands.submit', { commands: [fleet.sign('edge-8', { id }), order()] as never }), { code });
      await assert.rejects(fleet.ask('commands.show', nameOf('edge-8', id)), { code: 'controller.request' });
    });
  }

  it('refuses another command under an id that was used, and has the same one only once', async () => {
    const order = fleet.sign('edge-7', { id: 'once' });
    await fleet.ask('commands.submit', { commands: [order] });
    await fleet.ask('commands.submit', { commands: [order] });
    await assert.rejects(fleet.ask('commands.submit', { commands: [fleet.sign('edge-7', { id: 'once', parameters: { other: true } })] }), { code: 'controller.request' });
    const { total } = await fleet.ask('commands.list', { gateway: 'edge-7' });
    assert.equal(total, 1);
  });

  it('takes a cancelled command off the broker, so that a gateway that comes later does not do it', async () => {
    await fleet.ask('commands.submit', { commands: [fleet.sign('edge-6', { id: 'stop' })] });
    await until('the broker to have it', async () => (await fleet.ask('commands.show', nameOf('edge-6', 'stop')))['state'] === 'sent');
    await fleet.ask('commands.cancel', { commands: [fleet.sign('edge-6', { type: 'cancel', id: 'c1', parameters: { type: 'diagnostics', id: 'stop' } })] });
    const [told] = await fleet.watch([nameOf('edge-6', 'stop')]);
    assert.equal(told?.['state'], 'withdrawn');
    const gateway = await fleet.gateway('edge-6');
    const [cancel] = await fleet.watch([nameOf('edge-6', 'c1', 'cancel')]);
    assert.equal(cancel?.['state'], 'failed', 'there is nothing under way to cancel');
    assert.deepEqual(gateway.executed, []);
  });

  it('ends a command that runs, by its cancel', async () => {
    const running = Promise.withResolvers<void>();
    await fleet.gateway('edge-5', async (_command, signal) => {
      running.resolve();
      return new Promise((_resolve, reject) => { signal.addEventListener('abort', () => { reject(new Error('aborted')); }); });
    });
    await fleet.ask('commands.submit', { commands: [fleet.sign('edge-5', { id: 'long' })] });
    await running.promise;
    await fleet.ask('commands.cancel', { commands: [fleet.sign('edge-5', { type: 'cancel', id: 'c1', parameters: { type: 'diagnostics', id: 'long' } })] });
    await until('its true end', async () => (await fleet.ask('commands.show', nameOf('edge-5', 'long')))['state'] === 'failed');
    const { reason } = await fleet.ask('commands.show', nameOf('edge-5', 'long'));
    assert.equal(reason, 'command.cancelled: cancelled');
  });

  it('keeps members of a state that it does not know', async () => {
    const stranger = await fleet.stranger();
    await fleet.ask('commands.submit', { commands: [fleet.sign('edge-4', { id: 'later' })] });
    await stranger.mqtt.publishAsync('te/edge-4/device/main///cmd/diagnostics/later', JSON.stringify({ status: 'executing', step: 'unknown to us' }), { retain: true, qos: 1 });
    await until('the state', async () => (await fleet.ask('commands.show', nameOf('edge-4', 'later')))['state'] === 'executing');
    assert.deepEqual((await fleet.ask('commands.show', nameOf('edge-4', 'later')))['said'], { step: 'unknown to us' });
  });
});
