/**
 * `tpm.policy`: what a policy session must go through before it authorises (Part 3 §23); the same steps on a trial session give the policy's
 * digest, and the functions of policyDigest.ts give it without a TPM.
 */
import { nothing, one, permanent, type Entity, type Executor } from './command.ts';
import { EMPTY, pcrSelection, TpmWriter } from './codec.ts';
import { COMMAND, type CommandCode, type Comparison } from './constants.ts';
import type { VerifiedTicket } from './keys.ts';
import { readAuthority, type NvIndex } from './nv.ts';
import type { Authorization, PolicySession } from './session.ts';

/** A comparison that an NV index must satisfy. */
export interface NvCondition {
  readonly operand: Uint8Array;
  readonly offset?: number;
  /** Index first: `COMPARISON.unsignedLessOrEqual` is "contents ≤ operand". */
  readonly comparison: Comparison;
}

/** A policy that somebody signed: `signature` over SHA-256(approvedPolicy ‖ policyRef), checked by TPM2_VerifySignature, which gave the ticket. */
export interface ApprovedPolicy {
  readonly approvedPolicy: Uint8Array;
  readonly policyRef?: Uint8Array;
  /** Name of the signer's key. */
  readonly keyName: Uint8Array;
  readonly ticket: VerifiedTicket;
}

export class Policies {
  readonly #executor: Executor;

  constructor(executor: Executor) { this.#executor = executor; }

  /** TPM2_PolicyPCR: the SHA-256 PCRs hold now what `expected` digests (policyDigest.ts: pcrDigest), else `valueFail`. Without `expected`: whatever they hold. */
  pcr(session: PolicySession, pcrs: readonly number[], signal: AbortSignal, expected: Uint8Array = EMPTY): Promise<void> {
    return this.#step(COMMAND.policyPcr, session, new TpmWriter().sized(expected).bytes(pcrSelection(pcrs)).done(), signal);
  }

  /** TPM2_PolicyNV: the index satisfies the condition now. The authorisation is for reading the index. */
  nv(session: PolicySession, index: NvIndex, { operand, offset = 0, comparison }: NvCondition, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<void> {
    const parameters = new TpmWriter().sized(operand).u16(offset).u16(comparison).done();
    return this.#executor.execute({ code: COMMAND.policyNv, entities: [readAuthority(index), index, entityOf(session)], authorized: 1, authorizations, parameters }, nothing, signal);
  }

  /** TPM2_PolicySecret: the caller knows the authValue of `entity`. */
  secret(session: PolicySession, entity: Entity, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<void> {
    const parameters = new TpmWriter().sized(EMPTY).sized(EMPTY).sized(EMPTY).u32(0).done(); // no nonce, cpHash, policyRef, expiration
    return this.#executor.execute({ code: COMMAND.policySecret, entities: [entity, entityOf(session)], authorized: 1, authorizations, parameters }, (reader) => {
      reader.sized(); // timeout, and a ticket that is empty without an expiration
      reader.bytes(6);
      reader.sized();
    }, signal);
  }

  /** TPM2_PolicyAuthorize: what the session went through so far is a policy that the key's holder approved. */
  authorize(session: PolicySession, { approvedPolicy, policyRef = EMPTY, keyName, ticket }: ApprovedPolicy, signal: AbortSignal): Promise<void> {
    return this.#step(COMMAND.policyAuthorize, session, new TpmWriter().sized(approvedPolicy).sized(policyRef).sized(keyName).bytes(ticket).done(), signal);
  }

  /** TPM2_PolicyOR: what the session went through so far is one of two to eight branches. */
  or(session: PolicySession, branches: readonly Uint8Array[], signal: AbortSignal): Promise<void> {
    const parameters = new TpmWriter().u32(branches.length);
    for (const branch of branches) parameters.sized(branch);
    return this.#step(COMMAND.policyOr, session, parameters.done(), signal);
  }

  /** TPM2_PolicyCommandCode: for this command only. */
  commandCode(session: PolicySession, code: CommandCode, signal: AbortSignal): Promise<void> {
    return this.#step(COMMAND.policyCommandCode, session, new TpmWriter().u32(code).done(), signal);
  }

  /** TPM2_PolicyAuthValue: the session's HMAC proves the entity's authValue as well. */
  async authValue(session: PolicySession, signal: AbortSignal): Promise<void> {
    await this.#step(COMMAND.policyAuthValue, session, Buffer.alloc(0), signal, () => session.demand('authValue'));
  }

  /** TPM2_PolicyPassword: the entity's authValue goes with the session, in clear. Its digest is that of `authValue`. */
  async password(session: PolicySession, signal: AbortSignal): Promise<void> {
    await this.#step(COMMAND.policyPassword, session, Buffer.alloc(0), signal, () => session.demand('password'));
  }

  /** TPM2_PolicyGetDigest: 32 bytes. */
  digest(session: PolicySession, signal: AbortSignal): Promise<Buffer> {
    return this.#executor.execute({ code: COMMAND.policyGetDigest, entities: [entityOf(session)] }, one, signal);
  }

  /** TPM2_PolicyRestart: the session is as new. */
  restart(session: PolicySession, signal: AbortSignal): Promise<void> {
    return this.#step(COMMAND.policyRestart, session, Buffer.alloc(0), signal, () => session.demand('nothing'));
  }

  #step(code: CommandCode, session: PolicySession, parameters: Buffer, signal: AbortSignal, done: () => void = nothing): Promise<void> {
    return this.#executor.execute({ code, entities: [entityOf(session)], parameters }, done, signal);
  }
}

/** A session's name is its handle (Part 1 §16). */
const entityOf = ({ handle, slot }: PolicySession): Entity => ({ ...permanent(handle), slot });
