import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { FleetStage } from '#test/support/fleetStage.ts';
import { Gateway, tenzro } from '#test/support/gateway.ts';
import { tempDir } from '#test/support/temp.ts';

/** `tenzro fleet claim` in a fleet whose broker is mosquitto, which knows gateways by name and password. */
describe('a gateway claimed into a fleet on another broker', function () {
  this.timeout(60_000);

  it('gets authority and login of the broker with the hand-over, and its first block is receipted', async function () {
    using dir = tempDir('fleet-broker-claim');
    await using stage = await FleetStage.open(this, 'mosquitto', dir.path);
    const [dataDir, configFile] = [stage.path('edge-1'), stage.path('edge-1.yaml')];
    mkdirSync(dataDir, { mode: 0o700 });
    writeFileSync(configFile, 'version: 1\nnode: { name: edge-1 }\nclaim: { host: 127.0.0.1 }\nsystem: { intervalMs: 500 }\ninfer: { enabled: false }\nattest: { intervalMs: 1000, idleIntervalMs: 1000, tpm: { mode: none } }\n');
    await using gateway = await Gateway.start({ dataDir, configFile });
    await gateway.until('its chain to begin', ({ chain }) => chain.blocks > 0, 20_000);
    const shown = await tenzro(dataDir, ['claim', 'show', '--json'], { configFile });
    const { code } = JSON.parse(shown.stdout) as { readonly code: string };
    const { port } = (await gateway.until('claims to be taken', ({ claim }) => claim.port !== null)).claim;
    const claim = ['claim', '--code', code, '--name', 'edge-1', '--address', `127.0.0.1:${port}`, '--yes', '--broker-ca', stage.caFile];
    writeFileSync(stage.path('spaced'), 'not to be handed over\n', { mode: 0o600 });
    const refused = await stage.signing(...claim, '--broker-password-file', stage.path('spaced'));
    assert.match(refused.output, /cli\.usage/);
    const claimed = await stage.signing(...claim, '--broker-password-file', stage.passwordFile);
    assert.equal(claimed.code, 0, claimed.output);
    assert.match(claimed.stdout, /edge-1 is yours: claimed and its first block receipted/);
    assert.ok(!`${claimed.output}${gateway.output}`.includes('a-fleet-password'));
    const { fleet: { upstreams: [owner] } } = await gateway.until('its owner', ({ fleet }) => fleet.upstreams[0]?.connected === true);
    assert.deepEqual([owner?.name, owner?.broker, owner?.fault], ['owner', `mqtts://localhost:${stage.port}`, null]);
    assert.match((await stage.call('ls')).stdout, /^edge-1 +claimed +software .* up over /m);
    const ran = await stage.signing('run', 'edge-1', 'sync_time');
    assert.equal(ran.code, 0, ran.output);
  });
});
