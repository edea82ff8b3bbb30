/**
 * Whether a verifier trusted the gateway when the head was sealed: the statement that the head names, by a key of the policy, given to this device, chain
 * and boot, and in force at the head. Two clocks speak: the TPM's counts milliseconds that nobody sets back, so it judges where lease and head both have
 * it; the block's wall time is the gateway's word, and judges where no TPM does.
 */
import { equalBytes, toHex } from '#runtime/core/bytes.ts';
import { isoOfMicros } from '#runtime/core/clock.ts';
import { messageOf } from '#runtime/core/errors.ts';
import { printable } from '#runtime/core/printable.ts';
import { KIND, LEASE_BODY, type Cbor, type Maybe } from '#runtime/core/types.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { parseAttest } from '#runtime/crypto/tpmEvidence.ts';
import { chainIdOf } from '#runtime/ledger/block.ts';
import { decodeEntry } from '#runtime/ledger/entry.ts';
import { identityDigest, isSignedBy, keyDigestsOf, parseLease, type Lease, type LeaseStatement } from '#runtime/ledger/lease.ts';
import type { CheckBook } from './checks.ts';
import type { OpenedBundle } from './opened.ts';
import type { Policy } from './policy.ts';

/** Oscillators of TPMs are not those of clocks: an eighth of the lifetime is let pass. */
const TPM_CLOCK_TOLERANCE = 1 / 8;

type Found = Maybe<LeaseStatement> | { readonly kind: 'wrong'; readonly reason: string };

export function checkLease(book: CheckBook, opened: OpenedBundle, policy: Policy): void {
  const isRequired = policy.lease === 'required';
  const missing = (why: string, without: 'skip' | 'unknown'): void => (isRequired ? book.fail('lease', `${why}, and the policy requires a lease`) : book[without]('lease', why));
  const { lease } = opened.head.block;
  if (!lease) return missing('the head names no lease', 'skip');
  if (lease.kind === 'none') return missing(`the head says that it has no lease: ${printable(lease.reason)}`, 'skip');
  const found = findStatement(opened, lease.value);
  if (found.kind === 'none') return missing(found.reason, 'unknown');
  if (found.kind === 'wrong') return book.fail('lease', found.reason);
  const statement = found.value;
  const fault = foreignFault(statement.lease, opened) ?? bootFault(statement.lease, opened) ?? timeFault(statement.lease, opened, policy);
  if (fault !== undefined) return book.fail('lease', fault);
  const key = sha256(statement.signingKey);
  if (!isSignedBy(statement, key)) return book.fail('lease', 'the lease is not signed by the key that it names');
  if (!policy.verifiers.includes(toHex(key))) return missing(`the lease is by verifier key ${toHex(key)}, which the policy does not list`, 'unknown');
  const { issuer, trust, expiresAt, sequence } = statement.lease;
  book.pass('lease', `'${printable(issuer)}' appraised block ${sequence} as '${printable(trust)}'; in force until ${isoOfMicros(expiresAt * 1e6)}`);
}

/** The entry whose place the head names; its inclusion was checked before. */
function findStatement({ bundle, head }: OpenedBundle, digest: Uint8Array): Found {
  const index = head.block.support?.lease;
  const entry = bundle.entries.find((candidate) => candidate.index === index);
  if (!entry) return { kind: 'none', reason: 'the lease that the head names is not in the bundle' };
  try {
    const { kind, body } = decodeEntry(entry.bytes);
    const statement = kind === KIND.lease && body instanceof Map ? (body as ReadonlyMap<number, Cbor>).get(LEASE_BODY.statement) : undefined;
    if (!(statement instanceof Uint8Array)) return { kind: 'wrong', reason: `entry ${index}, which the head names as its lease, is none` };
    if (!equalBytes(sha256(statement), digest)) return { kind: 'wrong', reason: `entry ${index} is another lease than the one that the head names` };
    return { kind: 'value', value: parseLease(statement) };
  } catch (error) {
    return { kind: 'wrong', reason: messageOf(error) };
  }
}

function foreignFault({ chainId, identity }: Lease, { genesis }: OpenedBundle): string | undefined {
  if (!equalBytes(chainId, chainIdOf(genesis.message.payload))) return 'the lease was given to another chain';
  if (!genesis.block.identity || !equalBytes(identity, identityDigest(keyDigestsOf(genesis.block.identity)))) return 'the lease was given to another device';
  return undefined;
}

/** A lease ends with the boot that it was given in. */
function bootFault({ bootEpoch, sequence, blockHash, tpm }: Lease, { head, segment }: OpenedBundle): string | undefined {
  if (bootEpoch !== head.block.bootEpoch) return `the lease was given in boot epoch ${bootEpoch}, the head is of ${head.block.bootEpoch}`;
  if (sequence >= head.block.sequence) return `the lease is about block ${sequence}, which is not before the head`;
  const appraised = segment.find(({ block }) => block.sequence === sequence);
  if (appraised && !equalBytes(appraised.hash, blockHash)) return `the verifier appraised another block ${sequence} than this chain has`;
  if (tpm && head.evidence.kind === 'tpm2') {
    const { resetCount } = parseAttest(head.evidence.quote.attest).clockInfo;
    if (resetCount !== tpm.resetCount) return `the TPM was reset since the lease was given (${tpm.resetCount}, now ${resetCount})`;
  }
  return undefined;
}

function timeFault({ issuedAt, expiresAt, tpm }: Lease, { head }: OpenedBundle, { clockSkewSeconds }: Policy): string | undefined {
  if (tpm && head.evidence.kind === 'tpm2') {
    const elapsedMs = Number(parseAttest(head.evidence.quote.attest).clockInfo.clock) - tpm.clock;
    if (elapsedMs < 0) return 'the TPM\'s clock at the head is before that of the lease';
    const lifetimeMs = (expiresAt - issuedAt) * 1_000;
    return elapsedMs <= lifetimeMs * (1 + TPM_CLOCK_TOLERANCE) ? undefined : `the lease had run out: by the TPM's clock ${Math.round(elapsedMs / 1_000)} s after it was given for ${lifetimeMs / 1_000} s`;
  }
  const wallSeconds = head.block.wallMicros / 1e6;
  if (wallSeconds < issuedAt - clockSkewSeconds) return `the head's wall time is before the lease was given (${isoOfMicros(issuedAt * 1e6)})`;
  if (wallSeconds > expiresAt + clockSkewSeconds) return `the head's wall time is after the lease ran out (${isoOfMicros(expiresAt * 1e6)})`;
  return undefined;
}
