/** A fleet on the broker of one's choice, as its people have it: the broker, `tenzro fleet serve`, gateways whose wire is listened to, and mosquitto's clients. */
import { mkdirSync, writeFileSync } from 'node:fs';
import type { Context } from 'mocha';
import { join } from 'node:path';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { makeController } from './fleet.ts';
import { OTHER_BROKERS, PASSWORD } from './fleetBrokers.ts';
import { Gateway, tenzro } from './gateway.ts';
import { makeOwnFleet } from './ownFleet.ts';
import { requirePeer } from './peers.ts';
import { Program, run, type Ran } from './process.ts';
import { TlsRelay } from './tlsRelay.ts';

export const KINDS = ['its own broker', 'mosquitto', 'nats-server'] as const;
export type Kind = (typeof KINDS)[number];

/** What differs between a fleet's own broker and another. */
interface Setting {
  readonly home: string;
  readonly port: number;
  readonly caFile: string;
  readonly passphraseFile: string;
  /** Of the configuration of a gateway, beside its url. */
  readonly uplinkOf: (gateway: string) => string;
  /** After a kill too. */
  readonly startBroker: () => Promise<Program>;
  readonly startController?: () => Promise<Program>;
  /** Takes a gateway into the fleet whose chain has begun. */
  readonly claim: (gateway: string, dataDir: string) => Promise<void>;
  readonly handIn: (stage: FleetStage, command: HandMade) => Promise<Ran>;
}

interface HandMade {
  readonly gateway: string;
  readonly type: string;
  readonly id: string;
  /** Signed message. */
  readonly file: string;
}

export class FleetStage implements AsyncDisposable {
  /** Between gateways and broker. */
  readonly relay: TlsRelay;
  readonly #setting: Setting;
  readonly #dir: string;
  readonly #programs: AsyncDisposableStack;
  #broker: Program;

