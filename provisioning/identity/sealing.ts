/** Makes and opens identity files: the secrets, their box, and the wrapping key that a TPM seals or the file itself holds. Every buffer of a secret is zeroed here or by the caller who got it. */
import { randomBytes } from 'node:crypto';
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { Approved, BootState, KeyVault, VaultNames } from '#runtime/core/ports.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { signerOfSeed, type Signer } from '#runtime/crypto/mldsa.ts';
import { exchangeKeyOfSeed, type ExchangeKey } from '#runtime/crypto/xwing.ts';
import { approve, type Approval, type PolicyOf } from './approval.ts';
import { authorityOfScalar, authorityPoint } from './authority.ts';
import { decodeSecrets, encodeSecrets, eraseSecrets, type Secrets } from './secrets.ts';
import { decryptSecrets, encodeHeader, encodeIdentityFile, encryptSecrets, newReference, sealingPolicyOf, WRAPPING_KEY_BYTES, type IdentityFile, type IdentityHeader } from './sealedFile.ts';

/** The keys in use: OpenSSL holds them, no buffer of ours does. */
export interface IdentityPair {
  readonly signer: Signer;
  readonly exchange: ExchangeKey;
}

export const pairOf = ({ signingSeed, exchangeSeed }: Secrets): IdentityPair => ({ signer: signerOfSeed(signingSeed), exchange: exchangeKeyOfSeed(exchangeSeed) });

/** Where a new file's secrets shall lie. */
export type Place =
  | { readonly kind: 'file'; readonly reason: string }
  /** `authority`: the external one; without it the secrets hold their own. `state`: what is approved where the authority is their own. */
  | { readonly kind: 'tpm'; readonly vault: KeyVault; readonly names: VaultNames; readonly authority?: Uint8Array; readonly state: BootState; readonly policyOf: PolicyOf; readonly node: string };

export interface Sealed {
  readonly header: IdentityHeader;
  /** For files.write. */
  readonly bytes: Buffer;
  /** Of its own authority; absent where an external one has to approve. */
  readonly approval?: Approval;
}

/** `secrets` stay with the caller. */
export async function sealSecrets(secrets: Secrets, place: Place, createdMicros: number, signal: AbortSignal): Promise<Sealed> {
  const { signer, exchange } = pairOf(secrets);
  const known = { signingKeyDigest: sha256(signer.publicKey), exchangeKeyDigest: sha256(exchange.publicKey), createdMicros, reference: newReference() };
  const wrappingKey = randomBytes(WRAPPING_KEY_BYTES);
  const plaintext = encodeSecrets(secrets);
  try {
    const header: IdentityHeader = { ...known, protection: place.kind === 'file' ? place : protectionBy(place, secrets) };
    const headerBytes = encodeHeader(header);
    const box = encryptSecrets(plaintext, wrappingKey, headerBytes);
    if (place.kind === 'file') return { header, bytes: encodeIdentityFile({ headerBytes, box, key: { kind: 'file', wrappingKey } }) };
    const policy = sealingPolicyOf(header);
    const sealed = await place.vault.seal(wrappingKey, policy, place.names.parent, signal);
    const bytes = encodeIdentityFile({ headerBytes, box, key: { kind: 'tpm', sealed } });
    if (!secrets.authority) return { header, bytes };
    return { header, bytes, approval: approve({ node: place.node, policy, state: place.state }, 'as it was when the keys were sealed', authorityOfScalar(secrets.authority), place.policyOf) };
  } finally {
    wrappingKey.fill(0);
    plaintext.fill(0);
  }
}

function protectionBy({ authority, names, state }: Extract<Place, { kind: 'tpm' }>, secrets: Secrets): IdentityHeader['protection'] {
  const point = secrets.authority ? authorityPoint(authorityOfScalar(secrets.authority)) : authority;
  if (!point) throw new TenzroError('core.invariant', 'keys are sealed under an authority of their own or an external one');
  return { kind: 'tpm', authority: point, names, revocation: state.revocation };
}

/** Keys whose file alone opens them. The caller erases what it gets. Throws `identity.damaged`. */
export function openFile(file: IdentityFile): Secrets {
  if (file.key.kind !== 'file') throw new TenzroError('core.invariant', 'the keys are sealed by a TPM');
  return opened(file, file.key.wrappingKey);
}

/** The caller erases what it gets. Rejects as `KeyVault.unseal`, and with `identity.damaged`. */
export async function openSealed(file: IdentityFile, vault: KeyVault, approved: Approved, signal: AbortSignal): Promise<Secrets> {
  const { header: { protection }, key } = file;
  if (key.kind !== 'tpm' || protection.kind !== 'tpm') throw new TenzroError('core.invariant', 'the keys are not sealed by a TPM');
  return opened(file, await vault.unseal(key.sealed, sealingPolicyOf(file.header), approved, protection.names.parent, signal));
}

/**
 * PCR values come over the bus unsigned, and an authority of our own signs what it is shown: the TPM, which compares them with its own, has the last word
 * before such an approval is kept. Rejects with `tpm.busy` where it does not open; else as `openSealed`.
 */
export async function tryOpen(file: IdentityFile, vault: KeyVault, approved: Approved, signal: AbortSignal): Promise<void> {
  try {
    eraseSecrets(await openSealed(file, vault, approved, signal));
  } catch (cause) {
    if (!(cause instanceof TenzroError) || cause.code !== 'tpm.refused') throw cause;
    throw new TenzroError('tpm.busy', 'the TPM opens nothing in the boot state that it was read to be in: PCRs were just extended, or its answers are altered on their way', { cause });
  }
}

/** Zeroes `wrappingKey`. */
function opened(file: IdentityFile, wrappingKey: Buffer): Secrets {
  try {
    const plaintext = decryptSecrets(file, wrappingKey);
    try {
      const secrets = decodeSecrets(plaintext);
      const { signer, exchange } = pairOf(secrets);
      if (equalBytes(sha256(signer.publicKey), file.header.signingKeyDigest) && equalBytes(sha256(exchange.publicKey), file.header.exchangeKeyDigest)) return secrets;
      eraseSecrets(secrets);
      throw new TenzroError('identity.damaged', 'the header of sealed.cbor names other keys than it holds');
    } finally {
      plaintext.fill(0);
    }
  } finally {
    wrappingKey.fill(0);
  }
}
