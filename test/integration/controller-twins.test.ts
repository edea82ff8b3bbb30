import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { callController } from '#runtime/controller/apiClient.ts';
import type { JsonObject } from '#runtime/core/json.ts';
import { gatewayConfig, makeBroker, makeController, type Controller, type FleetBroker } from '#test/support/fleet.ts';
import { Gateway, tenzro } from '#test/support/gateway.ts';
import { makeOwnFleet } from '#test/support/ownFleet.ts';
import type { Program } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

/** `tenzro fleet twin` against a controller that serves, over mosquitto, to a real gateway. */
describe('controller: twins', function () {
  this.timeout(90_000);
  let dir: TempDir;
  let broker: FleetBroker;
  let controller: Controller;
  let gateway: Gateway;
  const running: Program[] = [];

  const twin = async (...args: readonly string[]) => tenzro(dir.path, ['fleet', 'twin', ...args, '--dir', controller.dir, '--passphrase-file', join(dir.path, 'fleet.passphrase'), '--json']);
  const shown = async (): Promise<JsonObject> => JSON.parse((await twin('edge-1')).stdout) as JsonObject;
  const valueFile = (value: JsonObject): string => {
    const file = join(dir.path, 'value.json');
    writeFileSync(file, JSON.stringify(value));
    return file;
  };

  before(async function () {
    dir = tempDir('controller-twins');
    broker = await makeBroker(this, dir.path);
    running.push(await broker.start());
    controller = await makeController(dir.path);
    running.push(await controller.start(broker));
    const dataDir = join(dir.path, 'data');
    mkdirSync(dataDir, { mode: 0o700 });
    copyFileSync(join(controller.dir, 'owner-1.key.pub'), join(dataDir, 'owner.pub'));
    writeFileSync(join(dataDir, 'tenzro.yaml'), `${gatewayConfig('edge-1', broker, controller.receiptKey)}fleet: { operators: [{ name: owner, publicKeyFile: owner.pub, may: ['*'] }] }\n`);
    gateway = await Gateway.start({ dataDir });
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    for (const program of running.toReversed()) await program[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  it('shows what a gateway reports, and sets it with the key of an owner', async () => {
    const { reported } = await until('the report', async () => { const view = await shown(); return view['reported'] !== null && view; });
    const { value } = reported as { readonly value: JsonObject };
    const set = await twin('edge-1', '--set', valueFile({ ...value, log: { level: 'debug' } }), '--confirm', '60s');
    assert.equal(set.code, 0, set.output);
    const outcome = JSON.parse(set.stdout) as { readonly version: number; readonly reported: JsonObject };
    assert.deepEqual([outcome.version, outcome.reported['state'], outcome.reported['version']], [1, 'confirmed', 1]);
    assert.match(readFileSync(join(dir.path, 'data', 'tenzro.yaml'), 'utf8'), /level: debug/);
  });

  it('says why a gateway refuses a value, and takes no two changes on one version', async () => {
    const refused = await twin('edge-1', '--set', valueFile({ mqtt: { prot: 1 } }));
    assert.equal(refused.code, 1, refused.output);
    assert.match(refused.stdout, /mqtt\.prot: is not a known key/);
    const forged = await tenzro(dir.path, ['fleet', 'keygen', '-o', join(dir.path, 'other.key'), '--passphrase-file', join(dir.path, 'fleet.passphrase')]);
    assert.equal(forged.code, 0, forged.output);
    const stranger = await twin('edge-1', '--set', valueFile({ log: { level: 'error' } }), '--key', join(dir.path, 'other.key'));
    assert.equal(stranger.code, 2);
    assert.match(stranger.stdout, /controller\.request/);
  });

  it('keeps what was desired over kill -9 of the controller, and confirms what was tried meanwhile', async () => {
    const before = await shown();
    const { value } = before['reported'] as { readonly value: JsonObject };
    const set = await twin('edge-1', '--set', valueFile({ ...value, log: { level: 'warn' } }), '--confirm', '60s', '--no-wait');
    assert.equal(set.code, 0, set.output);
    await running.pop()?.end('SIGKILL');
    running.push(await controller.start(broker));
    const after = await until('the confirmation', async () => { const view = await shown(); const said = view['reported'] as JsonObject; return said['state'] === 'confirmed' && said['version'] === before['next'] && view; }, { timeoutMs: 30_000 });
    assert.equal((after['desired'] as JsonObject)['version'], before['next']);
    assert.ok(!existsSync(join(dir.path, 'data', 'tenzro.yaml.trial')));
  });
});

describe("controller: twins over the fleet's own broker", function () {
  this.timeout(90_000);

  it('reach a gateway that was claimed, and come back confirmed', async () => {
    using dir = tempDir('own-twins');
    const fleet = await makeOwnFleet(dir.path);
    const dataDir = join(dir.path, 'data');
    mkdirSync(dataDir, { mode: 0o700 });
    copyFileSync(join(fleet.home, 'owner-1.key.pub'), join(dataDir, 'owner.pub'));
    writeFileSync(join(dataDir, 'tenzro.yaml'), `${fleet.gatewayConfig('edge-1')}fleet: { operators: [{ name: owner, publicKeyFile: owner.pub, may: ['*'] }] }\n`);
    await using controller = await fleet.start();
    await using gateway = await Gateway.start({ dataDir });
    await gateway.until('its chain to begin', ({ chain }) => chain.blocks > 0, 20_000);
    await fleet.register('edge-1', dataDir);
    const shown = async (): Promise<JsonObject> => callController(fleet.home, 'twins.show', { gateway: 'edge-1', name: 'config' });
    const { reported } = await until('the report', async () => { const view = await shown(); return view['reported'] !== null && view; }, { timeoutMs: 30_000 });
    const { value } = reported as { readonly value: JsonObject };
    writeFileSync(join(dir.path, 'value.yaml'), JSON.stringify({ ...value, log: { level: 'debug' } }));
    const set = await tenzro(dir.path, ['fleet', 'twin', 'edge-1', '--set', join(dir.path, 'value.yaml'), '--confirm', '60s', '--dir', fleet.home, '--passphrase-file', join(dir.path, 'passphrase')]);
    assert.equal(set.code, 0, `${set.output}${controller.output}`);
    assert.match(set.stdout, /^version 1 confirmed$/m);
  });
});
