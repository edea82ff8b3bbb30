/** What files on a boot partition mean: as Raspberry Pi Imager writes them, as people write them, and as enemies do. */
import assert from 'node:assert/strict';
import { BOOT_FILE_BYTES_MAX, planFirstBoot, type BootFileName, type BootTools, type FirstBootPlan, type Wiping } from '#runtime/board/firstBoot.ts';
import { withBootNetworks } from '#runtime/board/wpaFile.ts';
import { bootTools } from '#runtime/boarding.ts';

const TOOLS: BootTools = bootTools('/opt/tenzro-edge');
const PSK = '9a7837a03fa21d29884982d409ee46a7dd6a1e67e201f70b9c2a1f6ca40ad48b';
/** Longer than any honest file takes. */
const HOSTILE_MS = 2_000;

const plan = (files: Partial<Record<BootFileName, string | Uint8Array>>, wiping: readonly Wiping[] = []): FirstBootPlan =>
  planFirstBoot(Object.entries(files).map(([name, text]) => ({ name: name as BootFileName, bytes: Buffer.from(text) })), wiping, TOOLS);

const problemsOf = (name: BootFileName, text: string | Uint8Array): readonly string[] =>
  plan({ [name]: text }).reports.flatMap(({ problems }) => problems.map(({ place, key, message, hint }) => `${place?.line ?? '-'}:${place?.column ?? '-'} ${key}: ${message}${hint === undefined ? '' : ` (${hint})`}`));

describe('board: boot files of Raspberry Pi Imager', () => {
  it('takes networks, country, host name and time zone out of firstrun.sh, and says what it leaves', () => {
    const { taken, wishes, reports } = plan({ 'firstrun.sh': [
      '#!/bin/bash', 'set +e', 'CURRENT_HOSTNAME=`cat /etc/hostname | tr -d " \\t\\n\\r"`', 'if [ -f /usr/lib/raspberrypi-sys-mods/imager_custom ]; then',
      '   /usr/lib/raspberrypi-sys-mods/imager_custom set_hostname hall-3', 'else', '   echo hall-3 >/etc/hostname', 'fi',
      '   /usr/lib/raspberrypi-sys-mods/imager_custom enable_ssh', "   /usr/lib/userconf-pi/userconf 'pi' '$5$eLeM639zEl$qoHyypHPL92iTBqd'",
      `   /usr/lib/raspberrypi-sys-mods/imager_custom set_wlan  -h 'it'"'"'s "ours"' '${PSK}' 'CZ'`, "cat >/etc/wpa_supplicant/wpa_supplicant.conf <<'WPAEOF'", 'country=CZ', 'WPAEOF',
      "   /usr/lib/raspberrypi-sys-mods/imager_custom set_keymap 'us'", "   /usr/lib/raspberrypi-sys-mods/imager_custom set_timezone 'Europe/Prague'", 'rm -f /boot/firstrun.sh', 'exit 0',
    ].join('\n') });
    assert.deepEqual(reports, []);
    assert.deepEqual(wishes, { networks: [{ ssid: `it's "ours"`, passphrase: PSK, hidden: true }], hostname: 'hall-3', country: 'CZ', timezone: 'Europe/Prague' });
    assert.deepEqual(taken.map(({ ignored }) => ignored.map((text) => text.split(':')[0])), [['SSH', 'user and password', 'keyboard layout']]);
  });

  it('runs nothing of a script: what is more than plain words is refused', () => {
    assert.deepEqual(problemsOf('firstrun.sh', '/usr/lib/raspberrypi-sys-mods/imager_custom set_hostname $(reboot)\n'), ['1:1 set_hostname: not the plain words that Raspberry Pi Imager writes']);
    assert.equal(problemsOf('firstrun.sh', "x/imager_custom set_wlan 'a' `id` 'DE'\n").length, 1);
  });

  it('takes them out of what Imager 2 writes for cloud-init', () => {
    const { wishes, taken, reports } = plan({
      'user-data': '#cloud-config\nhostname: hall-4\nmanage_etc_hosts: true\ntimezone: Europe/Vienna\nkeyboard:\n  model: pc105\n  layout: "at"\nenable_ssh: true\nusers:\n- name: pi\n  passwd: $5$abc\nssh_pwauth: true\n',
      'network-config': `network:\n  version: 2\n  wifis:\n    wlan0:\n      dhcp4: true\n      regulatory-domain: "at"\n      access-points:\n        "Ours":\n          hidden: true\n          password: "${PSK}"\n      optional: true\n`,
    });
    assert.deepEqual(reports, []);
    assert.deepEqual(wishes, { networks: [{ ssid: 'Ours', passphrase: PSK, hidden: true }], hostname: 'hall-4', timezone: 'Europe/Vienna', country: 'AT' });
    assert.deepEqual(taken.flatMap(({ took }) => took), ['Wi-Fi country AT', 'Wi-Fi network Ours', 'host name hall-4', 'time zone Europe/Vienna']);
    assert.ok(taken.some(({ ignored }) => ignored.some((text) => text.startsWith('SSH'))));
    assert.ok(!JSON.stringify(taken).includes(PSK));
  });

  it('takes them out of custom.toml', () => {
    const { wishes, taken } = plan({ 'custom.toml': 'config_version = 1\n\n[system]\nhostname = "hall-5" # here\n\n[user]\nname = "pi"\npassword = "x"\n\n[ssh]\nenabled = true\nauthorized_keys = [ "ssh-ed25519 AAAA" ]\n\n[wlan]\nssid = "a \\"b\\" \\u00fc"\npassword = \'eight characters\'\nhidden = false\ncountry = "DE"\n\n[locale]\nkeymap = "de"\ntimezone = "Europe/Berlin"\n' });
    assert.deepEqual(wishes, { networks: [{ ssid: 'a "b" ü', passphrase: 'eight characters', hidden: false }], hostname: 'hall-5', timezone: 'Europe/Berlin', country: 'DE' });
    assert.equal(taken[0]?.ignored.length, 3);
    assert.deepEqual(problemsOf('custom.toml', '[wlan]\nssid = ours\n'), ['2:1 wlan.ssid: not a line of custom.toml: key = "value"']);
  });
});

