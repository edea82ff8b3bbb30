/** kill -9 of `tenzro fleet claim` at each of its writes: the next call says what became of it, and the gateway is somebody's exactly if its owner knows. */
import assert from 'node:assert/strict';
import { mkdirSync, watch, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { ClaimStore } from '#provisioning/claim/claimStore.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { Gateway } from '#test/support/gateway.ts';
import { requirePeer } from '#test/support/peers.ts';
import { Program, run, type Ran } from '#test/support/process.ts';
import { tempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const COMMAND = join(import.meta.dirname, '..', '..', 'runtime', 'cli', 'tenzro.js');
/** What the folder says of two writes: a draft is made, filled, renamed, twice. The last attempt is not disturbed. */
const STRIKES = [1, 2, 3, 4, 5, 6, Infinity];

describe('an operator who is killed in the middle of a claim', function () {
  this.timeout(120_000);

  it('at each write leaves what --resume, or the next claim, ends', async function () {
    requirePeer(this, 'swtpm');
    using dir = tempDir('claimer-kill');
    const [fleet, data, passphrase] = [join(dir.path, 'fleet'), join(dir.path, 'gateway'), join(dir.path, 'passphrase')];
    writeFileSync(passphrase, 'correct horse battery staple\n', { mode: 0o600 });
    const secret = ['--dir', fleet, '--passphrase-file', passphrase];
    const tenzro = async (...args: readonly string[]): Promise<Ran> => run(process.execPath, [COMMAND, ...args]);
    const well = async (...args: readonly string[]): Promise<Ran> => {
      const ran = await tenzro(...args);
      assert.equal(ran.code, 0, ran.output);
      return ran;
    };
    await well('fleet', 'init', ...secret, '--name', 'workshop');
    await using controller = new Program(process.execPath, [COMMAND, 'fleet', 'serve', ...secret, '--listen', '127.0.0.1:0']);
    await using gateway = await Gateway.start({ dataDir: data });
    await until('the controller to serve', () => controller.output.includes('controller ready'), { timeoutMs: 30_000 });
    const claims = join(fleet, 'claims');
    mkdirSync(claims, { mode: 0o700 });
    const store = new ClaimStore(fleet);
    const outcomes: string[] = [];
    for (const strike of STRIKES) {
      await gateway.until('the gateway to be free', ({ claim }) => claim.state === 'unclaimed' || claim.state === 'waiting');
      const { stdout } = await until('a code', async () => {
        const ran = await tenzro('claim', 'show', '--data', data, '--json');
        return ran.code === 0 ? ran : undefined;
      });
      const { code } = JSON.parse(stdout) as { readonly code: string };
      await using claiming = new Program(process.execPath, [COMMAND, 'fleet', 'claim', ...secret, '--code', code, '--yes', '--json']);
      let seen = 0;
      const watcher = watch(claims, () => { if ((seen += 1) === strike && claiming.running) claiming.signal('SIGKILL'); });
      const ended = await claiming.exited();
      watcher.close();
      const resumed = await well('fleet', 'claim', ...secret, '--resume', '--json');
      assert.deepEqual(await store.pending(), [], resumed.output);
      const { claim } = await gateway.until('the record to be settled', ({ claim: { state } }) => state !== 'claiming');
      const ours = (await store.all()).filter(({ outcome }) => outcome === 'owned').map(({ claimId }) => toHex(claimId));
      outcomes.push(`${ended} ${claim.state}`);
      assert.equal(claim.claimId !== null, ours.includes(claim.claimId ?? ''), `the gateway is ${claim.state}, the operator knows of ${ours.length}`);
      if (claim.claimId === null) continue;
      const [view] = JSON.parse((await well('fleet', 'ls', '--dir', fleet, '--json')).stdout) as readonly { readonly state: string }[];
      assert.equal(view?.state, 'claimed', 'the register knows it too');
      await well('fleet', 'release', hostname(), ...secret);
    }
    console.log(`      ${outcomes.join(', ')}`);
    assert.ok(outcomes.some((outcome) => outcome.startsWith('SIGKILL')) && outcomes.at(-1) === '0 owned', outcomes.join());
  });
});
