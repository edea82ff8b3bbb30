import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gatewayConfig, makeBroker, makeController, type Controller, type FleetBroker } from '#test/support/fleet.ts';
import { Gateway, tenzro } from '#test/support/gateway.ts';
import { connectClient } from '#test/support/mqttClient.ts';
import type { Ran } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const NAMES = ['edge-1', 'edge-2'] as const;

/** Everything as its users have it: mosquitto, `tenzro fleet serve`, two gateways, and the command line. */
describe('tenzro fleet run and rollout', function () {
  this.timeout(90_000);
  let dir: TempDir;
  let controller: Controller;
  let broker: FleetBroker;
  const resources = new AsyncDisposableStack();

  const fleet = async (...args: readonly string[]): Promise<Ran> => tenzro(dir.path, ['fleet', ...args, '--dir', controller.dir]);
  const signing = async (...args: readonly string[]): Promise<Ran> => fleet(...args, '--passphrase-file', join(dir.path, 'fleet.passphrase'));

  before(async function () {
    dir = tempDir('fleet-run');
    broker = await makeBroker(this, dir.path);
    resources.use(await broker.start());
    controller = await makeController(dir.path);
    resources.use(await controller.start(broker));
    for (const name of NAMES) {
      const dataDir = join(dir.path, name);
      mkdirSync(dataDir, { mode: 0o700 });
      writeFileSync(join(dataDir, 'tenzro.yaml'), `${gatewayConfig(name, broker, controller.receiptKey)}fleet: { operators: [{ name: owner, publicKeyFile: ${controller.dir}/owner-1.key.pub, may: ['*'] }] }\n`);
      resources.use(await Gateway.start({ dataDir }));
    }
    writeFileSync(join(controller.dir, 'groups.yaml'), "version: 1\ngroups:\n  all: { where: \"health.status = 'up'\" }\n  listed: { gateways: [edge-1, edge-9] }\n");
    await until('both gateways', async () => (await fleet('groups', 'show', 'all', '--json')).stdout.includes('"gateways":["edge-1","edge-2"]'), { timeoutMs: 20_000 });
  });

  after(async () => {
    await resources[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  it('commands a gateway and prints its result', async () => {
    const { code, stdout, output } = await signing('run', 'edge-1', 'diagnostics');
    assert.equal(code, 0, output);
    assert.equal((JSON.parse(stdout) as { node: string }).node, 'edge-1');
  });

  it('commands a group, and tells for every gateway what came of it', async () => {
    const { code, stdout, output } = await signing('run', '@all', 'attest', 'nonce=00112233445566778899aabbccddeeff', '--json');
    assert.equal(code, 0, output);
    const { commands } = JSON.parse(stdout) as { commands: { gateway: string; state: string; said: { result: { sequence: number } } }[] };
    assert.deepEqual(commands.map(({ gateway, state }) => `${gateway} ${state}`).toSorted(), NAMES.map((name) => `${name} successful`));
    assert.ok(commands.every(({ said }) => said.result.sequence >= 0));
  });

  it('exits 1 where a command fails, with the gateways grouped by the reason', async () => {
    const { code, stdout } = await signing('run', '@all', 'attest', 'nonce=zz');
    assert.equal(code, 1);
    assert.match(stdout, /0 of 2 successful\ncommand\.parameters: .*\n {2}2: edge-1 edge-2|0 of 2 successful\ncommand\.parameters: .*\n {2}2: edge-2 edge-1/);
  });

  it('lists commands, and takes one back that waits for its window', async () => {
    const handed = await signing('run', 'edge-1', 'sync_time', '--not-before', '2100-01-01T00:00Z', '--ttl', '1h', '--no-wait');
    assert.equal(handed.code, 2, 'a command that could never begin is not handed in');
    const soon = new Date(Date.now() + 3_600_000).toISOString();
    const { stdout, output } = await signing('run', 'edge-1', 'sync_time', '--not-before', soon, '--no-wait', '--json');
    const [command] = (JSON.parse(stdout) as { commands: { id: string }[] }).commands;
    assert.ok(command, output);
    await until('it to be scheduled', async () => (await fleet('commands', 'edge-1', '--open')).stdout.includes(`sync_time/${command.id}`.padEnd(40) + ' scheduled'));
    const { code } = await signing('cancel', 'edge-1', 'sync_time', command.id);
    assert.equal(code, 0);
    await until('its end', async () => (await fleet('commands', 'edge-1')).stdout.includes('command.cancelled: cancelled'));
    assert.equal((await fleet('commands', 'edge-1', '--open')).stdout, '');
  });

  it('finds the true end of a command in the chain of the gateway', async () => {
    const { stdout } = await signing('run', 'edge-2', 'diagnostics', '--json');
    const [command] = (JSON.parse(stdout) as { commands: { id: string }[] }).commands;
    assert.ok(command);
    const attested = await until('a block over it', async () => {
      const { code, stdout: line } = await fleet('attested', 'edge-2', 'diagnostics', command.id, '--json');
      return code === 0 && JSON.parse(line) as { told: string; attested: { state: string }; agrees: boolean };
    }, { timeoutMs: 20_000 });
    assert.deepEqual([attested.told, attested.attested.state, attested.agrees], ['successful', 'successful', true]);
    const unheard = await fleet('attested', 'edge-2', 'diagnostics', 'never');
    assert.deepEqual([unheard.code, unheard.stdout], [1, 'no block that came from edge-2 covers an end of diagnostics/never yet; the desk does not know it\n']);
  });

  it('does not find in the chain what somebody at the broker invented', async () => {
    const soon = new Date(Date.now() + 3_600_000).toISOString();
    const { stdout } = await signing('run', 'edge-2', 'sync_time', '--not-before', soon, '--no-wait', '--json');
    const [command] = (JSON.parse(stdout) as { commands: { id: string }[] }).commands;
    assert.ok(command);
    await using liar = await connectClient(broker.port, { protocol: 'mqtts', host: 'localhost', ca: readFileSync(broker.caFile, 'utf8'), username: 'fleet', password: readFileSync(broker.passwordFile, 'utf8').trim() });
    await liar.mqtt.publishAsync(`te/edge-2/device/main///cmd/sync_time/${command.id}`, '{"status":"successful"}', { qos: 1, retain: true });
    await until('the desk to believe it', async () => (await fleet('commands', 'edge-2')).stdout.includes(`sync_time/${command.id}`.padEnd(40) + ' successful'));
    const { code, stdout: line } = await fleet('attested', 'edge-2', 'sync_time', command.id);
    assert.deepEqual([code, line], [1, `no block that came from edge-2 covers an end of sync_time/${command.id} yet; the desk was told: successful\n`]);
  });

  it('names whom a list means that nobody has heard of', async () => {
    const { code, stdout } = await fleet('groups', 'show', 'listed', '--json');
    assert.equal(code, 1);
    assert.deepEqual(JSON.parse(stdout), { name: 'listed', gateways: ['edge-1'], unknown: ['edge-9'] });
    assert.match((await fleet('groups', 'ls')).stdout, /all\s+2 of 2/);
    assert.equal((await fleet('groups', 'check')).code, 0);
  });

  it('rolls a command out in stages, reports, and rolls it back by order', async () => {
    const file = join(dir.path, 'rollout.yaml');
    writeFileSync(file, [
      'version: 1', 'rollout:', '  id: look', '  group: all', '  command: { type: diagnostics, ttlSeconds: 30 }', '  rollback: { type: sync_time, ttlSeconds: 30 }',
      '  stages: [{ name: canary, count: 1, soakSeconds: 1 }, { percent: 100 }]', "  healthy: \"health.status = 'up'\"", '  failures: { percent: 0 }', '',
    ].join('\n'));
    const { code, stdout, output } = await signing('rollout', 'start', file);
    assert.equal(code, 0, output);
    assert.match(stdout, /soaking: 1\/2 canary .* 1 ok of 2/);
    assert.match(stdout, /completed\nchanged {4}2 of 2/);
    assert.match((await fleet('rollout', 'ls')).stdout, /^look\s+completed/);
    assert.equal((await fleet('rollout', 'pause', 'look')).code, 2, 'it has ended');
    assert.equal((await fleet('rollout', 'rollback', 'look', '--why', 'a drill')).code, 0);
    const end = await fleet('rollout', 'watch', 'look');
    assert.equal(end.code, 1, 'it did not complete');
    assert.match(end.stdout, /rolledBack: a drill\nundone {5}2 of 2/);
    assert.match((await fleet('acts')).stdout, /rollout\.started[\s\S]*rollout\.rollBack/);
  });
});