describe('board: our own boot files', () => {
  it('takes board.yaml over those of Imager, and keeps the networks of all', () => {
    const { wishes } = plan({ 'custom.toml': '[system]\nhostname = "imager"\n[wlan]\nssid = "one"\npassword = "passphrase-1"\n', 'board.yaml': 'hostname: ours\nwifi:\n  country: de\n  networks:\n    - ssid: two\n    - {ssid: one, passphrase: passphrase-2}\n' });
    assert.deepEqual(wishes, { networks: [{ ssid: 'one', passphrase: 'passphrase-2', hidden: false }, { ssid: 'two', passphrase: '', hidden: false }], hostname: 'ours', country: 'DE' });
  });

  it('names line, column and the key that was meant', () => {
    assert.deepEqual(problemsOf('board.yaml', 'wifi:\n  networks:\n    - ssdi: a\n      passphrase: short\n'), [
      '3:7 wifi.networks.0.ssdi: unknown key (did you mean ssid?)', '3:7 wifi.networks.0: the name of a network has 1 to 32 bytes',
      '3:7 wifi.networks.0: a passphrase is 8 to 63 printable ASCII characters in quotes, or 64 hexadecimal digits; none for an open network',
    ]);
    assert.deepEqual(problemsOf('board.yaml', 'hostname: [\n').length, 1);
    const [config] = problemsOf('tenzro.yaml', 'version: 1\nmqtt:\n  prot: 1883\n');
    assert.match(config ?? '', /^3:3 mqtt\.prot: .*port/);
  });

  it('says no passphrase when it complains about one', () => {
    assert.ok(!JSON.stringify(plan({ 'board.yaml': 'wifi:\n  networks:\n    - ssid: a\n      passphrase: "über-geheim"\n' })).includes('geheim'));
  });

  it('leaves a file with an error and takes the others', () => {
    const { taken, reports, config } = plan({ 'tenzro.yaml': 'mqtt: {port: high}\n', 'board.yaml': '\ufeffhostname: ours\r\n' });
    assert.deepEqual([taken.map(({ name }) => name), reports.map(({ name }) => name), config], [['board.yaml'], ['tenzro.yaml'], undefined]);
  });

  it('only wipes what an earlier start has taken over, also half wiped', () => {
    const text = 'hostname: ours\n';
    const wiping = plan({ 'board.yaml': text }).taken.map(({ name, digest }) => ({ name, digest }));
    for (const left of [text, Buffer.alloc(15), Buffer.concat([Buffer.from('host'), Buffer.alloc(4)]), '']) {
      const { taken, onlyWiped, reports } = plan({ 'board.yaml': left }, wiping);
      assert.deepEqual([taken, onlyWiped.length, reports], [[], 1, []]);
    }
    assert.equal(plan({ 'board.yaml': 'hostname: another\n' }, wiping).taken.length, 1);
  });
});

