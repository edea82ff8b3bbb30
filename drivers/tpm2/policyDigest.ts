/**
 * Policy digests (Part 1 §19.7, Part 3 §23) without a TPM: what an authority signs, or an object is made with. Each step takes the digest so far
 * (`NO_POLICY` at the start) and gives the next, all with SHA-256; the same steps through `tpm.policy` satisfy the policy.
 */
import { sha256 } from '#runtime/crypto/hash.ts';
import { EMPTY, pcrSelection, TpmWriter } from './codec.ts';
import { COMMAND, type CommandCode } from './constants.ts';
import type { NvCondition } from './policy.ts';

/** The digest that every session starts with. */
export const NO_POLICY: Uint8Array = new Uint8Array(32);

const code = (command: CommandCode): Buffer => new TpmWriter().u32(command).done();

/** What TPM2_PolicyPCR compares and TPM2_Quote signs: over the values in ascending order of their PCRs. */
export const pcrDigest = (values: readonly (readonly [index: number, value: Uint8Array])[]): Buffer => sha256(...values.toSorted(([a], [b]) => a - b).map(([, value]) => value));

/** TPM2_PolicyPCR, §23.7: these PCRs of the SHA-256 bank hold these values. */
export const policyPcrDigest = (before: Uint8Array, values: readonly (readonly [index: number, value: Uint8Array])[]): Buffer =>
  sha256(before, code(COMMAND.policyPcr), pcrSelection(values.map(([index]) => index)), pcrDigest(values));

/** TPM2_PolicyNV, §23.9. `indexName`: with the attribute `written`, since an index that was never written cannot be compared. */
export const policyNvDigest = (before: Uint8Array, indexName: Uint8Array, { operand, offset = 0, comparison }: NvCondition): Buffer =>
  sha256(before, code(COMMAND.policyNv), sha256(operand, new TpmWriter().u16(offset).u16(comparison).done()), indexName);

/** TPM2_PolicySecret, §23.4. `entityName`: a hierarchy's is its handle in four bytes. */
export const policySecretDigest = (before: Uint8Array, entityName: Uint8Array): Buffer => withReference(COMMAND.policySecret, before, entityName, EMPTY);

/** TPM2_PolicyAuthorize, §23.16: whatever the holder of that key approves; what came before does not count. */
export const policyAuthorizeDigest = (keyName: Uint8Array, policyRef: Uint8Array = EMPTY): Buffer => withReference(COMMAND.policyAuthorize, NO_POLICY, keyName, policyRef);

/** What the key's holder signs, SHA-256 of it being the signed digest, to approve a policy (Part 3 §23.16, aHash). */
export const approvalOf = (approvedPolicy: Uint8Array, policyRef: Uint8Array = EMPTY): Buffer => Buffer.concat([approvedPolicy, policyRef]);

/** TPM2_PolicyOR, §23.6. */
export const policyOrDigest = (branches: readonly Uint8Array[]): Buffer => sha256(NO_POLICY, code(COMMAND.policyOr), ...branches);

/** TPM2_PolicyCommandCode, §23.11. */
export const policyCommandCodeDigest = (before: Uint8Array, command: CommandCode): Buffer => sha256(before, code(COMMAND.policyCommandCode), code(command));

/** TPM2_PolicyAuthValue and TPM2_PolicyPassword, §23.17 and §23.18: one digest for both. */
export const policyAuthValueDigest = (before: Uint8Array): Buffer => sha256(before, code(COMMAND.policyAuthValue));

/** PolicyUpdate(), §23.2.3. */
function withReference(command: CommandCode, before: Uint8Array, name: Uint8Array, policyRef: Uint8Array): Buffer {
  return sha256(sha256(before, code(command), name), policyRef);
}
