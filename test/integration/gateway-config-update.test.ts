import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '#runtime/core/clock.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { signCommand } from '#runtime/fleet/message.ts';
import { Requester, type Message } from '#test/support/commandGateway.ts';
import { logLines, type Gateway } from '#test/support/gateway.ts';
import { requirePeer } from '#test/support/peers.ts';
import { freePort } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { TwinFleet } from '#test/support/twinFleet.ts';
import { until } from '#test/support/until.ts';

/** A whole configuration file by command, which goes back where the gateway cannot reach a fleet under it. */
describe('gateway: config_update with confirm_s', function () {
  this.timeout(90_000);
  let dir: TempDir;
  let fleet: TwinFleet;
  let gateway: Gateway;
  let requester: Requester;

  before(async function () {
    requirePeer(this, 'mosquitto_pub');
    dir = tempDir('config-update');
    fleet = await TwinFleet.open(this, dir.path);
    const port = await freePort();
    gateway = await fleet.start({ port });
    requester = Requester.at(port);
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    await fleet[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  const send = async (type: string, id: string, parameters: Message): Promise<void> => {
    const claims = { gateway: 'gw1', target: MAIN_ENTITY, type, id, issued: Math.floor(systemClock.wallMicros() / 1_000_000), ttlSeconds: 60, isDryRun: false, parameters };
    writeFileSync(join(dir.path, 'command.json'), JSON.stringify(signCommand(fleet.owner, claims)));
    await until('the broker', async () => { await requester.publish(type, id, join(dir.path, 'command.json')); return true; }); // it may be restarting
  };
  const ended = async (type: string, id: string): Promise<Message> => until(`${type}/${id}`, () => requester.ended(type, id), { timeoutMs: 40_000 });
  const changes = async (id: string): Promise<readonly unknown[]> => {
    const lines = await logLines(fleet.dataDir, ['--kind', 'config', '--limit', '10000']);
    return lines.map(({ body }) => body as Message).filter(({ command }) => command === id).map(({ change }) => change);
  };

  it('restarts by itself, and is done when a fleet has heard it', async () => {
    const next = fleet.configuration('log: { level: warn }');
    await send('config_update', 'good', { config: next, confirm_s: 30 });
    const { status, result } = await ended('config_update', 'good');
    assert.deepEqual([status, result, fleet.config, existsSync(`${fleet.configFile}.trial`)], ['successful', { effective: 'now' }, next, false]);
    assert.deepEqual(await changes('good'), ['confirmed']);
    assert.equal((await fleet.reported(0, 'local')).state, 'local');
  });

  it('goes back where no fleet is heard in time, and the command fails with that reason', async () => {
    const before = fleet.config;
    await send('config_update', 'cut', { config: fleet.configuration().replace(/mqtts:\/\/localhost:\d+/, 'mqtts://localhost:1'), confirm_s: 10 });
    await until('the trial', () => fleet.config !== before);
    await send('config_update', 'other', { config: fleet.configuration(), confirm_s: 1 });
    const { status, reason } = await ended('config_update', 'cut');
    assert.deepEqual([status, fleet.config], ['failed', before]);
    assert.match(String(reason), /^command\.config: taken back: no link to a fleet came up within 10 s/);
    assert.deepEqual(await changes('cut'), ['reverted']);
    assert.match(String((await ended('config_update', 'other'))['reason']), /^command\.parameters: confirm_s/);
  });

  it('goes back at the start where the gateway cannot run with it, also without confirm_s', async () => {
    const before = fleet.config;
    await send('config_update', 'blind', { config: fleet.configuration('mqtt: { listeners: [{ host: 127.0.0.1, port: 1, anonymous: true, tls: { certFile: none.pem, keyFile: none.pem } }] }') });
    assert.deepEqual((await ended('config_update', 'blind'))['status'], 'successful');
    await send('config_update', 'blind2', { config: fleet.configuration('# twice before a start\nmqtt: { listeners: [{ host: 127.0.0.1, port: 1, anonymous: true, tls: { certFile: none.pem, keyFile: none.pem } }] }') });
    assert.deepEqual((await ended('config_update', 'blind2'))['status'], 'successful');
    assert.notEqual(fleet.config, before);
    await send('restart', 'r1', {});
    assert.equal((await ended('restart', 'r1'))['status'], 'successful');
    assert.equal(fleet.config, before);
    assert.deepEqual(await until('the entry', async () => { const told = await changes('blind2'); return told.length > 0 && told; }), ['reverted']);
  });
});
