import assert from 'node:assert/strict';
import { VICTIMS } from '#test/support/chaosFleet.ts';
import { chaosRun } from '#test/support/chaosRun.ts';
import { requirePeer } from '#test/support/peers.ts';
import { tempDir } from '#test/support/temp.ts';

/** `npm run soak` is the long form. */
const COMMANDS = 6;
const ENTRIES = 200;
const SEED = 1 + Math.floor(Math.random() * 1_000_000);

/** Kills and a bad network, while a gateway is commanded and records: test/support/chaosAudit.ts says what must hold. */
describe(`chaos: a gateway, its controller and their broker, seed ${SEED}`, function () {
  this.timeout(240_000);

  for (const variant of ['mosquitto', 'own'] as const) {
    it(`loses nothing and does nothing twice, ${variant === 'own' ? "with the controller's own broker" : 'over mosquitto'}`, async function () {
      if (variant === 'mosquitto') requirePeer(this, 'mosquitto');
      using dir = tempDir('chaos');
      const { acknowledged, commands, kills, network } = await chaosRun(dir.path, { variant, commands: COMMANDS, entries: ENTRIES, seed: SEED });
      assert.ok(VICTIMS.every((victim) => kills[victim] > 0), `killed: ${JSON.stringify(kills)}`);
      assert.ok(acknowledged >= ENTRIES && commands >= COMMANDS && network.published > COMMANDS, 'the chaos was none');
    });
  }
});
