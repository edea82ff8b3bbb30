/**
 * Two radios that the kernel simulates (mac80211_hwsim), and hostapd's networks on the second, in a network namespace of their own: only over the air does
 * anything reach them. Each has an address, a listener on PORT, and DHCP.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { once } from 'node:events';
import type { WifiNetwork } from '#drivers/network/wifi.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { Program } from '#test/support/process.ts';
import { until } from '#test/support/until.ts';

export interface AirNetwork extends WifiNetwork {
  readonly host: string;
}

const BUSYBOX = '/opt/busybox';
const FOLDER = '/tmp/air';
const NAMESPACE = 'air';
const UP_MS = 60_000;
const CONNECT_MS = 2_000;
export const PORT = 8_883;
export const STATION = 'wlan0';
const ACCESS_POINT = 'wlan1';

/** In the order of their addresses; the awkward one is an SSID of any bytes, and a passphrase with all that files and shells stumble over. */
export const NETWORKS = {
  old: { ssid: Buffer.from('old'), passphrase: 'the passphrase before', host: '10.1.0.1' },
  awkward: { ssid: Buffer.from([0, 255, 34, 92, 10, 195, 188, 59, 35, 32]), passphrase: ' corr\\ect="horse"; #b\'attery$ ', host: '10.2.0.1' },
  wpa3: { ssid: Buffer.from('wpa3'), passphrase: 'only with SAE', host: '10.3.0.1' },
  open: { ssid: Buffer.from('open'), passphrase: '', host: '10.4.0.1' },
} as const satisfies Readonly<Record<string, AirNetwork>>;

const sh = (...words: readonly string[]): string => execFileSync(words[0] ?? '', words.slice(1), { encoding: 'utf8' });
const inAir = (...words: readonly string[]): string => sh('ip', 'netns', 'exec', NAMESPACE, ...words);

export class Air implements AsyncDisposable {
  readonly #programs: Program[] = [];

  static async open(): Promise<Air> {
    const air = new Air();
    try {
      await air.#begin();
      return air;
    } catch (error) {
      await air[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** What hostapd said, for failures. */
  get said(): string { return this.#programs[0]?.output ?? ''; }

  async #begin(): Promise<void> {
    mkdirSync(FOLDER, { recursive: true });
    sh('ip', 'netns', 'add', NAMESPACE);
    sh('iw', 'phy', readFileSync(`/sys/class/net/${ACCESS_POINT}/phy80211/name`, 'utf8').trim(), 'set', 'netns', 'name', NAMESPACE);
    const names = Object.values(NETWORKS).map((_, at) => (at === 0 ? ACCESS_POINT : `bss${at}`));
    writeFileSync(`${FOLDER}/hostapd.conf`, Object.values(NETWORKS).map((network, at) => bssOf(network, names[at] ?? '', at === 0)).join('\n'));
    const hostapd = this.#start('hostapd', `${FOLDER}/hostapd.conf`);
    await until('the access point', () => hostapd.output.includes('AP-ENABLED'), { timeoutMs: UP_MS, hopeless: () => (hostapd.running ? undefined : hostapd.output) });
    inAir(BUSYBOX, 'sysctl', '-w', 'net.ipv4.conf.all.arp_ignore=1'); // each address is at its own network only
    for (const [at, { host }] of Object.values(NETWORKS).entries()) {
      const name = names[at] ?? '';
      inAir('ip', 'address', 'add', `${host}/24`, 'dev', name);
      const net = host.replace(/\d+$/, '');
      writeFileSync(`${FOLDER}/${name}.dhcp`, `interface ${name}\nstart ${net}100\nend ${net}200\nlease_file ${FOLDER}/${name}.leases\npidfile ${FOLDER}/${name}.pid\noption subnet 255.255.255.0\n`);
      writeFileSync(`${FOLDER}/${name}.leases`, '');
      this.#start(BUSYBOX, 'udhcpd', '-f', `${FOLDER}/${name}.dhcp`);
    }
    this.#start(BUSYBOX, 'httpd', '-f', '-p', String(PORT), '-h', FOLDER);
  }

  #start(...words: readonly string[]): Program {
    const program = new Program('ip', ['netns', 'exec', NAMESPACE, ...words]);
    this.#programs.push(program);
    return program;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const program of this.#programs) await program[Symbol.asyncDispose]();
  }
}

/** Whether the listener on that network answers now. */
export async function reaches({ host }: AirNetwork): Promise<boolean> {
  const socket = connect({ host, port: PORT });
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(CONNECT_MS) });
    return true;
  } catch {
    return false;
  } finally {
    socket.on('error', () => undefined).destroy();
  }
}

function bssOf({ ssid, passphrase }: WifiNetwork, name: string, isFirst: boolean): string {
  const place = isFirst ? `interface=${name}\ndriver=nl80211\nhw_mode=g\nchannel=1\nctrl_interface=${FOLDER}/hostapd\n` : `bss=${name}\n`;
  const kind = ssid === NETWORKS.wpa3.ssid ? 'wpa_key_mgmt=SAE\nieee80211w=2\n' : 'wpa_key_mgmt=WPA-PSK\n';
  const security = passphrase === '' ? '' : `wpa=2\nrsn_pairwise=CCMP\n${kind}wpa_passphrase=${passphrase}\n`;
  return `${place}ssid2=${toHex(ssid)}\n${security}`;
}
