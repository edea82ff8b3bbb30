import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { OwnedGateway, Requester, readMessage, type Message } from '#test/support/commandGateway.ts';
import { logLines, tenzro, type Gateway } from '#test/support/gateway.ts';
import { requirePeer } from '#test/support/peers.ts';
import { Program } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const PLAYER = join(import.meta.dirname, '..', '..', 'drivers', 'sim', 'player.ts');

/** The real gateway, commanded over MQTT; the device that acts is simulated, its connection is not. */
describe('gateway: every type of command', function () {
  this.timeout(60_000);
  let dir: TempDir;
  let owned: OwnedGateway;
  let gateway: Gateway;
  let requester: Requester;

  const command = async (type: string, id: string, parameters: Message = {}, isDryRun = false): Promise<Message> => {
    await requester.publish(type, id, owned.sign(type, id, { parameters, isDryRun }));
    return requester.ended(type, id);
  };
  const call = (id: string, operation: string, value: unknown, driver = 'cold-store'): Promise<Message> => command('driver_call', id, { driver, operation, parameters: { value } });

  before(async function () {
    requirePeer(this, 'mosquitto_pub');
    requirePeer(this, 'mosquitto_sub');
    dir = tempDir('types');
    owned = new OwnedGateway(dir.path);
    await owned.prepare();
    const tomorrow = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'][(new Date().getUTCDay() + 3) % 7];
    writeFileSync(owned.configFile, owned.configuration(`actuators:
  - { driver: cold-store, operation: setpoint, min: -30, max: -10, unit: °C, minIntervalMs: 0 }
  - { driver: cold-store, operation: defrost, min: 0, max: 1, minIntervalMs: 60000, timeoutMs: 1000 }
  - { driver: cold-store, operation: light, min: 0, max: 1 }
  - { driver: absent, operation: speed, min: 0, max: 1, timeoutMs: 300 }
  - { driver: slow, operation: speed, min: 0, max: 1, timeoutMs: 4000 }
  - { driver: lamp, operation: brightness, min: 0, max: 254, topic: zigbee2mqtt/lamp/set, key: brightness }
`).replace("may: ['*'] }]", `may: ['*', shell, driver_call, release] }], shell: true, maintenance: [{ days: [${tomorrow}], from: '02:00', to: '03:00' }], driverCalls: [slow.speed, cold-store.setpoint, cold-store.defrost, absent.speed, lamp.brightness]`));
    gateway = await owned.start({ env: { TENZRO_SUPERVISED: '1' } });
    requester = await Requester.of(gateway);
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  it('says what it can do, and why not the rest', async () => {
    assert.deepEqual(await requester.capabilities(), ['attest', 'cancel', 'config_update', 'diagnostics', 'driver_call', 'log_upload', 'model_install', 'release', 'restart', 'shell', 'sync_time']);
    assert.match(String((await command('firmware_update', 'u1'))['reason']), /^command\.unsupported: .*second slot/);
    await gateway.until('it to know that nobody owns it', ({ claim }) => claim.state === 'unclaimed');
    assert.match(String((await command('release', 'r1'))['reason']), /^command\.parameters: .*no owner/);
  });

  it('tells a device that acts what to do, within bounds and consent, and learns what it did', async () => {
    await using player = new Program(process.execPath, [PLAYER, 'workshop', '--port', String(await gateway.port())]);
    await until('the devices to be there', async () => (await gateway.status())?.broker.clients === 3, { hopeless: () => (player.running ? undefined : player.output) });
    const done = await until('the thermostat to confirm', async () => {
      const ended = await call(`s${Date.now()}`, 'setpoint', -22);
      return ended['status'] === 'successful' ? ended : undefined;
    });
    assert.deepEqual(done['result'], { driver: 'cold-store', operation: 'setpoint', value: -22, unit: '°C', confirmed: true, device_value: -22 });
    const cases: readonly (readonly [string, string, string, unknown])[] = [
      ['b1', 'driver.bounds', 'setpoint', -31], ['b2', 'driver.refused', 'setpoint', -28], ['b3', 'driver.refused', 'defrost', 1], ['b4', 'driver.rate', 'defrost', 1],
      ['b5', 'command.consent', 'light', 1], ['b6', 'command.consent', 'open', 1], ['b7', 'command.parameters', 'setpoint', '-20'],
    ];
    for (const [id, code, operation, value] of cases) assert.match(String((await call(id, operation, value))['reason']), new RegExp(`^${code.replace('.', '\\.')}`), id);
    assert.deepEqual((await command('driver_call', 'dry', { driver: 'cold-store', operation: 'setpoint', parameters: { value: -20 } }, true))['result'], { dry_run: true });
  });

  it('cannot take back what has left for a device', async () => {
    await requester.publish('driver_call', 'gone', owned.sign('driver_call', 'gone', { parameters: { driver: 'slow', operation: 'speed', parameters: { value: 1 } } }));
    await until('it to execute', async () => (await requester.retained('driver_call', 'gone'))?.['status'] === 'executing');
    assert.match(String((await command('cancel', 'c0', { type: 'driver_call', id: 'gone' }))['reason']), /cannot be stopped any more/);
    assert.match(String((await requester.ended('driver_call', 'gone'))['reason']), /^driver\.unconfirmed/);
  });

  it('says that it does not know where a device is silent, and does not repeat', async () => {
    await using watch = new Program('mosquitto_sub', ['-h', '127.0.0.1', '-p', String(await gateway.port()), '-t', 'te/device/absent///cmd/#', '-t', 'zigbee2mqtt/#', '-v']);
    await until('the watcher to be there', async () => ((await gateway.status())?.broker.clients ?? 0) > 0);
    assert.match(String((await call('silent', 'speed', 1, 'absent'))['reason']), /^driver\.unconfirmed/);
    await requester.publish('driver_call', 'silent', owned.path('driver_call-silent.json'));
    await until('its answer to be back', async () => (await requester.retained('driver_call', 'silent'))?.['status'] === 'failed');
    assert.deepEqual((await call('lamp', 'brightness', 100, 'lamp'))['result'], { driver: 'lamp', operation: 'brightness', value: 100, confirmed: false });
    await until('the lamp to be told', () => watch.output.includes('zigbee2mqtt/lamp/set {"brightness":100}'));
    assert.equal(watch.output.split('te/device/absent///cmd/speed/silent').length - 1, 1);
  });

  it('sends its own log, runs a shell line, and cancels one with all its processes', async () => {
    const log = (await command('log_upload', 'l1', { search: 'command ended', lines: 5 }))['result'] as Message;
    assert.match(String(log['log']), /"msg":"command ended"/);
    const shell = (await command('shell', 'sh1', { command: 'id -u; pwd' }))['result'] as Message;
    assert.equal(shell['stdout'], `${process.getuid?.()}\n/\n`);
    const open = (await command('shell', 'sh2', { command: 'for fd in /proc/$$/fd/*; do readlink $fd; done; echo; env' }))['result'] as Message;
    const [links = '', variables = ''] = String(open['stdout']).split('\n\n');
    assert.match(links.split('\n').filter((link) => link !== '/dev/null').join(), /^(?:pipe|socket):\[\d+\],(?:pipe|socket):\[\d+\]$/, 'nothing of the gateway is open in it');
    assert.match(variables, /^(?:(?:LANG|PATH|PWD|OLDPWD|SHLVL|_)=.*\n)+$/);
    await requester.publish('shell', 'long', owned.sign('shell', 'long', { parameters: { command: `echo $$ > ${dir.path}/pid; sleep 600 & wait`, timeout_s: 20 } }));
    await until('it to run', async () => (await requester.retained('shell', 'long'))?.['status'] === 'executing');
    assert.equal((await command('cancel', 'c1', { type: 'shell', id: 'long' }))['status'], 'successful');
    assert.match(String((await requester.ended('shell', 'long'))['reason']), /^command\.cancelled/);
  });

  it('holds a restart back until its window, unless it is urgent', async () => {
    await requester.publish('restart', 'held', owned.sign('restart', 'held', { ttlSeconds: 6 * 86_400 }));
    await until('it to be scheduled', async () => (await requester.retained('restart', 'held'))?.['status'] === 'scheduled');
    assert.deepEqual((await command('restart', 'dry', {}, true))['result'], { dry_run: true });
    const file = owned.sign('restart', 'now', { isUrgent: true });
    assert.equal(readMessage(file)['urgent'], true);
    await requester.publish('restart', 'now', file);
    assert.equal(await gateway.exited(), 75);
    gateway = await owned.start({ env: { TENZRO_SUPERVISED: '1' } });
    requester = await Requester.of(gateway);
    assert.deepEqual((await requester.ended('restart', 'now'))['result'], { restarted: true });
    assert.equal((await requester.retained('restart', 'held'))?.['status'], 'scheduled');
  });

  it('proves to a stranger who commanded what, and what came of it', async () => {
    assert.deepEqual((await command('shell', 'proved', { command: 'echo done' }))['status'], 'successful');
    const lines = (await logLines(owned.dataDir, ['--kind', 'command,result', '--limit', '100'])).filter(({ body }) => (body as Message)['id'] === 'proved');
    const [first, last] = [lines[0]?.index ?? -1, lines.at(-1)?.index ?? -1];
    const kid = String((lines[0]?.body as Message | undefined)?.['kid']);
    assert.match(kid, /^[\w-]{43}$/);
    assert.ok(lines.every(({ body }) => (body as Message)['kid'] === kid && (body as Message)['operator'] === 'owner'));
    const bundle = owned.path('proof.tzp');
    await command('attest', 'cover', { nonce: '00112233445566778899aabbccddeeff' });
    const exported = await tenzro(owned.dataDir, ['proof', `${first}..${last}`, '-o', bundle]);
    assert.equal(exported.code, 0, exported.output);
    const verified = await tenzro(owned.dataDir, ['verify', bundle, '--policy', join(import.meta.dirname, '..', '..', 'docs', 'policies', 'allow-software.yaml')]);
    assert.equal(verified.code, 0, verified.output);
    assert.ok(verified.output.includes(`shell/proved by owner (key ${kid}): {"command":"echo done"}`), verified.output);
    assert.ok(verified.output.includes(`shell/proved by owner (key ${kid}) successful: {"exit_code":0,"stdout":"done\\n"`), verified.output);
    const shown = await tenzro(owned.dataDir, ['log', '--kind', 'command,result', '--limit', '20']);
    assert.ok(shown.output.includes(`shell/proved by owner (key ${kid.slice(0, 8)}…) successful: {"exit_code":0`), shown.output);
  });
});
