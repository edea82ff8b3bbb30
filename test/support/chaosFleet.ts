/** One gateway, its controller and their broker as real processes that are killed, with a bad network between them: what a chaos run happens to. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { generateKeyPairSync } from 'node:crypto';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { IdentityFiles } from '#provisioning/identity/files.ts';
import { openFile, pairOf } from '#provisioning/identity/sealing.ts';
import { callController } from '#runtime/controller/apiClient.ts';
import type { JsonObject } from '#runtime/core/json.ts';
import { pemOf, selfSignedCertificate } from '#runtime/crypto/certificate.ts';
import { clientCertificate, clientKey } from '#runtime/crypto/clientIdentity.ts';
import { signerOfSeed, type Signer } from '#runtime/crypto/mldsa.ts';
import { decryptOwnerKey } from '#runtime/crypto/ownerKey.ts';
import { makeController } from './fleet.ts';
import { Gateway } from './gateway.ts';
import { connectClient, type TestClient } from './mqttClient.ts';
import { MqttMangler, newTally, type Mangling, type ManglerOptions, type Tally } from './mqttMangler.ts';
import { makeOwnFleet } from './ownFleet.ts';
import { findPeer } from './peers.ts';
import { freePort, Program } from './process.ts';
import { until } from './until.ts';

export const GATEWAY = 'edge-1';
const PASSPHRASE = 'correct horse battery';

/** mosquitto: an outer broker that keeps what it retains, with a bad network on both sides of it. own: the controller's own broker, which dies with it. */
export type Variant = 'mosquitto' | 'own';
export const VICTIMS = ['gateway', 'controller', 'broker'] as const;
export type Victim = (typeof VICTIMS)[number];

export interface ChaosOptions {
  readonly dir: string;
  readonly variant: Variant;
  readonly mangling: Mangling;
  readonly random: (below: number) => number;
}

/** What differs between the variants. */
interface Side {
  readonly home: string;
  readonly receiptKey: string;
  /** Lines of the gateway's uplink. */
  readonly uplink: string;
  startController(): Promise<Program>;
  startBroker(): Promise<Program | undefined>;
  /** Somebody who hears what the broker retains of the gateway. */
  listener(): Promise<TestClient>;
  /** When the gateway's first block is there. */
  admit(): Promise<void>;
}

export class ChaosFleet implements AsyncDisposable {
  readonly tally: Tally;
  readonly kills: Record<Victim, number> = { gateway: 0, controller: 0, broker: 0 };
  readonly options: ChaosOptions;
  /** Every start of the gateway's process, also of those that did not live to be ready. */
  gatewayStarts = 0;
  readonly owner: Signer;
  /** Of the gateway's own broker. */
  readonly localPort: number;
  readonly #side: Side;
  readonly #manglers: readonly MqttMangler[];
  #broker: Program | undefined;
  #controller: Program | undefined;
  #gateway: Gateway | undefined;

  private constructor(options: ChaosOptions, side: Side, manglers: readonly MqttMangler[], tally: Tally, localPort: number) {
    this.options = options;
    this.tally = tally;
    this.#side = side;
    this.#manglers = manglers;
    this.localPort = localPort;
    this.owner = signerOfSeed(decryptOwnerKey(readFileSync(join(side.home, 'owner-1.key'), 'utf8'), Buffer.from(PASSPHRASE)));
  }

