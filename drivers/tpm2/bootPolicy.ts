/**
 * The policy that the gateway's keys are sealed under, as digests: whatever an authority approves (TPM2_PolicyAuthorize), and what it approves: that
 * the revocation counter stands exactly there (TPM2_PolicyNV) and that PCRs hold certain values (TPM2_PolicyPCR). Pure: the authority needs no TPM.
 */
import { createPublicKey } from 'node:crypto';
import { TenzroError } from '#runtime/core/errors.ts';
import type { BootState, SealingPolicy } from '#runtime/core/ports.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { NV_ATTRIBUTE, TPM_ALG } from '#runtime/crypto/tpmEvidence.ts';
import { EMPTY, TpmWriter } from './codec.ts';
import { COMPARISON, COUNTER_BYTES, REVOCATION_INDEX } from './constants.ts';
import { NO_POLICY, policyAuthorizeDigest, policyNvDigest, policyPcrDigest } from './policyDigest.ts';
import type { NvCondition } from './policy.ts';
import { externalP256 } from './templates.ts';

/** Only the owner increments it: a stranger could otherwise lock the keys. Anyone may read it: that it never goes back is its worth. */
export const REVOCATION_ATTRIBUTES = NV_ATTRIBUTE.ownerWrite | NV_ATTRIBUTE.ownerRead | NV_ATTRIBUTE.authRead | NV_ATTRIBUTE.noDa;

/** Part 1 §16: a name is the hash of the public area, TPMS_NV_PUBLIC (Part 2 §13.5) here; so an index defined otherwise cannot stand in. */
export function revocationName(): Buffer {
  const area = new TpmWriter().u32(REVOCATION_INDEX).u16(TPM_ALG.sha256).u32(REVOCATION_ATTRIBUTES | NV_ATTRIBUTE.typeCounter | NV_ATTRIBUTE.written).sized(EMPTY).u16(COUNTER_BYTES).done();
  return new TpmWriter().u16(TPM_ALG.sha256).bytes(sha256(area)).done();
}

export const revocationIs = (count: bigint): NvCondition => ({ operand: new TpmWriter().u64(count).done(), comparison: COMPARISON.equal });

/** What an authority approves. */
export const bootPolicy = ({ pcrs, revocation }: BootState): Buffer => policyPcrDigest(policyNvDigest(NO_POLICY, revocationName(), revocationIs(revocation)), pcrs);

/** TPMT_PUBLIC of the authority's key. Throws `identity.authority` for a point that is not on the curve. */
export function authorityArea(point: Uint8Array): Buffer {
  const text = (from: number): string => Buffer.from(point.subarray(from, from + point.length / 2)).toString('base64url');
  try {
    return externalP256(createPublicKey({ format: 'jwk', key: { kty: 'EC', crv: 'P-256', x: text(0), y: text(point.length / 2) } }));
  } catch (cause) {
    throw new TenzroError('identity.authority', 'the authority is no key of P-256', { cause });
  }
}

/** authPolicy of what is sealed. */
export function sealingDigest({ authority, policyRef }: SealingPolicy): Buffer {
  const name = new TpmWriter().u16(TPM_ALG.sha256).bytes(sha256(authorityArea(authority))).done();
  return policyAuthorizeDigest(name, policyRef);
}
