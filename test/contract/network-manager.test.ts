/** The real NetworkManager reads what we write. There is no radio here: that a network comes up, and that the one before comes back, is not tested. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { requirePeer } from '#test/support/peers.ts';
import { run } from '#test/support/process.ts';

const VICTIM = join(import.meta.dirname, '..', 'support', 'networkManagerVictim.ts');
const SCRIPT = `
mount -t tmpfs tmpfs /run && mkdir -p /run/dbus /run/NetworkManager /etc/NetworkManager/system-connections && mount -t tmpfs tmpfs /etc/NetworkManager/system-connections
ip link set lo up
dbus-daemon --system --fork
timeout 30 NetworkManager --no-daemon >/run/log 2>&1 &
for _ in $(seq 40); do nmcli -t general >/run/out 2>&1 && break; read -rt 0.25 <> <(:); done
"$1" "$2"
`;

describe('NetworkManager without a radio', function () {
  this.timeout(40_000);

  it('loads our keyfiles, awkward names and passphrases too; a network that does not come up is told; nothing of ours is left after its removal', async function () {
    for (const peer of ['NetworkManager', 'nmcli', 'dbus-daemon', 'ip', 'unshare'] as const) requirePeer(this, peer);
    const { stdout, code, output } = await run('unshare', ['--net', '--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child', '--mount-proc', 'bash', '-c', SCRIPT, 'bash', process.execPath, VICTIM]);
    assert.equal(code, 0, output);
    assert.deepEqual(JSON.parse(stdout), {
      why: 'NetworkManager has no Wi-Fi device here', tried: 'claim.apply', onTrial: ['tenzro-trial:802-11-wireless'],
      kept: ['tenzro-owner-0:802-11-wireless', 'tenzro-owner-1:802-11-wireless'], ssid: 'hall; 3\\ü', psk: ' corr\\ect=horse; #battery ', priority: '100', removed: [],
    });
  });
});
