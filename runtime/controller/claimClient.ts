/** What a claim asks of the running controller: who the fleet is, certificates, and a place in the register. */
import { readFile } from 'node:fs/promises';
import { toHex } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { isJsonObject, type Json, type JsonObject } from '#runtime/core/json.ts';
import { derOfFile } from '#runtime/crypto/certificatePath.ts';
import { thumbprintOf } from '#runtime/crypto/jws.ts';
import { callController } from './apiClient.ts';
import { filesOf, settingsIn } from './house.ts';

/** What a gateway is told about its fleet. */
export interface FleetFacts {
  readonly name: string;
  /** X.509 DER. */
  readonly ca: Uint8Array;
  /** SHA-256 of the key that signs receipts. */
  readonly receiptKey: Uint8Array;
  /** mqtts:// URL for whoever sees this machine at that address. */
  brokerAt(localAddress: string): string;
}

/** A gateway that was judged, before anything is handed over. */
export interface RegisterEntry {
  readonly name: string;
  readonly claimId: Uint8Array;
  /** Raw ML-DSA-65. */
  readonly identityKey: Uint8Array;
  /** SHA-256 of the TPMT_PUBLIC of AK and EK, hexadecimal, where there is a TPM. */
  readonly tpm: { readonly ak: string; readonly ek: string } | undefined;
  readonly statement: Uint8Array | undefined;
  /** Raw ML-DSA-65. */
  readonly ownerKeys: readonly Uint8Array[];
}

/** Every call throws what the controller answers, and `controller.offline`. */
export class FleetOffice {
  readonly facts: FleetFacts;
  readonly #dir: string;
  /** Whose acts they are: thumbprint of the owner's key. */
  readonly #who: string;

  private constructor(dir: string, who: string, facts: FleetFacts) { [this.#dir, this.#who, this.facts] = [dir, who, facts]; }

  /** `ownerKey`: of whoever claims. */
  static async open(dir: string, ownerKey: Uint8Array): Promise<FleetOffice> {
    const { name, receiptKey, url, broker } = await callController(dir, 'controller.status', {});
    const { hosts } = await settingsIn(dir);
    const [ca] = derOfFile(await readFile(filesOf(dir).ca), 1) ?? [];
    if (!ca) throw new TenzroError('controller.directory', `${filesOf(dir).ca} is not one certificate`);
    const isOwn = isJsonObject(broker) && 'port' in broker;
    const onlyHere = isJsonObject(broker) && typeof broker['host'] === 'string' && isLoopback(broker['host']) ? broker['host'] : undefined;
    return new FleetOffice(dir, thumbprintOf(ownerKey), { name: textOf(name), ca, receiptKey: Buffer.from(textOf(receiptKey), 'hex'), brokerAt: (address) => (isOwn ? brokerFor(textOf(url), hosts, onlyHere ?? address) : textOf(url)) });
  }

  /** Of the fleet's authority around this identity key: leaf, then intermediate, X.509 DER. */
  async certificates(gateway: string, identityKey: Uint8Array): Promise<readonly Uint8Array[]> {
    const { certificates } = await this.#call('certificates.issue', { gateway, signingKey: base64(identityKey) });
    if (!Array.isArray(certificates)) throw unexpected();
    return (certificates as readonly Json[]).map(base64Of);
  }

  async begin({ name, claimId, identityKey, tpm, statement, ownerKeys }: RegisterEntry): Promise<void> {
    await this.#call('gateways.begin', {
      name, claimId: toHex(claimId), signingKey: base64(identityKey), ownerKeys: ownerKeys.map(base64), ...tpm, ...(statement ? { statement: base64(statement) } : {}),
    });
  }

  async claimed(name: string, claimId: Uint8Array): Promise<void> { await this.#call('gateways.claimed', { name, claimId: toHex(claimId) }); }
  async abandoned(name: string, claimId: Uint8Array): Promise<void> { await this.#call('gateways.abandoned', { name, claimId: toHex(claimId) }); }

  #call(method: string, parameters: JsonObject): Promise<JsonObject> { return callController(this.#dir, method, { ...parameters, who: this.#who }); }
}

/** The fleet's own broker: gateways reach it where they see this machine, unless its names were given, which its certificate then holds. */
function brokerFor(url: string, hosts: readonly string[], address: string): string {
  if (hosts.length > 0 && !hosts.includes(address) && !isLoopback(address)) return url;
  return `mqtts://${address.includes(':') ? `[${address}]` : address}:${new URL(url).port}`;
}

const isLoopback = (address: string): boolean => address === '::1' || address.startsWith('127.');
const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
const base64Of = (value: Json | undefined): Buffer => Buffer.from(textOf(value), 'base64');
function textOf(value: Json | undefined): string {
  if (typeof value !== 'string') throw unexpected();
  return value;
}
const unexpected = (): TenzroError => new TenzroError('controller.unanswered', 'the controller answered something else than was asked: compare its version with this one');
