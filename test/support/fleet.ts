/** A fleet's broker and controller as their users run them: mosquitto with TLS and a password, and `tenzro fleet serve` in its own process. */
import { generateKeyPairSync } from 'node:crypto';
import { chmodSync, writeFileSync } from 'node:fs';
import type { Context } from 'mocha';
import { join } from 'node:path';
import { pemOf, selfSignedCertificate } from '#runtime/crypto/certificate.ts';
import { tenzro } from './gateway.ts';
import { requirePeer } from './peers.ts';
import { freePort, Program, run } from './process.ts';
import { until } from './until.ts';

const COMMAND = join(import.meta.dirname, '..', '..', 'runtime', 'cli', 'tenzro.js');
const PASSWORD = 'a fleet password';
/** Gateways of tests have no TPM. */
const POLICY = 'version: 1\naccept: [dtpm, enrolled, emulated, software]\n';

export interface FleetBroker {
  readonly url: string;
  readonly port: number;
  readonly caFile: string;
  readonly passwordFile: string;
  /** Starts it, also after a kill. */
  start(): Promise<Program>;
}

/** `broker.key` and `broker.pem` in `dir`, for a broker on this machine. */
export function writeBrokerIdentity(dir: string): void {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  writeFileSync(join(dir, 'broker.key'), privateKey.export({ format: 'pem', type: 'pkcs8' }));
  writeFileSync(join(dir, 'broker.pem'), pemOf(selfSignedCertificate({ privateKey, commonName: 'broker', hosts: ['localhost', '127.0.0.1'], notBeforeMs: Date.UTC(2020, 0), notAfterMs: Date.UTC(2060, 0) })));
}

/** On a port of its own, with its files in `dir`. Every name may log in that gives the password. */
export async function makeBroker(context: Context, dir: string): Promise<FleetBroker> {
  const [mosquitto, passwd] = [requirePeer(context, 'mosquitto'), requirePeer(context, 'mosquitto_passwd')];
  const at = (name: string): string => join(dir, name);
  writeBrokerIdentity(dir);
  writeFileSync(at('fleet.password'), `${PASSWORD}\n`, { mode: 0o600 });
  const made = await run(passwd, ['-b', '-c', at('users'), 'fleet', PASSWORD]);
  if (made.code !== 0) throw new Error(made.output);
  chmodSync(at('users'), 0o600);
  const port = await freePort();
  const lines = [`listener ${port} 127.0.0.1`, `certfile ${at('broker.pem')}`, `keyfile ${at('broker.key')}`, 'tls_version tlsv1.3', 'allow_anonymous false', `password_file ${at('users')}`, ...(process.getuid?.() === 0 ? ['user root'] : []), ''];
  writeFileSync(at('mosquitto.conf'), lines.join('\n'));
  return {
    url: `mqtts://localhost:${port}`, port, caFile: at('broker.pem'), passwordFile: at('fleet.password'),
    async start() {
      const program = new Program(mosquitto, ['-v', '-c', at('mosquitto.conf')]);
      await until('mosquitto', () => program.output.includes('mosquitto version') && program.output.includes('running'), { hopeless: () => (program.running ? undefined : program.output) });
      return program;
    },
  };
}

export interface Controller {
  readonly dir: string;
  readonly receiptKey: string;
  /** Starts it, also after a kill; resolves when it is connected. */
  start(broker: Pick<FleetBroker, 'url'> & Partial<FleetBroker>): Promise<Program>;
  ls(): Promise<readonly ChainView[]>;
}

export interface ChainView {
  readonly gateway: string;
  readonly chain: string;
  readonly entries: number;
  readonly waiting: number;
  readonly evidence: string;
  readonly block: { readonly sequence: number; readonly hash: string } | null;
  readonly fork: { readonly sequence: number } | null;
}

export async function makeController(dir: string): Promise<Controller> {
  const home = join(dir, 'fleet');
  const passphraseFile = join(dir, 'fleet.passphrase');
  writeFileSync(passphraseFile, 'correct horse battery\n', { mode: 0o600 });
  const made = await tenzro(dir, ['fleet', 'init', '--dir', home, '--name', 'test', '--host', 'localhost', '--open', '--passphrase-file', passphraseFile, '--json']);
  if (made.code !== 0) throw new Error(made.output);
  writeFileSync(join(home, 'policy.yaml'), POLICY);
  const { receiptKey } = JSON.parse(made.stdout) as { readonly receiptKey: string };
  return {
    dir: home, receiptKey,
    async start({ url, caFile, passwordFile }) {
      const program = new Program(process.execPath, [COMMAND, 'fleet', 'serve', '--dir', home, '--broker', url, ...(caFile === undefined ? [] : ['--ca', caFile]), ...(passwordFile === undefined ? [] : ['--user', 'fleet', '--password-file', passwordFile]), '--passphrase-file', passphraseFile]);
      await until('the controller', () => program.stdout.includes('controller ready'), { timeoutMs: 20_000, hopeless: () => (program.running ? undefined : program.output) });
      return program;
    },
    async ls() {
      const { stdout, output } = await tenzro(dir, ['fleet', 'ls', '--dir', home, '--json']);
      if (!stdout.startsWith('[')) throw new Error(output);
      return JSON.parse(stdout) as readonly ChainView[];
    },
  };
}

/** One of `uplinks`; `more`: further keys of it. */
export const uplinkConfig = (name: string, { url, caFile, passwordFile }: Pick<FleetBroker, 'url' | 'caFile' | 'passwordFile'>, receiptKey: string, more = ''): string =>
  `  - { name: ${name}, url: "${url}", caFile: ${caFile}, user: fleet, passwordFile: ${passwordFile}, receiptKey: "${receiptKey}"${more === '' ? '' : `, ${more}`} }`;

/** Of a gateway that seals every second and sends to the broker. `more`: further keys of the uplink; `others`: further uplinks. */
export function gatewayConfig(name: string, broker: FleetBroker, receiptKey: string, { more = '', tpm = 'none', others = [] }: { readonly more?: string; readonly tpm?: 'none' | 'emulated'; readonly others?: readonly string[] } = {}): string {
  return [
    'version: 1', `node: { name: ${name} }`, 'system: { intervalMs: 500 }', 'infer: { enabled: false }', `attest: { intervalMs: 1000, idleIntervalMs: 1000, tpm: { mode: ${tpm} } }`,
    'uplinks:', uplinkConfig('fleet', broker, receiptKey, more), ...others, '',
  ].join('\n');
}
