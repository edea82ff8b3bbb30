import assert from 'node:assert/strict';
import { Gateway, tenzro } from '#test/support/gateway.ts';
import { hardship } from '#test/support/hardship.ts';
import { resultOf, startLoad } from '#test/support/load.ts';
import { requirePeer } from '#test/support/peers.ts';
import { useOf } from '#test/support/process.ts';
import { tempDir } from '#test/support/temp.ts';

const FLUSH_MS = 50;
const SIGN_MS = 70;
const MEBIBYTE = 1024 * 1024;
/** Growth over the state after warming up; the front door's buffers and the ledger's are bounded well below. */
const GROWTH_MIB_MAX = 96;
const SAMPLE_INTERVAL_MS = 100;

describe('a stalled subscriber, a slow disk and a slow TPM at once', function () {
  this.timeout(60_000);

  it('keeps memory bounded, loses nothing and goes on sealing (npm run bench -- --only degraded compares rates)', async function () {
    requirePeer(this, 'cc');
    const swtpm = requirePeer(this, 'swtpm');
    using dir = tempDir('hardship');
    await using trouble = await hardship({ swtpm, flushMs: FLUSH_MS, signMs: SIGN_MS });
    await using gateway = await Gateway.start({ dataDir: dir.path, ...trouble.options });
    const port = await gateway.port();
    const { chain: before } = await gateway.until('its status', ({ ready }) => ready);

    // anonymous memory: the pages of the mapped chain file are the kernel's to take back
    const samples: number[] = [];
    const sampler = setInterval(() => { samples.push(useOf(gateway.pid).anonymousBytes); }, SAMPLE_INTERVAL_MS);
    const load = await resultOf(startLoad({ port, publishers: 20, window: 20, warm: 0, seconds: 8, stalled: 2 })).finally(() => { clearInterval(sampler); });

    assert.equal(load.brokerGone, false, 'no publisher was thrown out');
    assert.equal(load.acked, load.sent, 'every message is acknowledged');
    const settled = Math.max(...samples.slice(0, Math.ceil(samples.length / 3)));
    const growthMiB = (Math.max(...samples) - settled) / MEBIBYTE;
    assert.ok(growthMiB < GROWTH_MIB_MAX, `memory grew by ${growthMiB.toFixed(0)} MiB`);

    const status = await gateway.until('blocks over the load', ({ chain }) => chain.blocks >= before.blocks + 3);
    assert.ok(status.chain.entries - before.entries >= load.acked, `${status.chain.entries - before.entries} entries for ${load.acked} acknowledged messages`);
    assert.ok(trouble.signed() >= 3, 'the slow TPM signed the blocks');
    assert.equal(await gateway.stop(), 0, gateway.output);
    const checked = await tenzro(dir.path, ['fsck', '--json']);
    assert.equal(checked.code, 0, checked.output);
  });
});
