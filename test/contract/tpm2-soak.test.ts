import assert from 'node:assert/strict';
import { soak } from '#test/support/tpmSoak.ts';
import { temporaryTpm } from '#test/support/swtpm.ts';

/** `npm run test:tpm -- 100000` is the long form. */
const OPERATIONS = 1_500;
const SEED = Math.floor(Math.random() * 1_000_000_000);

describe(`tpm2: mixed operations by two callers, seed ${SEED}`, function () {
  this.timeout(60_000);

  it('answer rightly over a connection that breaks, and leave nothing that the driver holds to be its own', async function () {
    await using emulator = await temporaryTpm(this, { own: true });
    const { done, breaks, left } = await soak({ tpmAddress: emulator.address, operations: OPERATIONS, seed: SEED, breakOneIn: 50 });
    assert.ok(done >= OPERATIONS && breaks > 0, `${done} operations, ${breaks} breaks`);
    assert.deepEqual(left, []);
  });

  it('answer rightly and leave no key and no session behind', async function () {
    await using emulator = await temporaryTpm(this, { own: true });
    const { broken, strays } = await soak({ tpmAddress: emulator.address, operations: OPERATIONS / 3, seed: SEED, breakOneIn: 0 });
    assert.equal(broken, 0);
    assert.deepEqual(strays, []);
  });
});
