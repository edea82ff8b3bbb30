import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { OwnedGateway, Requester, type Message } from '#test/support/commandGateway.ts';
import type { Gateway } from '#test/support/gateway.ts';
import { packModel, sha256Hex, startModelServer } from '#test/support/modelServer.ts';
import { requirePeer } from '#test/support/peers.ts';
import { run, Program } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

/** Attacks with an operator's key: what somebody who signs can and cannot reach without the owner's consent in the configuration. */
describe('attacks: an operator\'s key without consent', function () {
  this.timeout(60_000);
  let dir: TempDir;
  let owned: OwnedGateway;
  let gateway: Gateway;
  let requester: Requester;

  const fails = async (type: string, id: string, code: string, parameters: Message): Promise<void> => {
    await requester.publish(type, id, owned.sign(type, id, { parameters }));
    assert.match(String((await requester.ended(type, id))['reason']), new RegExp(`^${code.replace('.', '\\.')}: `), id);
  };

  before(async function () {
    requirePeer(this, 'mosquitto_pub');
    dir = tempDir('attack-consent');
    owned = new OwnedGateway(dir.path);
    await owned.prepare();
    writeFileSync(owned.configFile, owned.configuration('actuators: [{ driver: valve, operation: open, min: 0, max: 100 }, { driver: valve, operation: close, min: 0, max: 1, minIntervalMs: 60000, timeoutMs: 200 }]\n')
      .replace("may: ['*'] }]", "may: ['*', shell, driver_call] }], driverCalls: [valve.close]").replace('infer: { enabled: false }', `infer: { modelsDir: ${dir.path}/none }`));
    gateway = await owned.start();
    requester = await Requester.of(gateway);
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  it('an operator\'s key used for a shell that the owner did not allow: command.unsupported, and nothing runs', async () => {
    await fails('shell', 'sh', 'command.unsupported', { command: `touch ${dir.path}/was-here` });
    assert.ok(!existsSync(join(dir.path, 'was-here')));
  });

  it('an operator\'s key used on an actuator without consent, beyond its bounds or its rate: command.consent, driver.bounds, driver.rate, and the device hears nothing', async () => {
    await using watch = new Program('mosquitto_sub', ['-h', '127.0.0.1', '-p', String(await gateway.port()), '-t', 'te/device/valve///cmd/#', '-v']);
    await until('the watcher to be there', async () => ((await gateway.status())?.broker.clients ?? 0) > 0);
    const call = (operation: string, value: unknown): Message => ({ driver: 'valve', operation, parameters: { value } });
    await fails('driver_call', 'd1', 'command.consent', call('open', 50));
    for (const [id, value] of [['d2', 2], ['d3', -1], ['d4', 1e308]] as const) await fails('driver_call', id, 'driver.bounds', call('close', value));
    await fails('driver_call', 'd5', 'command.consent', { driver: '../main', operation: 'restart', parameters: { value: 1 } });
    await fails('driver_call', 'd6', 'driver.unconfirmed', call('close', 1));
    await fails('driver_call', 'd7', 'driver.rate', call('close', 0));
    assert.deepEqual([...watch.output.matchAll(/cmd\/\w+\/(\w+)/g)].map(([, id]) => id), ['d6']);
  });

  it('a model\'s name or archive that leads out of its folder, or says more than it holds: command.parameters, model.archive, model.too_large, and nothing is written outside', async () => {
    const before = readdirSync(dir.path).toSorted();
    const inline = (bytes: Buffer, name = 'evil'): Message => ({ name, inline: bytes.toString('base64'), bytes: bytes.length, sha256: sha256Hex(bytes) });
    const good = await packModel(dir.path);
    for (const [id, name] of [['n1', '../evil'], ['n2', '/tmp/evil'], ['n3', '.packages'], ['n4', 'a/b'], ['n5', 'A\u0000']] as const) await fails('model_install', id, 'command.parameters', inline(good, name));
    const archived = await run('tar', ['-cf', join(dir.path, 'out.tar'), '-P', '-C', dir.path, '--transform', 's|.*|../../escaped|', 'model.tar']);
    assert.equal(archived.code, 0, archived.output);
    await fails('model_install', 'n6', 'model.archive', inline(readFileSync(join(dir.path, 'out.tar')).subarray(0, 24_576)));
    const bomb = Buffer.from(good);
    bomb.write('77777777777', 124, 'latin1');
    const sum = bomb.subarray(0, 512).reduce((total, byte, i) => total + (i >= 148 && i < 156 ? 32 : byte), 0);
    bomb.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    await fails('model_install', 'n7', 'model.too_large', inline(bomb));
    assert.deepEqual(readdirSync(dir.path).filter((name) => !name.startsWith('model_install-') && !name.endsWith('.tar')).toSorted(), before);
    assert.deepEqual(readdirSync(join(owned.dataDir, 'models')), ['.packages']);
  });

  it('a model\'s server that sends without end, redirects inwards, or another file: model.source and model.digest, no more is kept than was signed, and the answer is told to nobody', async () => {
    const good = await packModel(dir.path);
    const order = (url: string): Message => ({ name: 'evil', url, bytes: good.length, sha256: sha256Hex(good) });
    await using inner = await startModelServer((_request, response) => response.end('a secret of the local network'));
    await using endless = await startModelServer((_request, response) => {
      const more = (): void => { while (response.write(Buffer.alloc(65_536)) && !response.destroyed); };
      response.on('drain', more);
      more();
    });
    await using redirecting = await startModelServer((_request, response) => response.writeHead(302, { location: inner.url }).end());
    await using other = await startModelServer((_request, response) => response.end(Buffer.alloc(good.length, 'x')));
    await fails('model_install', 's1', 'model.source', order(endless.url));
    await fails('model_install', 's2', 'model.source', order(redirecting.url));
    assert.equal(inner.requests.length, 0);
    await fails('model_install', 's3', 'model.source', order(inner.url));
    await fails('model_install', 's4', 'model.digest', order(other.url));
    await fails('model_install', 's5', 'command.parameters', order('file:///etc/passwd'));
    const answers = JSON.stringify(await Promise.all(['s1', 's2', 's3', 's4'].map((id) => requester.retained('model_install', id))));
    assert.ok(!answers.includes('a secret'));
    assert.deepEqual(readdirSync(join(owned.dataDir, 'models')), ['.packages']);
  });
});
