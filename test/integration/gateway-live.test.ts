/** `tenzro verify --live` and the tail of `tenzro fsck` on the real gateway, under load, over a kill, and without a TPM. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Gateway, tenzro } from '#test/support/gateway.ts';
import { connectClient } from '#test/support/mqttClient.ts';
import { requirePeer } from '#test/support/peers.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const POLICIES = join(import.meta.dirname, '..', '..', 'docs', 'policies');

interface Live {
  readonly outcome: string;
  readonly checks: readonly { readonly code: string; readonly result: string; readonly detail: string }[];
  readonly live: { readonly trust: { readonly level: string } };
  readonly since: { readonly blocks: number; readonly starts: number; readonly resets: number | null; readonly shownBy: string } | null;
}

describe('gateway: live verification', function () {
  this.timeout(60_000);
  let dir: TempDir;
  beforeEach(() => { dir = tempDir('live'); });
  afterEach(() => { dir[Symbol.dispose](); });

  const dataDir = (): string => join(dir.path, 'data');
  const proof = (): string => join(dir.path, 'first.tzp');
  const fsckLive = async (): Promise<{ ok: boolean; live: { findings: readonly string[] } }> => JSON.parse((await tenzro(dataDir(), ['fsck', '--json'])).stdout) as { ok: boolean; live: { findings: readonly string[] } };
  const verifyLive = async (policy: string): Promise<Live> => {
    const { code, stdout, output } = await tenzro(dataDir(), ['verify', proof(), '--live', '--json', '--policy', join(POLICIES, policy)]);
    assert.equal(code, 0, output);
    return JSON.parse(stdout) as Live;
  };
  const resultOf = ({ checks }: Live, code: string): string => checks.find((check) => check.code === code)?.result ?? '';

  it('closes the tail under load, and again after kill −9; says so when nobody runs; and fsck holds the end against the TPM', async function () {
    requirePeer(this, 'swtpm');
    {
      await using gateway = await Gateway.start({ dataDir: dataDir() });
      assert.equal((await tenzro(dataDir(), ['proof', '0', '-o', proof(), '--wait'])).code, 0);
      await using client = await connectClient(await gateway.port(), { clientId: 'load' });
      let acknowledged = 0;
      const publish = (): void => { client.mqtt.publish('te/device/load///m/x', '{"t":1}', { qos: 1 }, (error) => { if (!error && client.mqtt.connected) { acknowledged++; publish(); } }); };
      for (let at = 0; at < 20; at++) publish();
      const report = await verifyLive('allow-emulated.yaml');
      assert.deepEqual([report.outcome, resultOf(report, 'tail'), report.since?.shownBy], ['verified', 'pass', 'links'], JSON.stringify(report.checks));
      assert.ok(acknowledged > 0);
      const anchor = (await gateway.status())?.anchor;
      assert.deepEqual([anchor?.missing, Number(anchor?.counter) > 0], ['0', true]);
      assert.match((await tenzro(dataDir(), ['status'])).stdout, /^anchor {3}counter \d+ at block \d+$/m);
      await gateway.kill();
    }
    {
      await using gateway = await Gateway.start({ dataDir: dataDir() });
      const report = await verifyLive('allow-emulated.yaml');
      assert.deepEqual([resultOf(report, 'tail'), report.since?.starts, report.since?.resets], ['pass', 1, 1]);
      assert.equal(await gateway.stop(), 0);
    }
    const { ok, live } = await fsckLive();
    assert.deepEqual([ok, live.findings[0]?.startsWith('nothing anchored is missing')], [true, true], live.findings.join('; '));
    const { code, output } = await tenzro(dataDir(), ['verify', proof(), '--live']);
    assert.equal(code, 2);
    assert.match(output, /control\.not_running/);
  });

  it('without a TPM the answer is fresh and the chain the same, and no more is claimed', async () => {
    const configFile = join(dir.path, 'tenzro.yaml');
    writeFileSync(configFile, 'version: 1\nattest:\n  tpm:\n    mode: none\n');
    await using gateway = await Gateway.start({ dataDir: dataDir(), configFile });
    assert.equal((await tenzro(dataDir(), ['proof', '0', '-o', proof(), '--wait'])).code, 0);
    const report = await verifyLive('allow-software.yaml');
    assert.deepEqual([report.outcome, report.live.trust.level, resultOf(report, 'tail')], ['verified', 'software', 'unknown']);
    assert.equal(report.since?.shownBy, 'links');
    assert.equal(await gateway.stop(), 0);
  });
});
