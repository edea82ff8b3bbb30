/** Leases for tests: one that fits a chain in memory, to be bent. */
import { KIND, LEASE_BODY } from '#runtime/core/types.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { signerOfSeed, type Signer } from '#runtime/crypto/mldsa.ts';
import { blockHash, chainIdOf, decodeBlock } from '#runtime/ledger/block.ts';
import { encodeEntry } from '#runtime/ledger/entry.ts';
import { identityDigest, keyDigestsOf, signLease, type Lease } from '#runtime/ledger/lease.ts';
import type { MemoryChain } from './memoryChain.ts';

export const testVerifier: Signer = signerOfSeed(sha256(Buffer.from('a test verifier')));

/** About the chain's last block, given a second before it was sealed, for ten minutes. */
export function leaseFor(chain: MemoryChain, change: Partial<Lease> = {}): Lease {
  const last = chain.blocks.at(-1);
  const genesis = chain.blocks[0];
  if (!last || !genesis) throw new Error('a lease is about a block');
  const { sequence, wallMicros, bootEpoch } = decodeBlock(last.payload);
  const { identity } = decodeBlock(genesis.payload);
  const issuedAt = Math.floor(wallMicros / 1e6) - 1;
  return {
    issuer: 'test verifier', chainId: chainIdOf(genesis.payload), id: Buffer.alloc(16, 7), issuedAt, expiresAt: issuedAt + 600, nonce: Buffer.alloc(32, 9),
    identity: identityDigest(keyDigestsOf(identity ?? { signingKey: new Uint8Array(0) })), bootEpoch, sequence, blockHash: blockHash(last.payload), policy: sha256(Buffer.from('a policy')), trust: 'software',
    measurements: [['software.reference', 'unknown']], verdicts: [['chain.previous', 'pass'], ['appraise.nonce', 'pass']], ...change,
  };
}

/** Records the statement as the next entry; what a block then says of it. */
export function recordLease(chain: MemoryChain, statement: Uint8Array): { readonly lease: { readonly kind: 'value'; readonly value: Uint8Array }; readonly support: { readonly lease: number } } {
  const entry = { kind: KIND.lease, source: 'device/main//', wallMicros: 0, bootEpoch: 1, monoMicros: 0, body: new Map([[LEASE_BODY.statement, statement]]) };
  return { lease: { kind: 'value', value: sha256(statement) }, support: { lease: chain.append(encodeEntry(entry)) } };
}

export const signedLease = (chain: MemoryChain, change: Partial<Lease> = {}, signer: Signer = testVerifier): Buffer => signLease(signer, leaseFor(chain, change));
