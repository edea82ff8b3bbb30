import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:tls';
import { OwnedGateway, Requester } from '#test/support/commandGateway.ts';
import { makeBroker } from '#test/support/fleet.ts';
import { MqttMangler, newTally } from '#test/support/mqttMangler.ts';
import { requirePeer } from '#test/support/peers.ts';
import { tempDir } from '#test/support/temp.ts';

/** MQTT 3.1.1 §3.8.4: what is retained may come before the SUBACK. mosquitto does not do so; what stands before it here does. */
describe('gateway: a broker that delivers before it confirms the subscription', function () {
  this.timeout(60_000);

  it('hears how a command ended that was waiting there', async function () {
    requirePeer(this, 'mosquitto_pub');
    using dir = tempDir('late-suback');
    const broker = await makeBroker(this, dir.path);
    await using _ = await broker.start();
    const tally = newTally();
    const ca = readFileSync(broker.caFile);
    const mangling = { cut: 0, cutInside: 0, delay: 0, reorder: 0, duplicate: 0, replay: 0, lateSuback: 1_000 };
    await using mangler = await MqttMangler.listen({ dial: () => ({ socket: connect({ port: broker.port, host: 'localhost', ca }), ready: 'secureConnect' }), mangling, tally, random: (below) => below - 1 });
    const owned = new OwnedGateway(dir.path);
    await owned.prepare();
    writeFileSync(owned.configFile, owned.configuration(`uplinks: [{ name: home, url: "mqtt://127.0.0.1:${mangler.port}", user: fleet, passwordFile: ${broker.passwordFile}, receiptKey: "${'ab'.repeat(32)}" }]\n`));
    const requester = Requester.over(broker);
    await requester.publish('diagnostics', '1', owned.sign('diagnostics', '1'));
    await using gateway = await owned.start();
    assert.equal((await requester.ended('diagnostics', '1'))['status'], 'successful', gateway.output);
    assert.ok(tally.lateSuback > 0);
  });
});
