/** A gateway under a fleet's broker, and its fleet: an owner who signs what is desired, and a controller's key that confirms what was heard. */
import { createPublicKey } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { Context } from 'mocha';
import { join } from 'node:path';
import { toHex } from '#runtime/core/bytes.ts';
import { isJsonObject, type Json, type JsonObject } from '#runtime/core/json.ts';
import type { FleetLink, Log } from '#runtime/core/ports.ts';
import { decodeReported, encodeConfirmation, encodeDesired, TWIN_TYP, twinSigningInput, twinTopic, type Confirmation, type Desired, type Reported } from '#runtime/core/twin.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { signDetached } from '#runtime/crypto/jws.ts';
import { newSeed, signerOfSeed, type Signer } from '#runtime/crypto/mldsa.ts';
import { Hub } from '#runtime/link/hub.ts';
import { openLink } from '#runtime/link/mqttLink.ts';
import { makeBroker, uplinkConfig, type FleetBroker } from './fleet.ts';
import { Gateway, logLines } from './gateway.ts';
import type { Program } from './process.ts';
import { until } from './until.ts';

const NODE_NAME = 'gw1';
const SILENT: Log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined, child: () => SILENT };

export class TwinFleet implements AsyncDisposable {
  readonly owner = newSigner();
  readonly controller = newSigner();
  /** Every report as it came; retained ones again. */
  readonly reports: Reported[] = [];
  /** Whether reports of a trial are answered, as the controller does. */
  isConfirming = true;
  readonly #folder: string;
  readonly #broker: FleetBroker;
  #mosquitto: Program | undefined;
  #link: FleetLink | undefined;

  private constructor(folder: string, broker: FleetBroker) {
    this.#folder = folder;
    this.#broker = broker;
  }

  /** Broker, keys and configuration; the gateway is the test's to start. */
  static async open(context: Context, folder: string): Promise<TwinFleet> {
    const fleet = new TwinFleet(folder, await makeBroker(context, folder));
    mkdirSync(fleet.dataDir, { mode: 0o700 });
    writeFileSync(join(folder, 'owner.pub'), publicPemOf(fleet.owner));
    writeFileSync(fleet.configFile, fleet.configuration());
    fleet.#mosquitto = await fleet.#broker.start();
    await fleet.#connect();
    return fleet;
  }

  get dataDir(): string { return join(this.#folder, 'data'); }
  get configFile(): string { return join(this.dataDir, 'tenzro.yaml'); }
  get config(): string { return readFileSync(this.configFile, 'utf8'); }
  get confirmKey(): string { return toHex(sha256(this.controller.publicKey)); }
  get last(): Reported | undefined { return this.reports.at(-1); }

  configuration(extra = ''): string {
    return [`# by hand`, 'version: 1', `node: { name: ${NODE_NAME} }`, 'system: { enabled: false }', 'infer: { enabled: false }', 'attest: { tpm: { mode: none } }',
      `fleet: { operators: [{ name: owner, publicKeyFile: ${join(this.#folder, 'owner.pub')}, may: ['*'] }] }`, 'uplinks:', uplinkConfig('home', this.#broker, this.confirmKey), extra, ''].join('\n');
  }

  async #connect(): Promise<void> {
    const { url, caFile, passwordFile } = this.#broker;
    const hub = new Hub([{ filters: [twinTopic(NODE_NAME, 'config', 'reported')], receive: (_topic, payload) => { this.#receive(payload); } }], SILENT);
    this.#link = openLink({ url, ca: readFileSync(caFile, 'utf8'), clientId: 'fleet-side', user: 'fleet', password: readFileSync(passwordFile, 'utf8').trim(), hub });
    await this.#link.ready(AbortSignal.timeout(10_000));
  }

  #receive(payload: Uint8Array): void {
    const report = decodeReported(payload);
    this.reports.push(report);
    if (report.state === 'probation' && this.isConfirming) void this.confirm(report).catch(() => undefined); // the link is gone: the test sees it
  }

  async start(options: { readonly env?: NodeJS.ProcessEnv; readonly port?: number } = {}): Promise<Gateway> { return Gateway.start({ dataDir: this.dataDir, ...options }); }

  desired(version: number, value: Json, over: Partial<Desired> = {}): Desired { return { version, value, confirmSeconds: 60, confirmKey: this.confirmKey, ...over }; }

  sign(desired: Desired, { by = this.owner, gateway = NODE_NAME, name = 'config' }: { readonly by?: Signer; readonly gateway?: string; readonly name?: string } = {}): Buffer {
    return encodeDesired(desired, signDetached(by, twinSigningInput(gateway, name, 'desired', desired), TWIN_TYP.desired));
  }

  signConfirmation(confirmation: Confirmation, by = this.controller): Buffer {
    return encodeConfirmation(confirmation, by.publicKey, signDetached(by, twinSigningInput(NODE_NAME, 'config', 'confirm', confirmation), TWIN_TYP.confirm));
  }

  async confirm({ version, revision }: Confirmation): Promise<void> { await this.publish('confirm', this.signConfirmation({ version, revision })); }

  async publish(what: 'desired' | 'confirm', payload: Uint8Array, name = 'config'): Promise<void> { await this.#link?.publish(twinTopic(NODE_NAME, name, what), payload, { retain: true }); }

  /** The value in force with other sections, desired as that version. */
  async set(version: number, sections: JsonObject, over: Partial<Desired> = {}): Promise<void> { await this.publish('desired', this.sign(this.desired(version, { ...this.value, ...sections }, over))); }

  /** What the gateway reports to be in force. */
  get value(): JsonObject {
    const { value } = this.last ?? {};
    if (!isJsonObject(value)) throw new Error('nothing was reported');
    return value;
  }

  /** Under which no fleet hears the gateway: nobody listens on port 1. */
  get cutOff(): JsonObject {
    const { uplinks } = this.value;
    if (!Array.isArray(uplinks)) throw new Error('no uplinks were reported');
    return { uplinks: (uplinks as readonly Json[]).map((uplink) => (isJsonObject(uplink) ? { ...uplink, url: 'mqtts://localhost:1' } : uplink)) };
  }

  /** Waits for a report of that version and state, newer than all that came before the call. */
  async reported(version: number, state: Reported['state'], timeoutMs = 20_000): Promise<Reported> {
    return until(`version ${version} to be ${state}`, () => { const { last } = this; return last?.version === version && last.state === state ? last : undefined; }, { timeoutMs });
  }

  /** What the chain says of a version. */
  async told(version: number): Promise<readonly string[]> {
    const lines = await logLines(this.dataDir, ['--kind', 'config', '--limit', '10000']);
    return lines.map(({ body }) => body as JsonObject).filter((body) => body['version'] === version).map(({ change }) => (typeof change === 'string' ? change : ''));
  }

  async refusals(): Promise<readonly string[]> {
    const lines = await logLines(this.dataDir, ['--kind', 'result', '--limit', '10000']);
    return lines.map(({ body }) => body as JsonObject).filter((body) => body['type'] === 'twin').map(({ code, id }) => `${JSON.stringify(id)} ${JSON.stringify(code)}`.replaceAll('"', ''));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#link?.[Symbol.asyncDispose]();
    await this.#mosquitto?.[Symbol.asyncDispose]();
  }
}

export function newSigner(): Signer {
  const seed = newSeed();
  try {
    return signerOfSeed(seed);
  } finally {
    seed.fill(0);
  }
}

function publicPemOf({ privateKey }: Signer): string {
  if (!privateKey) throw new Error('this Node cannot write ML-DSA keys');
  return createPublicKey(privateKey).export({ format: 'pem', type: 'spki' }).toString();
}
