/**
 * A gateway of the fleet's figures. Real: identity key, TLS connection, link, judge and executor of commands, uplink, CBOR, Merkle tree, signed blocks.
 * Simulated: its ledger is in memory, its blocks are made beforehand with evidence of software only, commands do nothing and their results enter no block.
 */
import { COMMAND_TYPES, type Operator } from '#runtime/core/command.ts';
import { systemClock as clock } from '#runtime/core/clock.ts';
import type { FleetLink, LinkUser } from '#runtime/core/ports.ts';
import type { StoredEntry } from '#runtime/core/types.ts';
import { clientCertificate, clientKey } from '#runtime/crypto/clientIdentity.ts';
import { leafHash } from '#runtime/crypto/merkle.ts';
import { newSeed } from '#runtime/crypto/mldsa.ts';
import { CommandTopics } from '#runtime/fleet/topics.ts';
import type { ProofBlock } from '#runtime/ledger/proofBuilder.ts';
import { Uplink } from '#runtime/uplink/follower.ts';
import type { UplinkSource } from '#runtime/uplink/stretch.ts';
import { LightGateway, MemoryMap, QUIET, uncounted } from '#test/support/lightGateway.ts';
import { softChain, type MemoryChain, type SoftSealer } from '#test/support/memoryChain.ts';
import { until } from '#test/support/until.ts';
import { nowMs } from './clock.ts';

/** A chain that is finished, of which so many blocks were sealed so far. */
class Unveiled implements UplinkSource {
  sealed = 0;
  readonly #chain: MemoryChain;

  constructor(chain: MemoryChain) { this.#chain = chain; }

  blockCount(): number { return this.sealed; }
  block(sequence: number): ProofBlock { return this.#chain.block(sequence); }
  leafHash(index: number): Uint8Array { return leafHash(this.#chain.entry(index)); }
  *read(from: number, max: number): Iterable<StoredEntry> {
    for (let index = from; index < Math.min(from + max, this.#chain.entries.length); index++) yield { index, bytes: this.#chain.entry(index) };
  }
}

export interface SimulatedOptions {
  readonly url: string;
  readonly ca: string;
  /** SHA-256 of the controller's receipt key. */
  readonly receiptKey: Uint8Array;
  readonly operators: readonly Operator[];
}

export class SimulatedGateway implements AsyncDisposable {
  readonly name: string;
  readonly publicKey: Uint8Array;
  /** By CLOCK_MONOTONIC, 0: not yet. When it was connected and subscribed last; when the first receipt after `seal` came, and the newest one. */
  connectedAtMs = 0;
  firstReceiptAtMs = 0;
  receiptAtMs = 0;
  /** Blocks under its newest receipt. */
  receipted = 0;
  readonly #sealer: SoftSealer;
  readonly #source: Unveiled;
  readonly #stop = new AbortController();
  /** Up to there one more block is sealed whenever a receipt comes. */
  #sealUntil = 0;
  #shippedAtMs = 0;
  #light: LightGateway | undefined;
  #following: Promise<void> = Promise.resolve();

  constructor(name: string, blocks: number, entriesPerBlock: number) {
    const { chain, sealer } = softChain(blocks, entriesPerBlock, newSeed(), name);
    [this.name, this.publicKey, this.#sealer, this.#source] = [name, sealer.signer.publicKey, sealer, new Unveiled(chain)];
  }

  get isReady(): boolean { return this.#light?.link.isReady ?? false; }
  get hasAllReceipts(): boolean { return this.receipted >= Math.max(this.#source.sealed, this.#sealUntil); }

  /** Keeps connecting, by its key. */
  start({ url, ca, receiptKey, operators }: SimulatedOptions): void {
    const uplink: Uplink = new Uplink({
      upstream: { receiptKey, maxBytesPerSecond: 0, forward: [] }, forward: [], device: this.name, source: this.#source, writer: { setCursor: () => { this.#receipted(uplink.status().receipt?.sequence ?? -1); } },
      store: new MemoryMap(), clock, counters: { ...uncounted(), add: (name) => { if (name === 'uplink.shipments') this.#shippedAtMs = nowMs(); } }, log: QUIET,
    });
    const identity = { cert: clientCertificate(this.#sealer.signer, this.name), key: clientKey(this.#sealer.signer) };
    this.#light = new LightGateway(this.name, operators, { url, ca, identity }, undefined, [uplink, this.#sayings()]);
    identity.key.fill(0);
    this.#following = uplink.follow(this.#light.link, this.#stop.signal);
  }

  /** So many more blocks: at once, or each when the one before it is receipted. */
  seal(blocks: number, pace: 'at once' | 'one by one'): void {
    this.firstReceiptAtMs = 0;
    this.#sealUntil = this.#source.sealed + blocks;
    this.#source.sealed += pace === 'at once' ? blocks : Math.min(1, blocks);
  }

  /** One more block. Milliseconds from sending it to its receipt. */
  async sealed(): Promise<number> {
    this.seal(1, 'at once');
    await until('a receipt', () => this.hasAllReceipts, { timeoutMs: 60_000, intervalMs: 5 });
    return this.receiptAtMs - this.#shippedAtMs;
  }

  #receipted(sequence: number): void {
    [this.receipted, this.receiptAtMs] = [sequence + 1, nowMs()];
    this.firstReceiptAtMs ||= this.receiptAtMs;
    if (this.#source.sealed < this.#sealUntil && this.receipted === this.#source.sealed) this.#source.sealed++;
  }

  /** What a gateway says of itself at each connect. */
  #sayings(): LinkUser {
    const open: { link?: FleetLink } = {};
    const topics = new CommandTopics(this.name, (topic, payload) => { open.link?.publish(topic, Buffer.from(payload), { retain: true }).catch(() => undefined); });
    return {
      filters: [], receive: () => undefined,
      connected: (link) => {
        open.link = link;
        this.connectedAtMs = nowMs();
        topics.sayCapabilities(new Set(COMMAND_TYPES));
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#following;
    await this.#light?.[Symbol.asyncDispose]();
  }
}
