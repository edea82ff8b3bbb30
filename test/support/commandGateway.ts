/** A gateway that obeys an owner, and a requester that is mosquitto's clients. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '#runtime/core/clock.ts';
import type { CommandClaims } from '#runtime/core/command.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { signerOfSeed, type Signer } from '#runtime/crypto/mldsa.ts';
import { decryptOwnerKey } from '#runtime/crypto/ownerKey.ts';
import { signCommand } from '#runtime/fleet/message.ts';
import type { FleetBroker } from './fleet.ts';
import { Gateway, tenzro, type GatewayOptions } from './gateway.ts';
import { Program, run } from './process.ts';
import { until } from './until.ts';

export const NODE_NAME = 'gw1';
const PASSPHRASE = 'correct horse battery';

export type Message = Readonly<Record<string, unknown>>;

export class OwnedGateway {
  readonly #folder: string;
  #signer: Signer | undefined;

  constructor(folder: string) { this.#folder = folder; }

  get dataDir(): string { return join(this.#folder, 'data'); }
  get configFile(): string { return join(this.dataDir, 'tenzro.yaml'); }
  path(name: string): string { return join(this.#folder, name); }

  configuration(extra = ''): string {
    return `version: 1\nnode: { name: ${NODE_NAME} }\nsystem: { enabled: false }\ninfer: { enabled: false }\nattest: { tpm: { mode: none } }\n`
      + `fleet: { operators: [{ name: owner, publicKeyFile: ${this.path('owner.key.pub')}, may: ['*'] }] }\n${extra}`;
  }

  /** The owner's key, by the command line. */
  async prepare(): Promise<void> {
    mkdirSync(this.dataDir, { mode: 0o700 });
    writeFileSync(this.path('passphrase'), `${PASSPHRASE}\n`, { mode: 0o600 });
    const { code, output } = await tenzro(this.dataDir, ['fleet', 'keygen', '-o', this.path('owner.key'), '--passphrase-file', this.path('passphrase')]);
    if (code !== 0) throw new Error(output);
    writeFileSync(this.configFile, this.configuration());
  }

  async start(options: Omit<GatewayOptions, 'dataDir'> = {}): Promise<Gateway> { return Gateway.start({ dataDir: this.dataDir, ...options }); }

  /** Writes a command that `tenzro fleet sign` signed; returns its file. */
  async signByCommandLine(type: string, id: string, args: readonly string[] = []): Promise<string> {
    const { code, stdout, output } = await tenzro(this.dataDir, ['fleet', 'sign', '--key', this.path('owner.key'), '--gateway', NODE_NAME, '--type', type, '--id', id, '--passphrase-file', this.path('passphrase'), ...args]);
    if (code !== 0) throw new Error(output);
    return this.#write(type, id, stdout);
  }

  /** The same in this process, for those who sign many. */
  sign(type: string, id: string, over: Partial<CommandClaims> = {}): string {
    this.#signer ??= signerOfSeed(decryptOwnerKey(readFileSync(this.path('owner.key'), 'utf8'), Buffer.from(PASSPHRASE)));
    const claims = { gateway: NODE_NAME, target: MAIN_ENTITY, type, id, issued: Math.floor(systemClock.wallMicros() / 1_000_000), ttlSeconds: 60, isDryRun: false, parameters: {}, ...over };
    return this.#write(type, id, JSON.stringify(signCommand(this.#signer, claims)));
  }

  #write(type: string, id: string, text: string): string {
    const file = this.path(`${type}-${id}.json`);
    writeFileSync(file, text);
    return file;
  }
}

/** `mosquitto_pub` and `mosquitto_sub` at one gateway, or at its fleet's broker. */
export class Requester {
  readonly #at: readonly string[];
  readonly #root: string;

  constructor(at: readonly string[], root: string) {
    this.#at = at;
    this.#root = root;
  }

  static async of(gateway: Gateway): Promise<Requester> { return Requester.at(await gateway.port()); }
  static at(port: number): Requester { return new Requester(['-h', '127.0.0.1', '-p', String(port)], `te/${MAIN_ENTITY}/cmd`); }

  static over({ port, caFile, passwordFile }: Pick<FleetBroker, 'port' | 'caFile' | 'passwordFile'>): Requester {
    return new Requester(['-h', 'localhost', '-p', String(port), '--cafile', caFile, '-u', 'fleet', '-P', readFileSync(passwordFile, 'utf8').trim()], `te/${NODE_NAME}/${MAIN_ENTITY}/cmd`);
  }

  async publish(type: string, id: string, file: string): Promise<void> { await this.#pub(['-r', '-q', '1', '-t', this.#topic(type, id), '-f', file]); }
  async clear(type: string, id: string): Promise<void> { await this.#pub(['-r', '-q', '1', '-t', this.#topic(type, id), '-n']); }

  async #pub(args: readonly string[]): Promise<void> {
    const { code, output } = await run('mosquitto_pub', [...this.#at, ...args]);
    if (code !== 0) throw new Error(`mosquitto_pub: ${output}`);
  }

  /** What is retained there now; undefined: nothing, or no JSON. */
  async retained(type: string, id: string): Promise<Message | undefined> {
    const { stdout } = await run('mosquitto_sub', [...this.#at, '-t', this.#topic(type, id), '-C', '1', '-W', '1']);
    return stdout.trim().startsWith('{') ? JSON.parse(stdout) as Message : undefined;
  }

  async capabilities(): Promise<readonly string[]> {
    const { stdout } = await run('mosquitto_sub', [...this.#at, '-t', `${this.#root}/+`, '-v', '-W', '1']);
    return [...stdout.matchAll(/cmd\/(\w+) /g)].map(([, type = '']) => type).toSorted();
  }

  async ended(type: string, id: string): Promise<Message> {
    return until(`${type}/${id} to end`, async () => {
      const message = await this.retained(type, id);
      return message?.['status'] === 'successful' || message?.['status'] === 'failed' ? message : undefined;
    }, { timeoutMs: 15_000 });
  }

  /** Every message on the topics of commands, as a person sees it. */
  watch(): Program { return new Program('mosquitto_sub', [...this.#at, '-t', `${this.#root}/#`, '-v']); }

  #topic(type: string, id: string): string { return `${this.#root}/${type}/${id}`; }
}

export const readMessage = (file: string): Message => JSON.parse(readFileSync(file, 'utf8')) as Message;
