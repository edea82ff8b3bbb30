/** What the gateway makes of a lease before it uses it: the verifier's signature, and that it is about this device, chain, boot, block and challenge. Pure. */
import { equalBytes, toHex } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { parseSign1 } from '#runtime/crypto/cose.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { parseAttest } from '#runtime/crypto/tpmEvidence.ts';
import { blockHash, chainIdOf, decodeBlock } from '#runtime/ledger/block.ts';
import { decodeBundleBody, openBundle } from '#runtime/ledger/bundle.ts';
import { decodeEvidence } from '#runtime/ledger/evidence.ts';
import { identityDigest, isSignedBy, keyDigestsOf, parseLease, type Lease } from '#runtime/ledger/lease.ts';

export interface Expected {
  /** SHA-256 of the verifier's key. */
  readonly verifierKey: Uint8Array;
  readonly nonce: Uint8Array;
  /** Our own answer to the challenge. */
  readonly bundle: Uint8Array;
}

/** Throws `lease.malformed`, `lease.foreign_verifier`, `lease.foreign_chain`, `lease.stale`. */
export function acceptLease(statement: Uint8Array, { verifierKey, nonce, bundle }: Expected): Lease {
  const parsed = parseLease(statement);
  const { lease } = parsed;
  if (!isSignedBy(parsed, verifierKey)) throw new TenzroError('lease.foreign_verifier', `the lease is by key ${toHex(sha256(parsed.signingKey))}, or not signed by it`);
  const { genesis, head } = decodeBundleBody(openBundle(bundle).body);
  const genesisPayload = parseSign1(genesis.cose).payload;
  const { identity } = decodeBlock(genesisPayload);
  if (!equalBytes(lease.chainId, chainIdOf(genesisPayload))) throw new TenzroError('lease.foreign_chain', `the lease is for chain ${toHex(lease.chainId)}`);
  if (!identity || !equalBytes(lease.identity, identityDigest(keyDigestsOf(identity)))) throw new TenzroError('lease.foreign_chain', 'the lease is for another device');
  const appraised = head ?? genesis;
  const { payload } = parseSign1(appraised.cose);
  if (!equalBytes(lease.nonce, nonce)) throw stale('it answers another challenge');
  if (lease.bootEpoch !== decodeBlock(payload).bootEpoch || !equalBytes(lease.blockHash, blockHash(payload))) throw stale('it is about another block or boot');
  const evidence = decodeEvidence(appraised.evidence);
  const resetCount = evidence.kind === 'tpm2' ? parseAttest(evidence.quote.attest).clockInfo.resetCount : undefined;
  if (lease.tpm?.resetCount !== resetCount) throw stale('it is about another boot of the TPM');
  if (lease.expiresAt - lease.issuedAt > LIMITS.leaseSecondsMax) throw new TenzroError('lease.malformed', `lease: it lasts ${lease.expiresAt - lease.issuedAt} s, more than ${LIMITS.leaseSecondsMax}`);
  return lease;
}

const stale = (why: string): TenzroError => new TenzroError('lease.stale', `the lease is not the one that was asked for: ${why}`);
