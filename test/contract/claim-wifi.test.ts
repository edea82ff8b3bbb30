/**
 * Networks in a claim, and networks that a gateway scans, beside the real NetworkManager, by the commands that people type. There is no radio: what is told
 * then is tried here, and `npm run test:vm -- wifi` tries networks that come up.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { readStatus } from '#runtime/observe/control.ts';
import { PageShell } from '#test/support/pageShell.ts';
import { requirePeer } from '#test/support/peers.ts';
import { run } from '#test/support/process.ts';
import { tempDir } from '#test/support/temp.ts';

/** Its own network and mounts; what runs there stays in the group of its shell, and ends with it. */
const INSIDE = ['unshare', '--net', '--mount', '--propagation', 'private', 'bash', '-c', `
mount -t tmpfs tmpfs /run && mkdir -p /run/dbus /run/NetworkManager /etc/NetworkManager/system-connections && mount -t tmpfs tmpfs /etc/NetworkManager/system-connections
ip link set lo up
dbus-daemon --system --nofork </dev/null >/dev/null 2>&1 &
NetworkManager --no-daemon </dev/null >/run/log 2>&1 &
for _ in $(seq 40); do nmcli -t general </dev/null >/run/out 2>&1 && break; read -rt 0.25 <> <(:); done
exec sh`];
const NO_RADIO = /NetworkManager has no Wi-Fi device here.*\(claim\.apply\)/;

describe('Wi-Fi around a claim, without a radio', function () {
  this.timeout(120_000);

  it('networks that cannot be set up end the claim with the reason, a scanned network owns nothing, and the same code claims over a cable', async function () {
    for (const peer of ['swtpm', 'NetworkManager', 'nmcli', 'dbus-daemon', 'ip', 'unshare', 'qrencode'] as const) requirePeer(this, peer);
    using dir = tempDir('claim-wifi');
    await using shell = new PageShell(dir.path, INSIDE);
    await shell.type('umask 077\nprintf "correct horse battery staple\\n" > passphrase\nprintf "correct horse\\n" > psk\ntenzro fleet init --dir fleet --passphrase-file passphrase\ntenzro fleet serve --dir fleet --listen 127.0.0.1:0 --passphrase-file passphrase > fleet.log 2>&1 &');
    await shell.type('tenzro run --data gateway --mqtt-port 0 --no-scenario > gateway.log 2>&1 &\nuntil tenzro fleet status --dir fleet > status.log 2>&1; do sleep 0.2; done\nuntil tenzro claim show --data gateway --png code.png; do sleep 0.2; done');
    const { code } = await run('qrencode', ['-o', join(dir.path, 'wifi.png'), 'WIFI:T:WPA;S:hall;P:correct horse;;']);
    assert.equal(code, 0);
    const scanned = await shell.type('tenzro claim scan --data gateway --image wifi.png || echo "exit $?"');
    assert.match(scanned, NO_RADIO);
    assert.match(scanned, /exit [1-9]/);

    const claim = 'tenzro fleet claim --dir fleet --image code.png --passphrase-file passphrase --yes';
    assert.match(await shell.type(`${claim} --wifi hall --wifi-file psk || true`), /claim\.apply/);
    const status = await readStatus(join(dir.path, 'gateway'));
    assert.ok(status.kind === 'value' && status.value.claim.state === 'waiting' && NO_RADIO.test(`${status.value.claim.detail ?? ''} (${status.value.claim.code ?? ''})`), JSON.stringify(status));
    assert.match(await shell.type(claim), / is yours: /);
    assert.match(await shell.type('echo "WIFI:T:nopass;S:guests;;" | tenzro claim scan --data gateway --code - || true'), /claim\.claimed/);
    assert.ok(!shell.output.includes('correct horse;'));
  });
});
