/** What the neighbours see: avahi, which knows nothing of us, finds a gateway that waits for its owner over a cable, and learns where, and no more. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { decodeClaimCode } from '#provisioning/claim/code.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { readStatus } from '#runtime/observe/control.ts';
import { Lan } from '#test/support/lan.ts';
import { PageShell } from '#test/support/pageShell.ts';
import { requirePeer } from '#test/support/peers.ts';
import { run } from '#test/support/process.ts';
import { tempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const ADDRESS = { avahi: '10.77.1.1', gateway: '10.77.1.2' } as const;
/** Beside no other avahi and no other bus: its sockets are in a /run of its own. */
const BROWSE = `
mount -t tmpfs tmpfs /run && mkdir -p /run/dbus /run/avahi-daemon
dbus-daemon --system --fork
avahi-daemon --no-drop-root --no-chroot --no-rlimits >/run/log 2>&1 &
for _ in $(seq 60); do avahi-browse --resolve --parsable --terminate _tenzro-claim._tcp >/run/found 2>>/run/log; grep '^=' /run/found && exit 0; read -rt 0.25 <> <(:); done
cat /run/log >&2; exit 1
`;

describe('claim discovery, as avahi sees it', function () {
  this.timeout(60_000);

  it('has address, port and the number of the code, and nothing of secret, keys or name', async function () {
    for (const peer of ['swtpm', 'avahi-daemon', 'avahi-browse', 'dbus-daemon'] as const) requirePeer(this, peer);
    using dir = tempDir('claim-discovery');
    await using lan = await Lan.open(this, { a: ADDRESS.avahi, b: ADDRESS.gateway });
    await using gateway = new PageShell(dir.path, lan.on('b'));
    const shown = await gateway.type('tenzro run --data gateway --mqtt-port 0 --no-scenario > gateway.log 2>&1 &\nuntil tenzro claim show --data gateway --json > code.json 2> show.log; do sleep 0.2; done\ncat code.json');
    const { code } = JSON.parse(shown) as { readonly code: string };
    const { discriminator, keyDigest, secret } = decodeClaimCode(code);
    const port = await until('a port for claims', async () => {
      const read = await readStatus(join(dir.path, 'gateway'));
      return read.kind === 'value' && read.value.claim.port !== null && read.value.claim.port;
    });
    const [file = '', ...before] = lan.on('a');
    const browsed = await run(file, [...before, 'unshare', '--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child', '--mount-proc', 'bash', '-c', BROWSE]);
    assert.equal(browsed.code, 0, browsed.output);
    const found = browsed.stdout.trim().split('\n').map((line) => line.split(';'));
    const [[, interfaceName, protocol, instance = '', type, domain, host, address, told, text = ''] = []] = found;
    assert.deepEqual({ interfaceName, protocol, type, domain, address, told }, { interfaceName: 'cable', protocol: 'IPv4', type: '_tenzro-claim._tcp', domain: 'local', address: ADDRESS.gateway, told: String(port) });
    assert.deepEqual(text.split(' ').toSorted(), [`"d=${discriminator}"`, '"v=1"']);
    assert.match(instance, /^[0-9a-f]{16}$/);
    assert.equal(host, `${instance}.local`);
    for (const held of [toHex(secret), toHex(keyDigest), code]) assert.ok(!browsed.stdout.includes(held));
    assert.equal(found.length, 1, browsed.stdout);
  });
});
