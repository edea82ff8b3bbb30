/**
 * The access point of a gateway without owner and network, whole: the gateway, wpa_supplicant and systemd-networkd (with the image's own files) on one radio that
 * the kernel simulates; a phone, then the site's access point, on the other one, in a network namespace of their own.
 */
import assert from 'node:assert/strict';
import { appendFileSync, chmodSync, chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { credentialsOf, type Credentials } from '#provisioning/portal/credentials.ts';
import { Gateway } from '#test/support/gateway.ts';
import { Program, run, type Ran } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const RADIO = { gateway: 'wlan0', other: 'wlan1' } as const;
const NAMESPACE = 'site';
const CONFIG = '/etc/wpa_supplicant/wpa_supplicant-wlan0.conf';
const SITE = { ssid: 'hall 3', passphrase: 'a "passphrase" & more', host: '10.9.0.1' } as const;
const PAGE = 'http://192.168.73.1/';
/** A trial's 30 s and 20 s, and what emulation takes on top. */
const LATE_MS = 150_000;
const NETWORKS = join(import.meta.dirname, '..', '..', '..', 'image/system/root/etc/systemd/network');

const inSite = (...words: readonly string[]): readonly [string, readonly string[]] => ['ip', ['netns', 'exec', NAMESPACE, ...words]];
const there = (...words: readonly string[]): Promise<Ran> => run(...inSite(...words));
const curl = async (...words: readonly string[]): Promise<string> => {
  const { code, stdout, output } = await there('curl', '-sS', '--max-time', '10', ...words);
  assert.equal(code, 0, output);
  return stdout;
};

describe('the access point, over simulated radios (mac80211_hwsim)', function () {
  this.timeout(2 * LATE_MS);
  const programs: Program[] = [];
  let dir: TempDir;
  let gateway: Gateway;
  let own: Credentials;
  let phone: Program;

  const begin = (file: string, args: readonly string[]): Program => {
    const program = new Program(file, args);
    programs.push(program);
    return program;
  };

  before(async () => {
    dir = tempDir('portal-vm');
    await run('ip', ['netns', 'add', NAMESPACE]);
    await run('iw', ['phy', readFileSync(`/sys/class/net/${RADIO.other}/phy80211/name`, 'utf8').trim(), 'set', 'netns', 'name', NAMESPACE]);
    mkdirSync('/etc/wpa_supplicant', { recursive: true });
    writeFileSync(CONFIG, 'ctrl_interface=DIR=/run/wpa_supplicant\n', { mode: 0o600 });
    const supplicant = begin('wpa_supplicant', ['-Dnl80211', '-i', RADIO.gateway, `-c${CONFIG}`]);
    await until('wpa_supplicant', () => existsSync(join('/run/wpa_supplicant', RADIO.gateway)), { timeoutMs: LATE_MS, hopeless: () => (supplicant.running ? undefined : supplicant.output) });
    mkdirSync('/etc/systemd/network', { recursive: true });
    // As in a container, with /sys read-only, networkd does not wait for udev, which this guest has not; then the kernel's word alone says that wlan0 is a radio
    for (const name of ['50-tenzro-portal.network', '50-tenzro-wlan.network']) writeFileSync(join('/etc/systemd/network', name), readFileSync(join(NETWORKS, name), 'utf8').replace('Type=wlan\n', ''));
    appendFileSync('/etc/passwd', 'systemd-network:x:998:998::/:/usr/sbin/nologin\n');
    appendFileSync('/etc/group', 'systemd-network:x:998:\n');
    writeFileSync('/etc/machine-id', `${'5'.repeat(32)}\n`); // networkd's DHCP client names itself by it
    for (const folder of ['', 'links', 'leases', 'lldp']) {
      mkdirSync(join('/run/systemd/netif', folder), { recursive: true });
      chownSync(join('/run/systemd/netif', folder), 998, 998);
    }
    begin('unshare', ['--mount', 'sh', '-c', 'mount -o remount,ro,bind /sys && exec /lib/systemd/systemd-networkd']);
    const configFile = join(dir.path, 'tenzro.yaml');
    writeFileSync(configFile, 'attest: { intervalMs: 1000, tpm: { mode: none } }\nclaim: { host: 127.0.0.1 }\nportal: { mode: "on", waitSeconds: 10 }\nsystem: { enabled: false }\ninfer: { enabled: false }\n');
    gateway = new Gateway({ dataDir: join(dir.path, 'data'), configFile });
    await gateway.until('the gateway', ({ ready }) => ready, LATE_MS);
  });
  afterEach(async function () {
    if (this.currentTest?.state !== 'failed') return;
    const facts = [await run('ip', ['address', 'show', RADIO.gateway]), await run('wpa_cli', ['-i', RADIO.gateway, 'status'])];
    process.stdout.write([...facts.map(({ output }) => output), ...programs.map(({ output }) => output.slice(-4_000)), gateway.output.slice(-4_000), JSON.stringify((await gateway.status())?.portal), ''].join('\n──\n'));
  });
  after(async () => {
    await gateway?.[Symbol.asyncDispose]();
    for (const program of programs.toReversed()) await program[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  const open = (): Promise<unknown> => gateway.until('the page', ({ portal }) => portal.state === 'open' && portal.url !== null, LATE_MS);

  it('opens where no network comes, with the image\'s address, and lets in who knows its passphrase', async () => {
    await open();
    own = await credentialsOf(join(dir.path, 'data'));
    const file = join(dir.path, 'phone.conf');
    writeFileSync(file, `ctrl_interface=${dir.path}/phone\nnetwork={\n  ssid="${own.ssid}"\n  psk="${own.passphrase}"\n}\n`);
    phone = begin(...inSite('wpa_supplicant', '-Dnl80211', '-i', RADIO.other, `-c${file}`));
    await until('the phone in the network', () => phone.output.includes('CTRL-EVENT-CONNECTED'), { timeoutMs: LATE_MS });
    const script = join(dir.path, 'lease');
    writeFileSync(script, `#!/bin/sh\n[ "$1" = bound ] && ip address replace "$ip/$mask" dev "$interface" && echo "$ip $dns $router" >${dir.path}/leased\nexit 0\n`);
    chmodSync(script, 0o755);
    await until('an address', async () => (await there('/opt/busybox', 'udhcpc', '-i', RADIO.other, '-n', '-q', '-s', script)).code === 0, { timeoutMs: LATE_MS, intervalMs: 500 });
    assert.match(readFileSync(join(dir.path, 'leased'), 'utf8'), /^192\.168\.73\.\d+ 192\.168\.73\.1 192\.168\.73\.1$/m);
  });

  it('leads the phone to its page by names, and shows nothing secret', async () => {
    const { stdout } = await there('/opt/busybox', 'nslookup', '-type=a', 'captive.apple.com', '192.168.73.1');
    assert.match(stdout, /Name:\s+captive\.apple\.com\s+Address:\s+192\.168\.73\.1/);
    assert.match(await curl('-i', '--resolve', 'captive.apple.com:80:192.168.73.1', 'http://captive.apple.com/hotspot-detect.html'), /^HTTP\/1\.1 302 [^]*location: http:\/\/192\.168\.73\.1\/\r/);
    const page = await curl(PAGE);
    assert.ok(page.includes(`${own.ssid}: give this gateway a network`) && !page.includes(own.passphrase));
    assert.ok(!JSON.stringify(await gateway.status()).includes(own.passphrase) && !gateway.output.includes(own.passphrase));
  });

  async function handOver(...fields: readonly string[]): Promise<void> {
    const token = /name="token" value="([^"]+)"/.exec(await curl(PAGE))?.[1] ?? '';
    assert.match(await curl('--data-urlencode', `token=${token}`, ...fields.flatMap((field) => ['--data-urlencode', field]), `${PAGE}join`), /<h1>Trying /);
    await gateway.until('a trial', ({ portal }) => portal.state === 'trying', LATE_MS);
  }

  it('comes back from a network that is not there, and says why', async () => {
    await handOver('name=nowhere', 'passphrase=none at all');
    await gateway.until('the end of the trial', ({ portal }) => portal.last?.network === 'nowhere', LATE_MS);
    await open();
    const page = await until('the page, for the phone', async () => {
      const { code, stdout } = await there('curl', '-sS', '--max-time', '5', PAGE);
      return code === 0 && stdout;
    }, { timeoutMs: LATE_MS });
    assert.match(page, /nowhere did not work<\/strong>: a network did not come up/);
    assert.doesNotMatch(readFileSync(CONFIG, 'utf8'), /nowhere|6e6f7768657265/);
  });

  it('keeps a network that works, and closes', async () => {
    await handOver(`name=${SITE.ssid}`, `passphrase=${SITE.passphrase}`);
    await phone.end('SIGTERM');
    await there('ip', 'address', 'flush', 'dev', RADIO.other);
    const conf = join(dir.path, 'hostapd.conf');
    writeFileSync(conf, `interface=${RADIO.other}\ndriver=nl80211\nhw_mode=g\nchannel=1\nssid=${SITE.ssid}\nwpa=2\nwpa_key_mgmt=WPA-PSK\nrsn_pairwise=CCMP\nwpa_passphrase=${SITE.passphrase}\n`);
    const hostapd = begin(...inSite('hostapd', conf));
    await until('the site\'s access point', () => hostapd.output.includes('AP-ENABLED'), { timeoutMs: LATE_MS, hopeless: () => (hostapd.running ? undefined : hostapd.output) });
    await there('ip', 'address', 'add', `${SITE.host}/24`, 'dev', RADIO.other);
    writeFileSync(join(dir.path, 'leases'), '');
    writeFileSync(join(dir.path, 'dhcp'), `interface ${RADIO.other}\nstart 10.9.0.100\nend 10.9.0.200\nlease_file ${dir.path}/leases\npidfile ${dir.path}/pid\noption subnet 255.255.255.0\n`);
    begin(...inSite('/opt/busybox', 'udhcpd', '-f', join(dir.path, 'dhcp')));
    const { portal } = await gateway.until('the network', (status) => status.portal.state === 'off', LATE_MS);
    assert.deepEqual([portal.last, portal.url], [{ network: SITE.ssid, reason: null }, null]);
    assert.match(readFileSync(CONFIG, 'utf8'), /id_str="portal-1"\n\tssid=68616c6c2033\n/);
    await until('the site over the air', async () => (await run('/opt/busybox', ['ping', '-c', '1', '-W', '2', SITE.host])).code === 0, { timeoutMs: LATE_MS });
    assert.equal((await gateway.status())?.portal.state, 'off');
  });
});
