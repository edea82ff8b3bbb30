import assert from 'node:assert/strict';
import type { Gateway } from '#test/support/gateway.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { newSigner, TwinFleet } from '#test/support/twinFleet.ts';
import { until } from '#test/support/until.ts';

/** Whoever holds the fleet's broker, its password, or the whole controller: what they can do to a gateway's configuration. */
describe('attack: the configuration twin', function () {
  this.timeout(90_000);
  let dir: TempDir;
  let fleet: TwinFleet;
  let gateway: Gateway;

  before(async function () {
    dir = tempDir('attack-twin');
    fleet = await TwinFleet.open(this, dir.path);
    gateway = await fleet.start();
    await fleet.reported(0, 'unset');
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    await fleet[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  const refused = async (code: string, count: number): Promise<void> => {
    await gateway.until(`${count} refusals, ${code}`, ({ counters }) => counters[`fleet.refused.${code}`] === count);
  };

  it('a configuration desired by who stole the broker, its password or the controller: refused by the owner key, twin.operator and twin.signature, and recorded', async () => {
    const [before, wanted] = [fleet.config, fleet.desired(1, { ...fleet.value, log: { level: 'debug' } })];
    const genuine = JSON.parse(fleet.sign(wanted).toString()) as Record<string, unknown>;
    await fleet.publish('desired', fleet.sign(wanted, { by: fleet.controller }));
    await fleet.publish('desired', fleet.sign(wanted, { by: newSigner() }));
    await refused('twin.operator', 2);
    for (const forged of [{ ...genuine, value: fleet.cutOff }, { ...genuine, version: 9 }, { ...genuine, confirmKey: 'f'.repeat(64) }]) await fleet.publish('desired', Buffer.from(JSON.stringify(forged)));
    await fleet.publish('desired', fleet.sign(wanted, { gateway: 'gw2' }));
    await fleet.publish('desired', fleet.sign(wanted, { name: 'network' }));
    await refused('twin.signature', 5);
    await fleet.publish('desired', fleet.sign(wanted, { name: 'network' }), 'network');
    await refused('twin.unknown', 1);
    await fleet.publish('desired', Buffer.from('{"version":1}'));
    await refused('twin.malformed', 1);
    assert.deepEqual([fleet.config, fleet.last?.version], [before, 0]);
    const recorded = await until('every refusal to be recorded', async () => { const refusals = await fleet.refusals(); return refusals.length === 9 ? refusals : undefined; });
    assert.deepEqual(recorded.filter((line) => line === 'config twin.signature').length, 5);
  });

  it('an old configuration replayed, also after a restart: refused by its version, twin.stale', async () => {
    await fleet.set(1, { log: { level: 'warn' } });
    await fleet.reported(1, 'confirmed');
    const old = fleet.sign(fleet.desired(1, fleet.value));
    await fleet.set(2, { log: { level: 'error' } });
    await fleet.reported(2, 'confirmed');
    const inForce = fleet.config;
    await fleet.publish('desired', old);
    await refused('twin.stale', 1);
    await gateway.kill();
    gateway = await fleet.start();
    await refused('twin.stale', 1); // the broker retains it, and so delivers it again
    assert.deepEqual([fleet.config, fleet.last?.version], [inForce, 2]);
  });

  it('a confirmation forged or replayed, for a configuration that cuts the gateway off: it goes back all the same', async () => {
    fleet.isConfirming = false;
    const before = fleet.config;
    const earlier = fleet.signConfirmation({ version: 2, revision: fleet.last?.revision ?? 0 });
    await fleet.set(3, { log: { level: 'debug' } }, { confirmSeconds: 10 });
    const { revision } = await fleet.reported(3, 'probation');
    await fleet.publish('confirm', earlier);
    await fleet.publish('confirm', fleet.signConfirmation({ version: 3, revision }, newSigner()));
    await fleet.publish('confirm', fleet.signConfirmation({ version: 3, revision }, fleet.owner));
    const genuine = JSON.parse(fleet.signConfirmation({ version: 3, revision: revision - 1 }).toString()) as Record<string, unknown>;
    await fleet.publish('confirm', Buffer.from(JSON.stringify({ ...genuine, revision })));
    await refused('twin.signature', 3);
    await fleet.publish('confirm', Buffer.from(JSON.stringify(genuine)));
    await fleet.reported(3, 'reverted', 30_000);
    assert.equal(fleet.config, before);
  });
});
