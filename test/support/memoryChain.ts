/** A chain in memory: the sealer's block store and the proof builder's source, without a disk. */
import { invariant } from '#runtime/core/errors.ts';
import type { BlockStore, LastBlock, SealedBlock } from '#runtime/core/ports.ts';
import { KIND, READING_BODY, type Cbor, type Entry, type TreeHead } from '#runtime/core/types.ts';
import { sign1 } from '#runtime/crypto/cose.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { signerOfSeed, type Signer } from '#runtime/crypto/mldsa.ts';
import { blockHash, chainIdOf, encodeBlock, ZERO_HASH, type BlockPayload } from '#runtime/ledger/block.ts';
import { encodeBlockHeader, keyIdOf } from '#runtime/ledger/blockHeader.ts';
import { encodeEntry } from '#runtime/ledger/entry.ts';
import { encodeEvidence, type Evidence } from '#runtime/ledger/evidence.ts';
import { leafHash, nodeHash } from '#runtime/crypto/merkle.ts';
import { consistencyPath, inclusionPath, rootOf, type NodeSource } from '#runtime/ledger/merkle.ts';
import type { ProofBlock, ProofSource } from '#runtime/ledger/proofBuilder.ts';

/** 2026-11-23T00:00:00Z. */
const TEST_MICROS = 1_795_392_000_000_000;

export class MemoryChain implements BlockStore, ProofSource {
  readonly entries: Buffer[] = [];
  readonly blocks: SealedBlock[] = [];
  /** levels[l][i]: hash of the complete subtree of 2^l leaves. */
  readonly #levels: Buffer[][] = [];
  #pending: Uint8Array | undefined;

  readonly #node: NodeSource = (level, index) => {
    const hash = this.#levels[level]?.[index];
    invariant(hash, `no node ${level}/${index}`);
    return hash;
  };

  append(bytes: Buffer): number {
    let [hash, level] = [leafHash(bytes), 0];
    for (;;) {
      const row = (this.#levels[level] ??= []);
      row.push(hash);
      const left = row.at(-2);
      if (row.length % 2 === 1 || !left) break;
      hash = nodeHash(left, hash);
      level++;
    }
    return this.entries.push(bytes) - 1;
  }

  rootAt(size: number): Uint8Array { return rootOf(size, this.#node); }

  entry(index: number): Uint8Array {
    const bytes = this.entries[index];
    invariant(bytes, `no entry ${index}`);
    return bytes;
  }
  inclusionPath(index: number, treeSize: number): readonly Uint8Array[] { return inclusionPath(index, treeSize, this.#node); }
  consistency(from: number, to: number): readonly Uint8Array[] { return consistencyPath(from, to, this.#node); }
  oldest(): number { return 0; }
  blockCount(): number { return this.blocks.length; }
  block(sequence: number): ProofBlock {
    const block = this.blocks[sequence];
    invariant(block, `no block ${sequence}`);
    return block;
  }

  head(): Promise<TreeHead> { return Promise.resolve({ size: this.entries.length, root: this.rootAt(this.entries.length) }); }
  genesis(): Promise<Uint8Array | undefined> { return Promise.resolve(this.blocks[0]?.payload); }
  lastBlock(): Promise<LastBlock | undefined> { return Promise.resolve(this.blocks.at(-1)); }
  evidence(sequence: number): Promise<Uint8Array> { return Promise.resolve(this.block(sequence).evidence); }
  readPending(): Promise<Uint8Array | undefined> { return Promise.resolve(this.#pending); }
  writePending(payload: Uint8Array): Promise<void> { this.#pending = payload; return Promise.resolve(); }
  commitBlock(block: SealedBlock): Promise<void> { this.blocks.push(block); this.#pending = undefined; return Promise.resolve(); }
}

/** A motor's reading, the way ingest records it. */
export function testReading(number: number, values: Cbor = [['temperature', 20 + number / 8, 'Cel']]): Buffer {
  const body = new Map<number, Cbor>([[READING_BODY.topic, 'te/device/motor///m/env'], [READING_BODY.payload, Buffer.from(`{"temperature":${20 + number / 8}}`)], [READING_BODY.values, values], [READING_BODY.flags, 0]]);
  const entry: Entry = { kind: KIND.reading, source: 'device/motor//', wallMicros: TEST_MICROS + number * 1000, bootEpoch: 1, monoMicros: number * 1000, body };
  return encodeEntry(entry);
}

/** What a test may bend of a block's signature and of what stands beside it. */
export interface Dress {
  readonly evidence?: Evidence;
  readonly signer?: Signer;
  readonly keyId?: Uint8Array;
  readonly evidenceDigest?: Uint8Array;
}

/** Seals with a real ML-DSA key, as the sealer does, but lets a test bend the payload and its dress. */
export class SoftSealer {
  readonly signer: Signer;
  readonly #chain: MemoryChain;
  readonly #device: string;

  constructor(chain: MemoryChain, seed: Uint8Array = sha256(Buffer.from('a test device')), device = 'workshop') {
    this.#chain = chain;
    this.#device = device;
    this.signer = signerOfSeed(seed);
  }

  payload(change: Partial<BlockPayload> = {}): Buffer {
    const { blocks, entries } = this.#chain;
    const genesis = blocks[0]?.payload;
    const previous = blocks.at(-1)?.payload;
    return encodeBlock({
      sequence: blocks.length, previous: previous ? blockHash(previous) : ZERO_HASH, wallMicros: TEST_MICROS + blocks.length,
      treeSize: entries.length, root: this.#chain.rootAt(entries.length), softwareDigest: sha256(Buffer.from('software')), bootEpoch: 1, modelDigests: [],
      ...(genesis ? { chainId: chainIdOf(genesis) } : { identity: { signingKey: this.signer.publicKey } }),
      ...change,
    });
  }

  sign(payload: Uint8Array, dress: Dress = {}): SealedBlock {
    const { blocks } = this.#chain;
    const evidence = encodeEvidence(dress.evidence ?? { kind: 'none', reason: 'no TPM found' });
    const header = encodeBlockHeader({
      keyId: dress.keyId ?? keyIdOf(this.signer.publicKey), device: this.#device, chainId: chainIdOf(blocks[0]?.payload ?? payload), evidenceDigest: dress.evidenceDigest ?? sha256(evidence),
    });
    const block: SealedBlock = { sequence: blocks.length, payload, cose: sign1(dress.signer ?? this.signer, header, payload), evidence };
    blocks.push(block);
    return block;
  }

  seal(change: Partial<BlockPayload> = {}, dress: Dress = {}): SealedBlock { return this.sign(this.payload(change), dress); }
}

/** `count` blocks over `perBlock` readings each; the genesis covers the first of them. */
export function softChain(count: number, perBlock: number, seed?: Uint8Array, device?: string): { readonly chain: MemoryChain; readonly sealer: SoftSealer } {
  const chain = new MemoryChain();
  const sealer = new SoftSealer(chain, seed, device);
  for (let block = 0; block < count; block++) {
    for (let i = 0; i < perBlock; i++) chain.append(testReading(chain.entries.length));
    sealer.seal();
  }
  return { chain, sealer };
}
