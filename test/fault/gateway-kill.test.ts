import assert from 'node:assert/strict';
import { killRun, type KillResult } from '#test/support/killRun.ts';
import { tempDir } from '#test/support/temp.ts';

/** `npm run test:kill -- 200` is the long form. */
const RUNS_ON_ONE_CHAIN = 15;
const RUNS_ON_A_FRESH_CHAIN = 5;
const RUN_TIMEOUT_MS = 20_000;
const FIRST_SEED = 1 + Math.floor(Math.random() * 1_000_000) * 100;

function check({ seed, acknowledged, lost, broken }: KillResult): void {
  assert.equal(broken, '', `seed ${seed}: the chain is broken`);
  assert.deepEqual(lost, [], `seed ${seed}: of ${acknowledged} acknowledged messages these are lost`);
}

describe(`kill -9 of the gateway under load, seeds from ${FIRST_SEED}`, function () {
  this.timeout(RUN_TIMEOUT_MS * RUNS_ON_ONE_CHAIN);

  it(`loses nothing acknowledged in ${RUNS_ON_ONE_CHAIN} runs on one growing chain`, async () => {
    using dir = tempDir('kill');
    let acknowledged = 0;
    for (let run = 0; run < RUNS_ON_ONE_CHAIN; run++) {
      const result = await killRun(dir.path, FIRST_SEED + run);
      check(result);
      acknowledged += result.acknowledged;
    }
    assert.ok(acknowledged > 100 * RUNS_ON_ONE_CHAIN, `the load was no load: ${acknowledged} acknowledged messages`);
  });

  it(`loses nothing acknowledged in ${RUNS_ON_A_FRESH_CHAIN} runs on fresh chains`, async () => {
    for (let run = 0; run < RUNS_ON_A_FRESH_CHAIN; run++) {
      using dir = tempDir('kill');
      check(await killRun(dir.path, FIRST_SEED + 50 + run));
    }
  });
});
