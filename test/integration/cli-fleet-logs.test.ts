import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { logOf } from '#runtime/cli/fleet/logs.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { encryptOwnerKey } from '#runtime/crypto/ownerKey.ts';
import { logUpload } from '#runtime/fleet/types/logUpload.ts';
import { createLog } from '#runtime/observe/log.ts';
import { LogRing } from '#runtime/observe/logRing.ts';
import { DeskFleet } from '#test/support/deskFleet.ts';
import { tenzro } from '#test/support/gateway.ts';
import { tempDir } from '#test/support/temp.ts';

describe('cli: fleet logs', function () {
  this.timeout(60_000);

  it('prints the log of a gateway far away, and says why where it gets none', async function () {
    using dir = tempDir('fleet-logs');
    await using fleet = await DeskFleet.make(this, dir.path);
    const key = `${fleet.dir}/owner-1.key`;
    const passphrase = `${dir.path}/passphrase`;
    writeFileSync(passphrase, 'correct horse\n', { mode: 0o600 });
    writeFileSync(key, encryptOwnerKey(Buffer.from(fleet.owner.seed), Buffer.from('correct horse')), { mode: 0o600 });
    await fleet.startController();
    const ring = new LogRing();
    const log = createLog({ level: 'info', form: 'json', color: false, write: () => undefined, ring });
    for (let at = 0; at < 1_500; at++) log.child({ room: 'broker' }).info({ at, noise: Math.random() }, 'client came');
    log.error({ code: 'ledger.space', password: 'hunter2' }, 'the disk is full\u001b[2J');
    const upload = logUpload(() => ring.lines(), systemClock);
    await fleet.gateway('gw1', async (command, signal) => upload.run(command, signal));
    const logs = async (...args: readonly string[]): Promise<{ code: number | string; stdout: string; output: string }> => tenzro(dir.path, ['fleet', 'logs', 'gw1', '--dir', fleet.dir, '--key', key, '--passphrase-file', passphrase, ...args]);
    const some = await logs('--lines', '2');
    assert.equal(some.code, 0, some.output);
    assert.match(some.stdout, /info {2}broker {2}client came {2}at=1499[^]*error[^]*the disk is full/);
    assert.ok(!some.output.includes('hunter2') && !some.output.includes('\u001b[2J'));
    assert.match(some.output, /1499 older lines that fit are left out/);
    const many = await logs('--lines', '10000', '--search', 'client came', '--json');
    const { lines } = JSON.parse(many.stdout) as { lines: readonly string[] };
    assert.ok(lines.length > 500, `${lines.length} lines in one answer`);
    const wrong = await logs('--level', 'loud');
    assert.equal(wrong.code, 1);
    assert.match(wrong.output, /command\.parameters: level is none of/);
    assert.equal((await logs('--lines', 'all')).code, 2);
  });

  it('believes no answer that is none, or that unpacks to too much', () => {
    const bomb = gzipSync(Buffer.alloc(64 * 1024 * 1024)).toString('base64');
    for (const result of [undefined, null, {}, { encoding: 'zip', log: '', lines_found: 1 }, { encoding: 'gzip+base64', log: 'x', lines_found: 1 }, { encoding: 'gzip+base64', log: bomb, lines_found: 1 }]) {
      assert.throws(() => logOf(result), { code: 'controller.request' });
    }
    assert.deepEqual(logOf({ encoding: 'text', log: 'garbage\n{"msg":"x"}\n[]', lines_found: 3, cut: false }).lines, ['{"msg":"x"}']);
  });
});