  private constructor(dir: string, setting: Setting, { relay, broker, programs }: { readonly relay: TlsRelay; readonly broker: Program; readonly programs: AsyncDisposableStack }) {
    [this.#dir, this.#setting, this.relay, this.#broker, this.#programs] = [dir, setting, relay, broker, programs];
  }

  static async open(context: Context, kind: Kind, dir: string): Promise<FleetStage> {
    await using opening = new AsyncDisposableStack();
    const setting = kind === 'its own broker' ? await ownSetting(dir) : await otherSetting(context, kind, dir);
    const broker = await setting.startBroker();
    opening.defer(() => stage.#broker[Symbol.asyncDispose]());
    const controller = await setting.startController?.();
    if (controller) opening.use(controller);
    const stage = new FleetStage(dir, setting, { relay: opening.use(await TlsRelay.to(setting.port)), broker, programs: opening.move() });
    return stage;
  }

  get passwordFile(): string { return this.path('password'); }
  get port(): number { return this.#setting.port; }
  get caFile(): string { return this.#setting.caFile; }
  path(name: string): string { return join(this.#dir, name); }
  /** In the controller's folder. */
  inHome(name: string): string { return join(this.#setting.home, name); }

  async gateway(name: string): Promise<Gateway> {
    const { home, uplinkOf, claim } = this.#setting;
    const dataDir = this.path(name);
    mkdirSync(dataDir, { mode: 0o700 });
    writeFileSync(join(dataDir, 'tenzro.yaml'), [
      'version: 1', `node: { name: ${name} }`, 'system: { intervalMs: 500 }', 'infer: { enabled: false }', 'attest: { intervalMs: 1000, idleIntervalMs: 1000, tpm: { mode: none } }',
      `fleet: { operators: [{ name: owner, publicKeyFile: ${join(home, 'owner-1.key.pub')}, may: ['*'] }] }`,
      'uplinks:', `  - { name: fleet, url: "mqtts://localhost:${this.relay.port}", ${uplinkOf(name)} }`, '',
    ].join('\n'));
    const gateway = this.#programs.use(await Gateway.start({ dataDir }));
    await gateway.until('its chain to begin', ({ chain }) => chain.blocks > 0, 20_000);
    await claim(name, dataDir);
    return gateway;
  }

  /** `tenzro fleet …` in the controller's folder. */
  async call(...args: readonly string[]): Promise<Ran> { return tenzro(this.#dir, ['fleet', ...args, '--dir', this.#setting.home]); }
  /** The same with the passphrase of the owner's key. */
  async signing(...args: readonly string[]): Promise<Ran> { return this.call(...args, '--passphrase-file', this.#setting.passphraseFile); }

  /** `tenzro fleet sign` over what somebody wrote. */
  async signByHand(gateway: string, message: { readonly type: string; readonly id: string; readonly [member: string]: unknown }): Promise<HandMade> {
    const [written, file] = [this.path('hand.json'), this.path('signed.json')];
    writeFileSync(written, JSON.stringify(message));
    const { code, stdout, output } = await tenzro(this.#dir, ['fleet', 'sign', '--key', join(this.#setting.home, 'owner-1.key'), '--gateway', gateway, '--type', message.type, '--message', written, '--passphrase-file', this.#setting.passphraseFile]);
    if (code !== 0) throw new Error(output);
    writeFileSync(file, stdout);
    return { gateway, type: message.type, id: message.id, file };
  }

  /** As `mosquitto_pub` does, where a person may publish; else over the controller's socket. */
  async handIn(command: HandMade): Promise<Ran> { return this.#setting.handIn(this, command); }

  /** `mosquitto_sub -v` of who only looks on. */
  watch(topic = 'te/#'): Program { return this.#programs.use(new Program('mosquitto_sub', [...this.login('anna'), '-v', '-q', '1', '-t', topic])); }

  /** Arguments of mosquitto's clients. */
  login(user: string): readonly string[] { return ['-h', 'localhost', '-p', String(this.port), '--cafile', this.caFile, '-u', user, '-P', PASSWORD]; }

  /** kill -9, and starts it again; the controller with it where it is inside. */
  async killBroker(): Promise<void> {
    await this.#broker.end('SIGKILL');
    this.#broker = await this.#setting.startBroker();
  }

  async [Symbol.asyncDispose](): Promise<void> { await this.#programs[Symbol.asyncDispose](); }
}

async function ownSetting(dir: string): Promise<Setting> {
  const fleet = await makeOwnFleet(dir);
  const [caFile, passwordFile] = [join(fleet.home, 'ca.pem'), join(dir, 'anna.password')];
  writeFileSync(passwordFile, `${PASSWORD}\n`, { mode: 0o600 });
  const { code, output } = await tenzro(dir, ['fleet', 'broker-user', 'anna', '--dir', fleet.home, '--password-file', passwordFile]);
  if (code !== 0) throw new Error(output);
  return {
    home: fleet.home, port: fleet.port, caFile, passphraseFile: join(dir, 'passphrase'),
    uplinkOf: () => `caFile: ${caFile}, certificate: true, receiptKey: "${fleet.receiptKey}"`,
    startBroker: () => fleet.start(), claim: (name, dataDir) => fleet.register(name, dataDir),
    handIn: (_stage, { gateway, file }) => run('sh', ['-c', `printf '{"commands":[{"gateway":"%s","message":%s}]}' "$0" "$(cat "$1")" | curl -s --unix-socket "$2" -d @- http://fleet/api/commands.submit`, gateway, file, join(fleet.home, 'api.sock')]),
  };
}

async function otherSetting(context: Context, kind: keyof typeof OTHER_BROKERS, dir: string): Promise<Setting> {
  const publish = requirePeer(context, 'mosquitto_pub');
  const broker = await OTHER_BROKERS[kind](context, dir);
  const controller = await makeController(dir);
  return {
    home: controller.dir, port: broker.port, caFile: broker.caFile, passphraseFile: join(dir, 'fleet.passphrase'),
    uplinkOf: (name) => `caFile: ${broker.caFile}, user: ${name}, passwordFile: ${broker.passwordFile}, receiptKey: "${controller.receiptKey}"`,
    startBroker: () => broker.start(), startController: () => controller.start(broker),
    claim: async () => undefined, // the fleet is open: it takes whom the broker lets in
    handIn: (stage, { gateway, type, id, file }) => run(publish, [...stage.login('desk'), '-r', '-q', '1', '-t', `te/${gateway}/${MAIN_ENTITY}/cmd/${type}/${id}`, '-f', file]),
  };
}
