/** Root's keeper killed at random moments of an installation, as a power cut would: what starts afterwards is whole. */
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { randomBytes, randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { AppFolders, KEEPER } from '#test/support/appFolders.ts';
import { Program } from '#test/support/process.ts';
import { randomOf } from '#test/support/random.ts';
import { tempDir } from '#test/support/temp.ts';

const RUNS = 15;
const FILES = 150;
const SEED = randomInt(2 ** 31);

describe('folders of the application: power cuts', function () {
  this.timeout(90_000);

  it(`starts what was proven, or something whole on trial, after each of ${RUNS} kills of an installation (seed ${SEED})`, async () => {
    const random = randomOf(SEED);
    using dir = tempDir('folders-kill');
    const folders = new AppFolders(dir.path);
    await folders.prepare();
    const more = Object.fromEntries(Array.from({ length: FILES }, (_, index) => [`node_modules/p${index % 9}/f${index}.js`, randomBytes(40_000)]));
    await folders.handOver(await folders.bundle('first', '1.1.0', { more }));
    await folders.keep();
    assert.equal(await folders.select(), 'A');
    await folders.request('commit');
    await folders.keep();
    const proven = await folders.contents('A');
    const second = await folders.bundle('second', '1.2.0', { more });

    await folders.handOver(second);
    const begun = performance.now();
    await folders.keep();
    const wholeMs = performance.now() - begun;
    const whole = await folders.contents('B');
    for (let killed = 0; killed < RUNS; killed++) {
      await folders.write({ committed: 'A', trial: 'B', left: 0 });
      if (killed % 2 === 0) await rm(`${folders.paths.home}/B`, { recursive: true, force: true });
      await folders.runFrom('A');
      await folders.handOver(second);
      await using keeper = new Program(process.execPath, [KEEPER], { env: { ...process.env, TENZRO_ROOT: dir.path } });
      await sleep(random(Math.ceil(wholeMs * 1.05)));
      await keeper.end('SIGKILL');
      const place = await folders.select();
      assert.ok(place === 'A' || place === 'B', place);
      assert.deepEqual(await folders.contents(place), place === 'A' ? proven : whole);
      assert.deepEqual(await folders.contents('A'), proven);
    }
    await folders.write({ committed: 'A', trial: 'none', left: 0 });
    await folders.runFrom('A');
    await folders.handOver(second);
    const last = await folders.keep();
    assert.match(last.output, /^\{"id":"[^"]+"\}\n$/);
    assert.equal(await folders.select(), 'B');
  });
});
