/**
 * Certificates of gateways, from the first one at the claim on: issued anew when a third of their time is left, or when another intermediate issues, and kept
 * for who is away. Whatever is issued is an act. The key is the one that the gateway's own chain names: nobody has to ask it for anything.
 */
import { createPublicKey, X509Certificate } from 'node:crypto';
import { equalBytes, toHex } from '#runtime/core/bytes.ts';
import type { Clock } from '#runtime/core/clock.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import { pemOf } from '#runtime/crypto/certificate.ts';
import { derOfFile } from '#runtime/crypto/certificatePath.ts';
import { parseSign1 } from '#runtime/crypto/cose.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { spkiOfMlDsa65 } from '#runtime/crypto/mldsa.ts';
import { parseCertificate } from '#runtime/crypto/x509.ts';
import { decodeBlock } from '#runtime/ledger/block.ts';
import { GATEWAY_RENEWAL_MS, type Authority } from './authority.ts';
import type { Chains } from './chains.ts';
import type { Register, RegisteredGateway } from './register.ts';

export interface RenewalsOptions {
  readonly authority: Authority;
  readonly register: Pick<Register, 'get' | 'all' | 'certified'>;
  readonly chains: Pick<Chains, 'record' | 'block'>;
  readonly store: KeyValueStore;
  readonly clock: Clock;
}

const DAY_MS = 86_400_000;
const PREFIX = 'certificate/';

export class Renewals {
  readonly #options: RenewalsOptions;

  constructor(options: RenewalsOptions) { this.#options = options; }

  /** For that identity key (raw ML-DSA-65) of a gateway in the register: the certificate and the intermediate, DER, on disk. */
  async issue(gateway: string, key: Uint8Array): Promise<readonly Uint8Array[]> {
    const { authority, register, store } = this.#options;
    const leaf = authority.gatewayCertificate(createPublicKey({ key: spkiOfMlDsa65(key), format: 'der', type: 'spki' }), gateway, this.#nowMs());
    const { notBeforeMs, notAfterMs } = parseCertificate(leaf);
    store.put(`${PREFIX}${gateway}`, Buffer.from(pemOf(leaf) + pemOf(authority.intermediate)));
    await register.certified(gateway, { serial: new X509Certificate(leaf).serialNumber.toLowerCase(), notBeforeMs, notAfterMs });
    return [leaf, authority.intermediate];
  }

  /** What that gateway is to show, PEM; undefined where it was given none. */
  held(gateway: string): Uint8Array | undefined {
    for (const { key, value } of this.#options.store.range(`${PREFIX}${gateway}`)) return key === `${PREFIX}${gateway}` ? value : undefined;
    return undefined;
  }

  /** Issues all that are due; the names of whom. */
  async renew(signal: AbortSignal): Promise<readonly string[]> {
    const renewed: string[] = [];
    for (const gateway of this.#options.register.all()) {
      const key = this.#isDue(gateway) ? this.#identityKey(gateway) : undefined;
      if (signal.aborted) break;
      if (!key) continue;
      await this.issue(gateway.name, key);
      renewed.push(gateway.name);
    }
    return renewed;
  }

  /** One that would end no later is not worth it: the intermediate ends then. */
  #isDue({ name, state, certificate, chains }: RegisteredGateway): boolean {
    const { authority } = this.#options;
    if (state !== 'claimed' || chains.length === 0) return false;
    const held = this.held(name);
    if (!certificate || !held) return certificate !== undefined || held !== undefined; // its key changed, or an older version issued it
    const [, intermediate] = derOfFile(held, 2) ?? [];
    if (!intermediate || !equalBytes(intermediate, authority.intermediate)) return true;
    return certificate.notAfterMs - this.#nowMs() < GATEWAY_RENEWAL_MS && authority.endsMs - certificate.notAfterMs > DAY_MS;
  }

  /** As the genesis of its newest chain has it. */
  #identityKey({ chains, identityKey }: RegisteredGateway): Uint8Array | undefined {
    const newest = chains.at(-1) ?? '';
    if (!this.#options.chains.record(newest)?.head) return undefined;
    const key = decodeBlock(parseSign1(this.#options.chains.block(newest, 0).cose).payload).identity?.signingKey;
    return key && toHex(sha256(key)) === identityKey ? key : undefined;
  }

  #nowMs(): number { return Math.floor(this.#options.clock.wallMicros() / 1_000); }
}
