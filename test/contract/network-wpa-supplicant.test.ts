/** The real wpa_supplicant reads what we say and write. There is no radio here (its driver is `wired`): networks come up in `npm run test:vm -- wifi`. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Context } from 'mocha';
import { requirePeer } from '#test/support/peers.ts';
import { run, type Ran } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const SUPPORT = join(import.meta.dirname, '..', 'support');
/** The interface passes for Wi-Fi by a folder; wpa_cli by another one, that keeps its arguments. */
const SCRIPT = `
set -e
mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /sys/class/net && mkdir -p /sys/class/net/air0/phy80211 "$3/bin"
ip link add air0 type veth peer name air1
for device in lo air0 air1; do ip link set $device up; done
printf '#!/bin/sh\\necho "$*" >>%s/arguments\\nexec %s "$@"\\n' "$3" "$(command -v wpa_cli)" >"$3/bin/wpa_cli"
chmod 755 "$3/bin/wpa_cli"
printf 'ctrl_interface=/run/wpa_supplicant\\nupdate_config=1\\nnetwork={\\n  ssid="before"\\n  psk="the one before"\\n}\\n' >"$3/air0.conf"
export PATH="$3/bin:$PATH" HOME="$3"
exec "$1" "$2" air0 "$3/air0.conf" "$3"
`;

describe('wpa_supplicant without a radio', function () {
  this.timeout(120_000);
  let dir: TempDir;
  beforeEach(() => { dir = tempDir('wpa'); });
  afterEach(() => { dir[Symbol.dispose](); });

  async function said(context: Context, victim: string): Promise<unknown> {
    for (const peer of ['wpa_supplicant', 'wpa_cli', 'ip', 'unshare'] as const) requirePeer(context, peer);
    const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
    const { stdout, code, output }: Ran = await run('unshare', ['--net', '--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child', '--mount-proc', 'bash', '-c', SCRIPT, 'bash', process.execPath, join(SUPPORT, victim), dir.path], { env });
    assert.equal(code, 0, output);
    return JSON.parse(stdout.split('\n').at(-1) ?? '') as unknown;
  }

  it('takes our networks on trial and into its file, awkward names and passphrases too, and no secret is an argument; nothing of ours is left after their removal', async function () {
    const ssid = '00ff225c0ac3bc23';
    const shown = '1 \\x00\\xff\\"\\\\\\n\\xc3\\xbc#';
    assert.deepEqual(await said(this, 'wpaSupplicantVictim.ts'), {
      why: null, tried: 'claim.apply',
      onTrial: [['0 before', shown], '"tenzro-trial"', ssid, '*', '10000', true],
      kept: [['0 before', shown, '2 open'], ['"tenzro-owner-0"', '"tenzro-owner-1"'], ssid, ['100', '99'], 'NONE', true],
      mode: '600', saved: 'OK', refused: ['claim.network', 3, false], fewer: ['0 before', shown], removed: [['0 before'], true, false],
      opening: [['"tenzro-access-point"', '"Tenzro-ABC234"', '2', '2437', 'RSN', 'WPA-PSK', 'CCMP', 'CCMP'], true], opened: ['portal.access_point', ['0 before'], false, true],
    });
    const told = readFileSync(join(dir.path, 'arguments'), 'utf8');
    assert.match(told, /set_network 1 ssid 00ff/);
    assert.doesNotMatch(told, /horse|efgh|set_network \d psk/);
    assert.ok(!existsSync(join(dir.path, '.wpa_cli_history')));
  });

  it('gets the networks of a gateway that started before it, and loses them when the gateway has no owner any more', async function () {
    assert.deepEqual(await said(this, 'lateWifiVictim.ts'), { without: 'owned', kept: ['tenzro-owner-0', 'tenzro-owner-1'], left: 1 });
  });
});
