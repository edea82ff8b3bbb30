/**
 * What the verifier remembers of chains and devices, durable: counters seen and identities enrolled must survive kill −9, or an old state could pass as a
 * new one. A lease leaves this house only after the memory of its appraisal is flushed.
 */
import { toHex } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import { decodeChainMemory, encodeChainMemory, type ChainMemory } from '#runtime/ledger/chainMemory.ts';

const CHAIN = 'chain/';
/** SHA-256 of an EK that is proven, else of the signing key, to the `identityDigest` first seen with it. */
const DEVICE = 'device/';

interface MemoryBounds {
  readonly chains: number;
  readonly devices: number;
}

/** A chain brings one device or none; enrolments alone, of whoever a policy lets in at first use, must not fill the disk. */
const BOUNDS: MemoryBounds = { chains: LIMITS.verifierChainsMax, devices: 2 * LIMITS.verifierChainsMax };

export class VerifierMemory {
  readonly #store: KeyValueStore;
  readonly #most: MemoryBounds;
  #chains: number;
  #devices: number;

  constructor(store: KeyValueStore, most: MemoryBounds = BOUNDS) {
    this.#store = store;
    this.#most = most;
    this.#chains = Array.from(store.range(CHAIN)).length;
    this.#devices = Array.from(store.range(DEVICE)).length;
  }

  get chains(): number { return this.#chains; }

  chain(chainId: Uint8Array): ChainMemory | undefined {
    const value = this.#get(CHAIN + toHex(chainId));
    return value && decodeChainMemory(value);
  }

  identity(deviceKey: Uint8Array): Uint8Array | undefined { return this.#get(DEVICE + toHex(deviceKey)); }

  /** Resolves when it is on disk. Rejects with `verifier.busy` where no further chain fits, and `ledger.*`. */
  async rememberChain(chainId: Uint8Array, deviceKey: Uint8Array, memory: ChainMemory): Promise<void> {
    const key = CHAIN + toHex(chainId);
    const isNew = this.#get(key) === undefined;
    if (isNew && this.#chains >= this.#most.chains) throw full(`${this.#chains} chains`);
    this.#store.put(key, encodeChainMemory(memory));
    this.#putDevice(deviceKey, memory.identity);
    await this.#store.flushed();
    if (isNew) this.#chains += 1;
  }

  /** Resolves when it is on disk. Rejects with `verifier.busy` where no further device fits, and `ledger.*`. */
  async rememberDevice(deviceKey: Uint8Array, identity: Uint8Array): Promise<void> {
    if (this.#devices >= this.#most.devices && !this.identity(deviceKey)) throw full(`${this.#devices} devices`);
    this.#putDevice(deviceKey, identity);
    await this.#store.flushed();
  }

  /** Drops a chain and the device that it belongs to: an operator's word that it may begin anew. False where it is unknown. */
  async forget(chainId: Uint8Array): Promise<boolean> {
    const memory = this.chain(chainId);
    if (!memory) return false;
    this.#store.remove(CHAIN + toHex(chainId));
    for (const { key, value } of this.#store.range(DEVICE)) {
      if (Buffer.compare(value, memory.identity) !== 0) continue;
      this.#store.remove(key);
      this.#devices -= 1;
    }
    await this.#store.flushed();
    this.#chains -= 1;
    return true;
  }

  #putDevice(deviceKey: Uint8Array, identity: Uint8Array): void {
    if (!this.identity(deviceKey)) this.#devices += 1;
    this.#store.put(DEVICE + toHex(deviceKey), identity);
  }

  #get(key: string): Uint8Array | undefined {
    for (const pair of this.#store.range(key)) return pair.key === key ? pair.value : undefined;
    return undefined;
  }
}

const full = (what: string): TenzroError => new TenzroError('verifier.busy', `${what} are remembered already`, { retryAfterMs: LIMITS.leaseRetryMaxMs });
