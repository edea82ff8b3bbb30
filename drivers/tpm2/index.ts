/** The package @tenzro/tpm2: a TPM 2.0 from Node, without native code. README.md shows each capability. Not for use within this repository. */
export { TenzroError, type ErrorClass, type ErrorCode } from '#runtime/core/errors.ts';
export { makeCredential, type ProtectedCredential } from '#runtime/crypto/credential.ts';
export {
  ecdsaSignature, NV_ATTRIBUTE, NV_TYPE, OBJECT_ATTRIBUTE, parseAttest, parseNvPublic, parsePublic, publicKeyOf, TPM_ALG, verifyAttestSignature,
  type Attested, type PcrSelection, type TpmAttest, type TpmClockInfo, type TpmNvPublic, type TpmPublic,
} from '#runtime/crypto/tpmEvidence.ts';
export { TpmReader } from '#runtime/crypto/tpmReader.ts';
export type { Statement } from './attestation.ts';
export { TpmWriter } from './codec.ts';
export { permanent, withAuth, type Command, type Entity } from './command.ts';
export { CAPABILITY, COMMAND, COMPARISON, EK_CERTIFICATE_INDEX, HANDLE, HANDLE_RANGE, PROPERTY, type CommandCode, type Comparison } from './constants.ts';
export { readEkCertificate, readEndorsement, type Endorsement } from './ek.ts';
export { decodeResponseCode, RC, RC_FORMAT_1, TpmRefusal, type DecodedCode } from './errors.ts';
export type { LockoutParameters } from './hierarchy.ts';
export type { TpmProperties } from './information.ts';
export type { LoadedKey, Sensitive, TpmObject, VerifiedTicket, WrappedObject } from './keys.ts';
export { accessedBy, type NvDefinition, type NvIndex } from './nv.ts';
export type { PcrValues } from './pcr.ts';
export type { ApprovedPolicy, NvCondition } from './policy.ts';
export {
  approvalOf, NO_POLICY, pcrDigest, policyAuthorizeDigest, policyAuthValueDigest, policyCommandCodeDigest, policyNvDigest, policyOrDigest, policyPcrDigest, policySecretDigest,
} from './policyDigest.ts';
export { password, type Authorization, type PolicySession, type Session, type SessionUse, type TrialSession } from './session.ts';
export type { SessionOptions } from './sessions.ts';
export { findSwtpm, swtpmTransport } from './swtpm.ts';
export { akP256, ekEccP256, ekRsa2048, externalP256, sealedData, signingP256, srkP256, srkRsa2048, type SealedAccess } from './templates.ts';
export { Tpm } from './tpm.ts';
export { deviceTransport, socketTransport, StreamTransport, type Transport } from './transport.ts';
