/** `tpm.sessions`: TPM2_StartAuthSession (Part 3 §11). A session takes a place until it is disposed of: `await using session = …`. */
import { randomBytes } from 'node:crypto';
import { TPM_ALG } from '#runtime/crypto/tpmEvidence.ts';
import { kdfa } from '#runtime/crypto/tpmKdf.ts';
import { shareSecret } from '#runtime/crypto/tpmSecret.ts';
import { EMPTY, TpmWriter } from './codec.ts';
import { permanent, type Executor } from './command.ts';
import { COMMAND, HANDLE, SESSION_TYPE } from './constants.ts';
import type { TpmObject } from './keys.ts';
import { NONCE_BYTES, PolicySession, Session, TrialSession, type SessionStart } from './session.ts';

export interface SessionOptions {
  /**
   * A storage or endorsement key, loaded or persistent, that the caller MUST have pinned: only who holds it learns the session's key. Without
   * it a session encrypts nothing, and whoever knows the authValue can forge.
   */
  readonly salt?: TpmObject;
}

const DIGEST_BITS = 256;

export class Sessions {
  readonly #executor: Executor;

  constructor(executor: Executor) { this.#executor = executor; }

  startHmac(options: SessionOptions, signal: AbortSignal): Promise<Session> { return this.#start(SESSION_TYPE.hmac, options, (start) => new Session(start), signal); }
  startPolicy(options: SessionOptions, signal: AbortSignal): Promise<PolicySession> { return this.#start(SESSION_TYPE.policy, options, (start) => new PolicySession(start), signal); }
  startTrial(signal: AbortSignal): Promise<TrialSession> { return this.#start(SESSION_TYPE.trial, {}, (start) => new TrialSession(start), signal); }

  #start<T>(type: number, { salt: key }: SessionOptions, make: (start: SessionStart) => T, signal: AbortSignal): Promise<T> {
    const nonceCaller = randomBytes(NONCE_BYTES);
    const { secret: salt, encrypted } = key ? shareSecret(key.public, 'SECRET') : { secret: undefined, encrypted: EMPTY };
    const parameters = new TpmWriter().sized(nonceCaller).sized(encrypted).u8(type).u16(TPM_ALG.aes).u16(128).u16(TPM_ALG.cfb).u16(TPM_ALG.sha256).done();
    const entities = [key ?? permanent(HANDLE.null), permanent(HANDLE.null)];
    return this.#executor.load('session', { code: COMMAND.startAuthSession, entities, parameters }, (reader, slot) => {
      const nonceTpm = reader.sized();
      const sessionKey = salt ? kdfa(salt, 'ATH', nonceTpm, nonceCaller, DIGEST_BITS) : EMPTY; // Part 1 §19.6: the key of an unbound session
      salt?.fill(0);
      return make({ slot, key: sessionKey, nonceTpm, release: () => this.#executor.release(slot) });
    }, signal);
  }
}
