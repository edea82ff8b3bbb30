/** The brokers under the same load: ours with its whole path behind it, bare aedes, mosquitto with persistence. */
import { generateKeyPairSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pemOf, selfSignedCertificate } from '#runtime/crypto/certificate.ts';
import { Gateway } from '#test/support/gateway.ts';
import { findPeer } from '#test/support/peers.ts';
import { Program, acceptsMqtt, freePort } from '#test/support/process.ts';
import { tempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

export interface Contender extends AsyncDisposable {
  readonly port: number;
  readonly pid: number;
}

export interface GatewayUnderTest extends Contender {
  readonly gateway: Gateway;
  readonly dataDir: string;
}

const AEDES = join(import.meta.dirname, 'peers', 'aedes.ts');

/** Ready, and its models loaded. */
export async function startGateway(settings: { readonly env?: NodeJS.ProcessEnv; readonly configFile?: string } = {}): Promise<GatewayUnderTest> {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(tempDir('bench'));
  const gateway = stack.use(await Gateway.start({ dataDir: dir.path, ...settings }));
  stack.defer(async () => { await gateway.stop(); }); // orderly: it then writes its compile cache
  await gateway.until('a model to run', ({ models }) => models.some(({ provider }) => provider !== ''));
  const port = await gateway.port();
  const owned = stack.move();
  return { gateway, port, pid: gateway.pid, dataDir: dir.path, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

export async function startAedes(): Promise<Contender> {
  const program = new Program(process.execPath, [AEDES]);
  const port = await until('aedes', () => Number(/port (\d+)/.exec(program.output)?.[1] ?? Number.NaN) || undefined);
  return { port, pid: program.pid, [Symbol.asyncDispose]: () => program[Symbol.asyncDispose]() };
}

/** Undefined where mosquitto is not installed. Its persistence writes a snapshot now and then: its PUBACK does not mean stored. */
export async function startMosquitto(port?: number): Promise<Contender | undefined> {
  const file = findPeer('mosquitto');
  if (file === undefined) return undefined;
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(tempDir('mosquitto'));
  const ownPort = port ?? await freePort();
  const config = join(dir.path, 'mosquitto.conf');
  writeFileSync(config, [
    `listener ${ownPort} 127.0.0.1`, 'allow_anonymous true', 'persistence true', `persistence_location ${dir.path}/`, 'autosave_interval 5',
    ...(process.getuid?.() === 0 ? ['user root'] : []), '',
  ].join('\n'));
  const program = stack.use(new Program(file, ['-c', config]));
  await until('mosquitto', () => acceptsMqtt(ownPort));
  const owned = stack.move();
  return { port: ownPort, pid: program.pid, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

export interface SecureContender extends Contender {
  /** PEM. */
  readonly ca: string;
}

/** A fleet's broker as bare as it comes: TLS 1.3 with a P-256 certificate, anybody may come in, no queue has an end. Undefined where mosquitto is not installed. */
export async function startSecureMosquitto(): Promise<SecureContender | undefined> {
  const file = findPeer('mosquitto');
  if (file === undefined) return undefined;
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(tempDir('mosquitto'));
  const at = (name: string): string => join(dir.path, name);
  const port = await freePort();
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const ca = pemOf(selfSignedCertificate({ privateKey, commonName: 'broker', hosts: ['localhost'], notBeforeMs: Date.UTC(2020, 0), notAfterMs: Date.UTC(2060, 0) }));
  writeFileSync(at('broker.key'), privateKey.export({ format: 'pem', type: 'pkcs8' }));
  writeFileSync(at('broker.pem'), ca);
  writeFileSync(at('mosquitto.conf'), [
    `listener ${port} 127.0.0.1`, `certfile ${at('broker.pem')}`, `keyfile ${at('broker.key')}`, 'tls_version tlsv1.3', 'allow_anonymous true', 'max_inflight_messages 0', 'max_queued_messages 0',
    'persistence true', `persistence_location ${dir.path}/`, 'autosave_interval 5', ...(process.getuid?.() === 0 ? ['user root'] : []), '',
  ].join('\n'));
  const program = stack.use(new Program(file, ['-c', at('mosquitto.conf')]));
  await until('mosquitto', () => program.output.includes('running'), { hopeless: () => (program.running ? undefined : program.output) });
  const owned = stack.move();
  return { port, pid: program.pid, ca, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
