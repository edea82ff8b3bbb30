/** A chain in memory whose blocks a TPM attests, sealed step by step so that a test can leave one out or bend it. */
import { openAnchor } from '#drivers/tpm2/anchor.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import type { Transport } from '#drivers/tpm2/transport.ts';
import type { Anchor, SealedBlock } from '#runtime/core/ports.ts';
import { blockHash, type BlockPayload, type Identity } from '#runtime/ledger/block.ts';
import type { TpmEvidence } from '#runtime/ledger/evidence.ts';
import { type MemoryChain, SoftSealer } from './memoryChain.ts';

const NEVER = new AbortController().signal;

/** One TPM, from its start to its reset. */
export class TestBoot implements AsyncDisposable {
  readonly anchor: Anchor;
  readonly #tpm: Tpm;

  private constructor(tpm: Tpm, anchor: Anchor) {
    this.#tpm = tpm;
    this.anchor = anchor;
  }

  static async open(transport: Transport): Promise<TestBoot> {
    const tpm = new Tpm(transport);
    return new TestBoot(tpm, await openAnchor(tpm, NEVER));
  }

  async identity(signingKey: Uint8Array): Promise<Identity> {
    return { signingKey, akPublic: this.anchor.akPublic, ...(await this.anchor.endorsement(NEVER)) };
  }

  pcr14(): Promise<Uint8Array> { return this.anchor.pcr14(NEVER); }
  extend(digest: Uint8Array): Promise<void> { return this.anchor.extend(digest, NEVER); }

  /** What the TPM says about `hash`, without extending anything. */
  async evidence(hash: Uint8Array, options: { readonly counter: boolean }): Promise<TpmEvidence> {
    const { pcrs, ...quote } = await this.anchor.quote(hash, NEVER);
    if (!options.counter) return { kind: 'tpm2', quote, pcrs };
    const counter = await this.anchor.counter(hash, NEVER);
    await this.anchor.increment(NEVER);
    return { kind: 'tpm2', quote, pcrs, counter };
  }

  async [Symbol.asyncDispose](): Promise<void> { await this.#tpm[Symbol.asyncDispose](); }
}

export class TpmSealer {
  readonly soft: SoftSealer;
  readonly #chain: MemoryChain;

  constructor(chain: MemoryChain, seed?: Uint8Array) {
    this.#chain = chain;
    this.soft = new SoftSealer(chain, seed);
  }

  /** The five steps of a block. `first`: of this TPM's boot. */
  async seal(boot: TestBoot, options: { readonly first: boolean; readonly change?: Partial<BlockPayload> }): Promise<SealedBlock> {
    const isGenesis = this.#chain.blocks.length === 0;
    const payload = this.soft.payload({
      ...(options.first ? { pcrStart: await boot.pcr14() } : {}),
      ...(isGenesis ? { identity: await boot.identity(this.soft.signer.publicKey) } : {}),
      ...options.change,
    });
    const hash = blockHash(payload);
    await boot.extend(hash);
    return this.soft.sign(payload, { evidence: await boot.evidence(hash, { counter: options.first }) });
  }
}
