import assert from 'node:assert/strict';
import { fieldsOf, withNetworks, type NetworkTerms } from '#drivers/network/wpaConfig.ts';
import { configIn } from '#drivers/network/wpaProcess.ts';
import type { WifiNetwork } from '#drivers/network/wifi.ts';

const TERMS: NetworkTerms = { name: 'tenzro-owner-0', priority: 100, hasSae: false };
const network: WifiNetwork = { ssid: Buffer.from([0, 255, 10]), passphrase: 'a "b" #c' };
const FILE = '# mine\nctrl_interface=DIR=/run/wpa_supplicant GROUP=netdev\nnetwork={ # home\n\tssid="a } network={"\n\tpsk="id_str=tenzro-#" # }\n}\n\ncred={\n\trealm="x"\n}\n# end';

describe('networks in wpa_supplicant.conf', () => {
  const ours = fieldsOf(network, TERMS);

  it('names the network in hex, quotes the passphrase as it is, and has WPA3 only where that is known', () => {
    assert.deepEqual(ours, [['id_str', '"tenzro-owner-0"'], ['ssid', '00ff0a'], ['priority', '100'], ['key_mgmt', 'WPA-PSK'], ['psk', '"a "b" #c"']]);
    assert.deepEqual(fieldsOf(network, { ...TERMS, hasSae: true }).slice(3), [['key_mgmt', 'WPA-PSK SAE'], ['ieee80211w', '1'], ['psk', '"a "b" #c"']]);
    assert.deepEqual(fieldsOf({ ...network, passphrase: '' }, { ...TERMS, hasSae: true }).slice(3), [['key_mgmt', 'NONE']]);
  });

  it('adds, replaces and takes away only its own', () => {
    const added = withNetworks(FILE, [ours]);
    assert.equal(added, `${FILE}\nnetwork={\n\tid_str="tenzro-owner-0"\n\tssid=00ff0a\n\tpriority=100\n\tkey_mgmt=WPA-PSK\n\tpsk="a "b" #c"\n}\n`);
    assert.equal(withNetworks(added, [ours]), added);
    assert.equal(withNetworks(added, []), `${FILE}\n`);
    assert.equal(withNetworks('', []), '');
    assert.equal(withNetworks(`${FILE}\n`, [ours, ours]).match(/tenzro-owner/g)?.length, 2);
  });

  it('finds its own after wpa_supplicant wrote the file in its order, and leaves what is not whole', () => {
    assert.equal(withNetworks('a=1\nnetwork={\n\tssid="x"\n\tid_str="tenzro-owner-3"\n}\nnetwork={\n\tssid="y"\n\tid_str="office"\n}\n', []), 'a=1\nnetwork={\n\tssid="y"\n\tid_str="office"\n}\n');
    const torn = 'network={\n\tid_str="tenzro-owner-0"\n\tssid="x"\n';
    assert.equal(withNetworks(torn, []), torn);
  });
});

describe('the configuration file that a wpa_supplicant was started with', () => {
  for (const [line, file] of [
    ['-u -s -O /run/wpa_supplicant', undefined], // Debian's, for D-Bus
    ['-c/etc/wpa_supplicant/wpa_supplicant-wlan0.conf -Dnl80211,wext -iwlan0', '/etc/wpa_supplicant/wpa_supplicant-wlan0.conf'], // wpa_supplicant-nl80211@.service
    ['-B -c /etc/w.conf -i wlan0', '/etc/w.conf'],
    ['-qBiwlan0 -Bc/etc/w.conf', '/etc/w.conf'],
    ['-iwlan1 -ca.conf -N -c b.conf -i wlan0 -N -iwlan2 -cc.conf', 'b.conf'],
    ['-iwlan1 -ca.conf', undefined],
    ['-iwlan0 -c', undefined],
  ] as const) it(line, () => { assert.equal(configIn(line.split(' '), 'wlan0') || undefined, file); });
});
