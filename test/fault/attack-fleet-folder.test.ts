import assert from 'node:assert/strict';
import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { buildHouse, openHouse } from '#runtime/controller/house.ts';
import { tempDir } from '#test/support/temp.ts';

const PASSPHRASE = Buffer.from('correct horse battery');
const houseIn = async (dir: string): Promise<unknown> => buildHouse({ dir, name: 'workshop', hosts: [], policy: 'version: 1\n', passphrase: PASSPHRASE, nowMs: Date.UTC(2026, 10, 23) });

describe('attacks on the folder of a fleet', function () {
  this.timeout(30_000);

  it('folder that others may write in, to put their key in the place of an owner key: neither made nor served, controller.directory', async () => {
    using dir = tempDir('folder');
    const home = join(dir.path, 'fleet');
    mkdirSync(home);
    for (const mode of [0o770, 0o702]) {
      chmodSync(home, mode);
      await assert.rejects(houseIn(home), { code: 'controller.directory' });
    }
    chmodSync(home, 0o755);
    await houseIn(home);
    await openHouse(home, PASSPHRASE);
    chmodSync(home, 0o757);
    await assert.rejects(openHouse(home, PASSPHRASE), { code: 'controller.directory' });
  });
});
