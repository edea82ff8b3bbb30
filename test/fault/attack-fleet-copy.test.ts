/** A controller's folder that was copied: served twice on one broker, and hellos that somebody at the broker plays again. */
import assert from 'node:assert/strict';
import { cpSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { callController } from '#runtime/controller/apiClient.ts';
import { makeBroker, makeController, type Controller, type FleetBroker } from '#test/support/fleet.ts';
import { tenzro } from '#test/support/gateway.ts';
import { requirePeer } from '#test/support/peers.ts';
import { Program, run } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const TOPIC = 'te/fleet/device/controller///cmd/serve/#';

describe('attacks with a copy of a fleet\'s folder', function () {
  this.timeout(60_000);
  let dir: TempDir;
  let stack: AsyncDisposableStack;
  let broker: FleetBroker;
  let controller: Controller;
  let mosquitto: Program;
  const at = (name: string): string => join(dir.path, name);

  beforeEach(async function () {
    stack = new AsyncDisposableStack();
    dir = stack.use(tempDir('fleet-copy'));
    [broker, controller] = [await makeBroker(this, dir.path), await makeController(dir.path)];
    mosquitto = stack.use(await broker.start());
  });
  afterEach(() => stack.disposeAsync());

  const counterOf = async (name: string): Promise<number> => ((await callController(controller.dir, 'controller.status', {}))['counters'] as Readonly<Record<string, number>>)[name] ?? 0;
  const login = (): readonly string[] => ['-h', 'localhost', '-p', String(broker.port), '--cafile', broker.caFile, '-u', 'fleet', '-P', readFileSync(broker.passwordFile, 'utf8').trim()];
  const serve = (home: string): Program => stack.use(new Program(process.execPath, [join(import.meta.dirname, '..', '..', 'runtime', 'cli', 'tenzro.js'), 'fleet', 'serve', '--dir', home, '--broker', broker.url, '--ca', broker.caFile, '--user', 'fleet', '--password-file', broker.passwordFile, '--passphrase-file', at('fleet.passphrase')]));

  it('copied folder of a controller, served beside the true one: the newcomer ends, the first serves on, controller.twice', async () => {
    cpSync(controller.dir, at('copy'), { recursive: true });
    const first = stack.use(await controller.start(broker));
    const again = serve(controller.dir);
    assert.notEqual(await again.exited(), 0);
    assert.match(again.output, new RegExp(`controller\\.running.*process ${first.pid} |process ${first.pid} .*controller\\.running`, 's'), 'the same folder: by its lock');
    const copy = serve(at('copy'));
    assert.notEqual(await copy.exited(), 0);
    assert.match(copy.output, /controller\.twice/);
    await until('the first to say so', () => /another controller with this key/.test(first.output));
    assert.ok(first.running && await counterOf('controller.twice') === 1);
  });

  it('hellos of a controller, played again or made up by somebody at its broker: nobody ends, and each is answered at most', async function () {
    for (const peer of ['mosquitto_sub', 'mosquitto_pub'] as const) requirePeer(this, peer);
    const ear = stack.use(new Program('mosquitto_sub', [...login(), '-t', TOPIC, '-v']));
    await until('the ear', () => mosquitto.output.includes('Sending SUBACK'));
    const before = await controller.start(broker);
    await until('a hello', () => /serve\/[0-9a-f]{16} \{/.test(ear.output));
    await before.end('SIGKILL');
    const [, topic = '', hello = ''] = /(te\/fleet\/\S+) (\{.*\})/.exec(ear.output) ?? [];
    const first = stack.use(await controller.start(broker));
    const { instance, signature } = JSON.parse(hello) as { readonly instance: string; readonly signature: string };
    const own = await until('its own hello', () => [...ear.output.matchAll(/\{"instance":"([0-9a-f]{32})"/g)].map(([, id = '']) => id).findLast((id) => id !== instance));
    const lies = [hello, JSON.stringify({ instance, hears: own, signature }), '{"instance":"x"}', '[', 'x'.repeat(20_000)];
    for (const lie of lies) assert.equal((await run('mosquitto_pub', [...login(), '-q', '1', '-t', topic, '-m', lie])).code, 0);
    await until('the replay to be heard', async () => (await counterOf('controller.twice')) === 1);
    assert.ok(first.running);
    assert.equal((await tenzro(dir.path, ['fleet', 'status', '--dir', controller.dir])).code, 0);
  });
});