describe('board: hostile boot files', () => {
  const HOSTILE: Readonly<Record<string, Uint8Array>> = {
    'larger than is read': Buffer.alloc(BOOT_FILE_BYTES_MAX + 1, 'a'),
    'no UTF-8': Buffer.from([0x61, 0xff, 0xfe]),
    'zero bytes': Buffer.from('hostname: a\0b'),
    'lists in lists in lists': Buffer.from('['.repeat(BOOT_FILE_BYTES_MAX)),
    'maps in maps in maps': Buffer.from('{a: '.repeat(BOOT_FILE_BYTES_MAX / 4)),
    'a billion laughs': Buffer.from(`a: &a [x,x,x,x,x,x,x,x,x]\n${Array.from('bcdefghi').map((name, at) => `${name}: &${name} [${`*${'abcdefghi'[at] ?? 'a'},`.repeat(9)}]`).join('\n')}\n`),
    'one long line of quotes': Buffer.from(`hostname = "${'\\"'.repeat(BOOT_FILE_BYTES_MAX / 2 - 8)}`),
    'a key that is a prototype': Buffer.from('__proto__: {hostname: evil}\nconstructor: {}\n'),
    'entries in entries in entries': Buffer.from('- '.repeat(BOOT_FILE_BYTES_MAX / 2)),
    'ever deeper lines': Buffer.from(Array.from({ length: 340 }, (_, depth) => `${' '.repeat(depth)}a:`).join('\n')),
    'questions in questions': Buffer.from('? '.repeat(BOOT_FILE_BYTES_MAX / 2)),
  };
  for (const [what, bytes] of Object.entries(HOSTILE)) {
    it(`is neither crashed nor stalled by ${what}`, () => {
      const started = performance.now();
      for (const name of ['tenzro.yaml', 'board.yaml', 'user-data', 'network-config', 'custom.toml', 'firstrun.sh'] as const) {
        const { reports, taken, wishes } = plan({ [name]: bytes });
        assert.equal(reports.length + taken.length, 1, name);
        assert.equal(wishes.hostname, undefined, name);
      }
      assert.ok(performance.now() - started < HOSTILE_MS, `${performance.now() - started} ms`);
      assert.equal(plan({ 'board.yaml': bytes }).reports.length, 1);
    });
  }
});

describe('board: networks in the file of wpa_supplicant', () => {
  const base = 'ctrl_interface=DIR=/run/wpa_supplicant GROUP=netdev\n';
  const owners = 'network={\n\tid_str="tenzro-owner-1"\n\tssid=6162\n\tpsk="owners-secret"\n}\n';

  it('writes each in the words of wpa_supplicant.conf(5), and again without leaving the old ones', () => {
    const first = withBootNetworks(base + owners, 'DE', [{ ssid: 'a"b', passphrase: 'eight chars', hidden: true }, { ssid: 'open', passphrase: '', hidden: false }]);
    assert.equal(first, `country=DE\n${base}${owners}network={\n\tid_str="boot-1"\n\tssid=612262\n\tscan_ssid=1\n\tpriority=50\n\tkey_mgmt=WPA-PSK SAE\n\tieee80211w=1\n\tpsk="eight chars"\n}\nnetwork={\n\tid_str="boot-2"\n\tssid=6f70656e\n\tpriority=49\n\tkey_mgmt=NONE\n}\n`);
    const second = withBootNetworks(first, 'AT', [{ ssid: 'x', passphrase: PSK, hidden: false }]);
    assert.equal(second, `country=AT\n${base}${owners}network={\n\tid_str="boot-1"\n\tssid=78\n\tpriority=50\n\tkey_mgmt=WPA-PSK\n\tpsk=${PSK}\n}\n`);
    assert.equal(withBootNetworks(second, 'AT', []), second);
  });
});
