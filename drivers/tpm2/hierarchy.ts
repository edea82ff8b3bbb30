/** `tpm.hierarchy`: who owns the TPM (Part 3 §24 and §25). */
import { EMPTY, TpmWriter } from './codec.ts';
import { nothing, type Entity, type Executor } from './command.ts';
import { COMMAND } from './constants.ts';
import type { Authorization } from './session.ts';

/** What dictionary attacks on authValues meet. */
export interface LockoutParameters {
  /** Failures until the TPM locks. */
  readonly maxTries: number;
  /** Seconds until one failure is forgiven; 0: a TPM reset forgives. */
  readonly recoveryS: number;
  /** Seconds after a failure of lockout itself; 0: until a TPM reset. */
  readonly lockoutRecoveryS: number;
}

export class Hierarchies {
  readonly #executor: Executor;

  constructor(executor: Executor) { this.#executor = executor; }

  /** TPM2_HierarchyChangeAuth of `permanent(HANDLE.owner | endorsement | lockout | platform, oldAuth)`. Let a salted session encrypt the command. */
  changeAuth(hierarchy: Entity, authValue: Uint8Array, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<void> {
    const parameters = new TpmWriter().sized(authValue).done();
    return this.#executor.execute({ code: COMMAND.hierarchyChangeAuth, entities: [hierarchy], authorized: 1, authorizations, parameters, authValueAfter: authValue }, nothing, signal);
  }

  /** TPM2_Clear, by lockout or platform: owner and endorsement authorisations, the owner's keys and NV indices are gone; the endorsement seed and with it the EK stay. */
  clear(authority: Entity, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<void> {
    return this.#executor.execute({ code: COMMAND.clear, entities: [authority], authorized: 1, authorizations, authValueAfter: EMPTY }, nothing, signal);
  }

  /** TPM2_DictionaryAttackLockReset: forgives all failures. `lockout`: `permanent(HANDLE.lockout, authValue)`. */
  resetLockout(lockout: Entity, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<void> {
    return this.#executor.execute({ code: COMMAND.dictionaryAttackLockReset, entities: [lockout], authorized: 1, authorizations }, nothing, signal);
  }

  /** TPM2_DictionaryAttackParameters. */
  setLockout(lockout: Entity, { maxTries, recoveryS, lockoutRecoveryS }: LockoutParameters, signal: AbortSignal, ...authorizations: readonly Authorization[]): Promise<void> {
    const parameters = new TpmWriter().u32(maxTries).u32(recoveryS).u32(lockoutRecoveryS).done();
    return this.#executor.execute({ code: COMMAND.dictionaryAttackParameters, entities: [lockout], authorized: 1, authorizations, parameters }, nothing, signal);
  }
}
