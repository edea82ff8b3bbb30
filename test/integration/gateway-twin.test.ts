import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import type { Gateway } from '#test/support/gateway.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { TwinFleet } from '#test/support/twinFleet.ts';

/** The real gateway, its configuration set over mosquitto by who holds the owner's key. */
describe('gateway: the twin config', function () {
  this.timeout(90_000);
  let dir: TempDir;
  let fleet: TwinFleet;
  let gateway: Gateway;

  before(async function () {
    dir = tempDir('twin');
    fleet = await TwinFleet.open(this, dir.path);
    gateway = await fleet.start();
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    await fleet[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  it('says what is in force, and nothing that is decided at the machine', async () => {
    const { value } = await fleet.reported(0, 'unset');
    assert.deepEqual(Object.keys(value as object).toSorted(), ['attest', 'infer', 'system', 'uplinks']);
    assert.ok(!JSON.stringify(value).includes('owner.pub'));
  });

  it('takes up what the owner signed, runs again with it in the same process, and keeps it when the fleet has heard it', async () => {
    const { pid } = gateway;
    const before = fleet.config;
    await fleet.set(1, { log: { level: 'debug' } });
    await fleet.reported(1, 'confirmed');
    assert.deepEqual([fleet.value['log'], gateway.pid], [{ level: 'debug' }, pid]);
    assert.match(fleet.config, /^# by hand\n/);
    assert.match(fleet.config, /level: debug/);
    assert.deepEqual([readFileSync(`${fleet.configFile}.before`, 'utf8'), existsSync(`${fleet.configFile}.trial`)], [before, false]);
    assert.deepEqual(await fleet.told(1), ['desired', 'applying', 'probation', 'confirmed']);
  });

  it('refuses what does not fit the schema, in the words of config check, and touches nothing', async () => {
    const before = fleet.config;
    await fleet.set(2, { mqtt: { prot: 1 } });
    const { reason } = await fleet.reported(2, 'refused');
    assert.match(reason ?? '', /mqtt\.prot: is not a known key \(did you mean 'port'\?\)/);
    await fleet.set(3, { dataDir: '/elsewhere' });
    assert.match((await fleet.reported(3, 'refused')).reason ?? '', /dataDir: not the fleet's to set/);
    assert.equal(fleet.config, before);
    assert.deepEqual(await fleet.told(2), ['desired', 'refused']);
  });

  it('goes back by itself from a configuration under which its fleet does not hear it', async () => {
    const before = fleet.config;
    await fleet.set(4, fleet.cutOff, { confirmSeconds: 10 });
    const { reason } = await fleet.reported(4, 'reverted', 40_000);
    assert.equal(reason, 'the fleet did not confirm it within 10 s');
    assert.equal(fleet.config, before);
    assert.deepEqual(await fleet.told(4), ['desired', 'applying', 'probation', 'reverting', 'reverted']);
  });

  it('goes back in the starting process from a configuration that it cannot start with', async () => {
    const before = fleet.config;
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as AddressInfo;
    await fleet.set(5, { mqtt: { listeners: [{ host: '127.0.0.1', port, anonymous: true }] } });
    const { reason } = await fleet.reported(5, 'reverted');
    taken.close();
    assert.match(reason ?? '', new RegExp(String(port)));
    assert.equal(fleet.config, before);
    assert.match(gateway.output, /taken back/);
  });

  it('tells the fleet what somebody changed at the machine', async () => {
    await gateway.stop();
    writeFileSync(fleet.configFile, fleet.configuration('log: { level: error }'));
    gateway = await fleet.start();
    assert.deepEqual((await fleet.reported(5, 'local')).value, { ...fleet.value, log: { level: 'error' } });
  });
});