  static async start(options: ChaosOptions): Promise<ChaosFleet> {
    const manglers: MqttMangler[] = [];
    const tally = newTally();
    const mangled = async (more: Pick<ManglerOptions, 'dial' | 'tls'>): Promise<MqttMangler> => {
      const mangler = await MqttMangler.listen({ ...more, tally, mangling: options.mangling, random: options.random });
      manglers.push(mangler);
      return mangler;
    };
    const side = await (options.variant === 'own' ? ownSide(options.dir, mangled) : mosquittoSide(options.dir, mangled));
    await using opening = new AsyncDisposableStack();
    const fleet = opening.use(new ChaosFleet(options, side, manglers, tally, await freePort()));
    mkdirSync(fleet.dataDir, { mode: 0o700 });
    writeFileSync(fleet.configFile, fleet.configuration(0));
    fleet.#broker = await side.startBroker();
    fleet.#controller = await side.startController();
    await fleet.startGateway();
    await until('the first block', async () => ((await fleet.#gateway?.status())?.chain.blocks ?? 0) > 0);
    await side.admit();
    opening.move();
    return fleet;
  }

  /** The controller's own broker dies with it, and not alone. */
  get victims(): readonly Victim[] { return VICTIMS.filter((victim) => victim !== 'broker' || this.#broker !== undefined); }
  get dataDir(): string { return join(this.options.dir, 'data'); }
  get configFile(): string { return join(this.dataDir, 'tenzro.yaml'); }
  /** Of the controller. */
  get home(): string { return this.#side.home; }
  get receiptKey(): string { return this.#side.receiptKey; }
  get gateway(): Gateway {
    if (!this.#gateway) throw new Error('there is no gateway');
    return this.#gateway;
  }
  get outputs(): string { return [this.#controller?.output, this.#gateway?.output].map((text = '') => text.split('\n').slice(-30).join('\n')).join('\n---\n'); }

  /** Each number makes another text of the same meaning. */
  configuration(number: number): string {
    return [
      'version: 1', `node: { name: ${GATEWAY} }`, `system: { intervalMs: ${1_000 + number} }`, 'infer: { enabled: false }', 'attest: { intervalMs: 1000, idleIntervalMs: 1000, tpm: { mode: none } }',
      `fleet: { operators: [{ name: owner-1, publicKeyFile: ${this.home}/owner-1.key.pub, may: ['*', shell, driver_call] }], shell: true, driverCalls: [pump.dose] }`,
      'actuators:', '  - { driver: pump, operation: dose, min: 0, max: 1000000, minIntervalMs: 0, timeoutMs: 2000 }',
      'uplinks:', `  - { name: fleet, ${this.#side.uplink}, receiptKey: "${this.receiptKey}" }`, '',
    ].join('\n');
  }

  ask(method: string, parameters: JsonObject): Promise<JsonObject> { return callController(this.home, method, parameters); }
  listener(): Promise<TestClient> { return this.#side.listener(); }
  /** To the gateway, as if its fleet's broker said it. */
  inject(topic: string, payload: string): void { this.#manglers[0]?.inject(topic, payload); }

  calm(): void { for (const mangler of this.#manglers) mangler.calm(); }

  async startGateway(): Promise<void> {
    this.gatewayStarts++;
    this.#gateway = await Gateway.start({ dataDir: this.dataDir, port: this.localPort });
  }

  /** SIGKILL, and again after a while. A gateway is at times killed once more while it starts. */
  async kill(victim: Victim, downMs: number): Promise<void> {
    this.kills[victim]++;
    if (victim === 'gateway') {
      await this.#gateway?.kill();
      await delay(downMs);
      if (this.options.random(4) === 0) await this.#killStarting();
      return this.startGateway();
    }
    if (victim === 'broker') {
      await this.#broker?.end('SIGKILL');
      await delay(downMs);
      this.#broker = await this.#side.startBroker();
      return;
    }
    if (!this.#broker) this.kills.broker++;
    await this.#controller?.end('SIGKILL');
    await delay(downMs);
    this.#controller = await this.#side.startController();
  }

  async #killStarting(): Promise<void> {
    this.gatewayStarts++;
    this.kills.gateway++;
    await using starting = new Gateway({ dataDir: this.dataDir, port: this.localPort });
    await delay(this.options.random(600));
    await starting.kill();
  }

  /** Orderly. Resolves with what was not. */
  async stop(): Promise<string> {
    const code = await this.#gateway?.stop();
    const served = await this.#controller?.end('SIGTERM');
    await this.#broker?.end('SIGTERM');
    return code === 0 && served === 0 ? '' : `gateway ended with ${code}, controller with ${served}: ${this.outputs}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#gateway?.[Symbol.asyncDispose]();
    await this.#controller?.[Symbol.asyncDispose]();
    await this.#broker?.[Symbol.asyncDispose]();
    for (const mangler of this.#manglers) await mangler[Symbol.asyncDispose]();
  }
}

type Mangled = (more: Pick<ManglerOptions, 'dial' | 'tls'>) => Promise<MqttMangler>;

async function mosquittoSide(dir: string, mangled: Mangled): Promise<Side> {
  const program = findPeer('mosquitto');
  if (program === undefined) throw new Error('mosquitto is missing: apt-get install mosquitto');
  const [controller, port] = [await makeController(dir), await freePort()];
  const store = join(dir, 'mosquitto');
  mkdirSync(store, { mode: 0o700 });
  const config = join(dir, 'mosquitto.conf');
  const lines = [`listener ${port} 127.0.0.1`, 'allow_anonymous true', 'persistence true', `persistence_location ${store}/`, 'autosave_on_changes true', 'autosave_interval 1', 'max_packet_size 2097152', ...(process.getuid?.() === 0 ? ['user root'] : []), ''];
  writeFileSync(config, lines.join('\n'));
  const dial: ManglerOptions['dial'] = () => ({ socket: connect({ port, host: '127.0.0.1', noDelay: true }), ready: 'connect' });
  const [forGateway, forController] = [await mangled({ dial }), await mangled({ dial })];
  return {
    home: controller.dir, receiptKey: controller.receiptKey, uplink: `url: "mqtt://127.0.0.1:${forGateway.port}"`,
    startController: () => controller.start({ url: `mqtt://127.0.0.1:${forController.port}` }),
    async startBroker() {
      const broker = new Program(program, ['-v', '-c', config]);
      await until('mosquitto', () => broker.output.includes('running'), { hopeless: () => (broker.running ? undefined : broker.output) });
      return broker;
    },
    listener: () => connectClient(port),
    admit: async () => undefined,
  };
}

async function ownSide(dir: string, mangled: Mangled): Promise<Side> {
  const fleet = await makeOwnFleet(dir);
  const dataDir = join(dir, 'data');
  const own: { identity?: { readonly cert: string; readonly key: Buffer } } = {};
  const place = () => ({ port: fleet.port, host: 'localhost', ca: readFileSync(join(fleet.home, 'ca.pem')), ...own.identity });
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const cert = pemOf(selfSignedCertificate({ privateKey, commonName: 'a bad network', hosts: ['localhost'], notBeforeMs: Date.UTC(2020, 0), notAfterMs: Date.UTC(2060, 0) }));
  const caFile = join(dir, 'mangler.pem');
  writeFileSync(caFile, cert);
  const mangler = await mangled({ dial: () => ({ socket: connectTls(place()), ready: 'secureConnect' }), tls: { key: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(), cert } });
  return {
    home: fleet.home, receiptKey: fleet.receiptKey, uplink: `url: "mqtts://localhost:${mangler.port}", caFile: ${caFile}`,
    startController: () => fleet.start(), startBroker: async () => undefined,
    listener: () => connectClient(fleet.port, { protocol: 'mqtts', ...place() }),
    async admit() {
      await fleet.register(GATEWAY, dataDir);
      const file = await new IdentityFiles(dataDir).read('sealed');
      if (!file) throw new Error('the gateway has no identity');
      const { signer } = pairOf(openFile(file));
      own.identity = { cert: clientCertificate(signer, GATEWAY), key: clientKey(signer) };
    },
  };
}
