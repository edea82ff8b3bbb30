/** The other direction with real processes: the operator shows a picture, the gateway scans it and dials; the operator compares the words. */
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Gateway, tenzro } from '#test/support/gateway.ts';
import { PageShell } from '#test/support/pageShell.ts';
import { requirePeer } from '#test/support/peers.ts';
import { tempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

describe('a gateway that scans', function () {
  this.timeout(60_000);

  for (const [answer, state] of [['n', 'waiting'], ['y', 'owned']] as const) {
    it(`is ${state === 'owned' ? 'the operator\'s' : 'nobody\'s'} when the operator says ${answer} to the six words`, async function () {
      requirePeer(this, 'swtpm');
      using dir = tempDir('claim-show');
      const [data, png] = [join(dir.path, 'gateway'), join(dir.path, 'shown.png')];
      writeFileSync(join(dir.path, 'passphrase'), 'correct horse battery staple\n', { mode: 0o600 });
      await using operator = new PageShell(dir.path);
      await using gateway = await Gateway.start({ dataDir: data });
      await operator.type('tenzro fleet init --dir fleet --passphrase-file passphrase\ntenzro fleet serve --dir fleet --listen 127.0.0.1:0 --passphrase-file passphrase &\nuntil tenzro fleet status --dir fleet > status.log 2>&1; do sleep 0.2; done');
      const claimed = operator.type(`echo ${answer} | tenzro fleet claim --dir fleet --show --listen 127.0.0.1:0 --png shown.png --yes --passphrase-file passphrase || true`);
      await until('the code to be shown', () => existsSync(png), { timeoutMs: 20_000 });
      const scanned = await until('the gateway to have keys', async () => {
        const ran = await tenzro(data, ['claim', 'scan', '--image', png]);
        return ran.output.includes('claim.not_ready') ? undefined : ran;
      });
      const told = await claimed;
      assert.equal(scanned.code, 0, scanned.output);
      const { claim } = await gateway.until('the end of it', ({ claim: now }) => now.state === state);
      if (state === 'owned') assert.ok(claim.words !== null && told.includes(claim.words), told);
      else assert.match(told, /claim\.refused/);
    });
  }
});
