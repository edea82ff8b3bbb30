/** The two network services as a machine has them, on the first simulated radio, with one network that was there before. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Program } from '#test/support/process.ts';
import { until } from '#test/support/until.ts';
import { NETWORKS, STATION } from './air.ts';

export interface Service {
  readonly name: string;
  /** What its programs printed, the end of it. */
  readonly said: string;
  start(): Promise<void>;
  stop(signal: NodeJS.Signals): Promise<void>;
  /** Everything ends at once, memory and /run are lost, and it starts again. */
  powerCut(): Promise<void>;
  /** Why waiting is in vain. */
  hopeless(): string | undefined;
  isOnTrial(): boolean;
  /** Name to content of what survives a power cut. */
  files(): Readonly<Record<string, string>>;
}

const START_MS = 60_000;
const SOCKETS = '/run/wpa_supplicant';
const contentsOf = (folder: string): Readonly<Record<string, string>> => Object.fromEntries(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), 'utf8')]));

abstract class Programs {
  #running: Program[] = [];

  abstract start(): Promise<void>;
  protected abstract readonly volatile: readonly string[];

  /** Ended by `stop`, also when the rest does not start. */
  protected begin(file: string, ...args: readonly string[]): Program {
    const program = new Program(file, args);
    this.#running.push(program);
    return program;
  }

  get said(): string { return this.#running.map(({ output }) => output.slice(-6_000)).join('\n──\n'); }

  async stop(signal: NodeJS.Signals): Promise<void> {
    for (const program of this.#running.toReversed()) if (program.running) await program.end(signal);
    this.#running = [];
    execFileSync('ip', ['link', 'set', STATION, 'down']);
    for (const path of this.volatile) rmSync(path, { recursive: true, force: true });
  }

  async powerCut(): Promise<void> {
    await this.stop('SIGKILL');
    await this.start();
  }

  hopeless(): string | undefined { return this.#running.find(({ running }) => !running)?.output.slice(-2_000); }
}

/** With a file and a socket. Addresses are fixed: who fetches them is another program's matter. */
export class WpaSupplicantService extends Programs implements Service {
  readonly name = 'wpa_supplicant';
  protected readonly volatile = [SOCKETS];
  readonly #folder = '/etc/wpa_supplicant';

  async start(): Promise<void> {
    const file = join(this.#folder, `wpa_supplicant-${STATION}.conf`);
    mkdirSync(this.#folder, { recursive: true });
    const { ssid, passphrase } = NETWORKS.old;
    if (!existsSync(file)) writeFileSync(file, `# stays as it is\nctrl_interface=DIR=${SOCKETS}\nnetwork={ # at home\n  ssid="${ssid.toString()}"\n  psk="${passphrase}" # }\n}\n`);
    for (const { host } of Object.values(NETWORKS)) execFileSync('ip', ['address', 'replace', `${host.replace(/\d+$/, '')}2/24`, 'dev', STATION]);
    const program = this.begin('wpa_supplicant', '-Dnl80211', '-i', STATION, `-c${file}`);
    await until('its socket', () => existsSync(join(SOCKETS, STATION)), { timeoutMs: START_MS, hopeless: () => (program.running ? undefined : program.output) });
  }

  override async stop(signal: NodeJS.Signals): Promise<void> {
    await super.stop(signal);
    if (signal === 'SIGTERM') execFileSync('ip', ['address', 'flush', 'dev', STATION]);
  }

  isOnTrial(): boolean { return execFileSync('wpa_cli', ['-p', SOCKETS, '-i', STATION, 'list_networks'], { encoding: 'utf8' }).includes('\n1\t'); }
  files(): Readonly<Record<string, string>> { return contentsOf(this.#folder); }
}

/** With wpa_supplicant behind it, over a D-Bus that forbids nothing, and addresses by DHCP. */
export class NetworkManagerService extends Programs implements Service {
  readonly name = 'NetworkManager';
  protected readonly volatile = ['/run/NetworkManager', '/run/dbus', SOCKETS];
  readonly #folder = '/etc/NetworkManager/system-connections';

  async start(): Promise<void> {
    for (const folder of ['/run/dbus', '/run/NetworkManager', '/var/lib/NetworkManager', this.#folder]) mkdirSync(folder, { recursive: true });
    const { ssid, passphrase } = NETWORKS.old;
    writeFileSync('/etc/NetworkManager/NetworkManager.conf', '[main]\nplugins=keyfile\ndhcp=internal\nauth-polkit=false\n');
    writeFileSync(join(this.#folder, 'old.nmconnection'), `[connection]\nid=old\nuuid=1b8e6f0c-0d3a-4f5e-9c55-2f1b0c4d7a10\ntype=wifi\n[wifi]\nssid=${ssid.toString()}\n[wifi-security]\nkey-mgmt=wpa-psk\npsk=${passphrase}\n[ipv4]\nmethod=auto\n`, { mode: 0o600 });
    writeFileSync('/etc/dbus.conf', '<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>'
      + '<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>');
    const bus = this.begin('dbus-daemon', '--config-file=/etc/dbus.conf', '--nofork');
    await until('the bus', () => existsSync('/run/dbus/system_bus_socket'), { timeoutMs: START_MS, hopeless: () => (bus.running ? undefined : bus.output) });
    this.begin('wpa_supplicant', '-u');
    // Where /sys is read-only, as in a container, NetworkManager does not wait for udev, which this guest has not
    const manager = this.begin('unshare', '--mount', 'sh', '-c', 'mount -o remount,ro,bind /sys && exec NetworkManager --debug --log-level=INFO');
    await until('NetworkManager', () => execFileSync('nmcli', ['-t', '-f', 'RUNNING', 'general'], { encoding: 'utf8' }).trim() === 'running', { timeoutMs: START_MS, hopeless: () => (manager.running ? undefined : manager.output) });
  }

  isOnTrial(): boolean { return existsSync('/run/NetworkManager/system-connections/tenzro-trial.nmconnection'); }
  files(): Readonly<Record<string, string>> { return contentsOf(this.#folder); }
}
