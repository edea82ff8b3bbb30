/** The authorisation area of one command and of its response: Part 1 §18 and §19.6, Part 2 §10.13. */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { TenzroError } from '#runtime/core/errors.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import type { TpmReader } from '#runtime/crypto/tpmReader.ts';
import { EMPTY, garbled, guard, TpmWriter } from './codec.ts';
import type { Command } from './command.ts';
import { HANDLE, SESSION_ATTRIBUTE } from './constants.ts';
import { NONCE_BYTES, password, type Session, type SessionUse } from './session.ts';
import type { Slot } from './slots.ts';

const SESSIONS_MAX = 3;

interface PasswordPart {
  readonly kind: 'password';
  readonly authValue: Uint8Array;
}

interface SessionPart {
  readonly kind: 'session';
  readonly session: Session;
  readonly use: SessionUse;
  readonly attributes: number;
  readonly nonceCaller: Buffer;
  /** Of the entity that it authorises; empty where it only encrypts. */
  readonly authValue: Uint8Array;
}

export class AuthorizationArea {
  readonly #code: Buffer;
  readonly #names: readonly Uint8Array[];
  readonly #parts: readonly (PasswordPart | SessionPart)[];
  readonly #authValueAfter: Uint8Array | undefined;
  readonly #authorized: number;

  /** Throws `tpm.usage` for more sessions than a command can have, the same one twice, two that encrypt the same way, or a lost one. */
  constructor({ code, entities = [], authorized = 0, authorizations = [], authValueAfter }: Command) {
    this.#code = new TpmWriter().u32(code).done();
    this.#names = entities.map(({ name }) => name);
    this.#authValueAfter = authValueAfter && trimmed(authValueAfter);
    this.#authorized = authorized;
    const count = Math.max(authorized, authorizations.length);
    this.#parts = Array.from({ length: count }, (_, at) => {
      const authorization = authorizations[at] ?? password;
      const authValue = at < authorized ? trimmed(entities[at]?.authValue ?? EMPTY) : EMPTY;
      if (authorization.kind === 'password') return { kind: 'password', authValue };
      const { session, use } = authorization;
      const attributes = SESSION_ATTRIBUTE.continueSession | (use.encryptCommand ? SESSION_ATTRIBUTE.decrypt : 0) | (use.encryptResponse ? SESSION_ATTRIBUTE.encrypt : 0);
      return { kind: 'session', session, use, attributes, nonceCaller: randomBytes(NONCE_BYTES), authValue };
    });
    this.#check();
  }

  get length(): number { return this.#parts.length; }
  get #sessions(): SessionPart[] { return this.#parts.filter((part) => part.kind === 'session'); }
  get slots(): Slot[] { return this.#sessions.map(({ session }) => session.slot); }

  /** The parameters as they are sent: with the first one encrypted where a session does that. */
  protect(parameters: Buffer): Buffer {
    const by = this.#sessions.find(({ use }) => use.encryptCommand);
    return by ? by.session.cipher('encrypt', parameters, by.authValue, by.nonceCaller, by.session.nonceTpm) : parameters;
  }

  /** TPMS_AUTH_COMMANDs (Part 2 §10.13.2) over the protected parameters. */
  encode(parameters: Buffer): Buffer {
    const cpHash = sha256(this.#code, ...this.#names, parameters); // cpHash, Part 1 §18
    const area = new TpmWriter();
    for (const [at, part] of this.#parts.entries()) {
      if (part.kind === 'password') area.u32(HANDLE.password).sized(EMPTY).u8(SESSION_ATTRIBUTE.continueSession).sized(part.authValue);
      else area.u32(part.session.handle).sized(part.nonceCaller).u8(part.attributes).sized(this.#proof(part, at, cpHash));
    }
    return area.done();
  }

  /** Checks all of the TPMS_AUTH_RESPONSEs (§10.13.3), and gives the response's parameters in clear. Throws `tpm.hmac` or `tpm.response`. */
  accept(parameters: Buffer, responses: TpmReader): Buffer {
    const rpHash = sha256(new TpmWriter().u32(0).done(), this.#code, parameters); // rpHash, Part 1 §18
    let clear = parameters;
    for (const [at, part] of this.#parts.entries()) {
      const { nonceTpm, attributes, hmac } = guard(() => ({ nonceTpm: responses.sized(), attributes: responses.u8(), hmac: responses.sized() }));
      if (part.kind === 'password') {
        if (hmac.length > 0) throw garbled('a password was answered with an HMAC');
        continue;
      }
      const authValue = at === 0 ? this.#authValueAfter ?? part.authValue : part.authValue;
      const expected = part.session.proves === 'password' ? EMPTY : part.session.hmac(authValue, rpHash, nonceTpm, part.nonceCaller, Uint8Array.of(attributes));
      if (hmac.length !== expected.length || !timingSafeEqual(hmac, expected)) throw new TenzroError('tpm.hmac', 'the HMAC of a TPM response is wrong: it was altered on its way');
      part.session.roll(nonceTpm);
      if (part.use.encryptResponse) clear = part.session.cipher('decrypt', clear, authValue, nonceTpm, part.nonceCaller);
    }
    guard(() => responses.end());
    return clear;
  }

  /** No right answer came, so it is unknown which nonces the TPM holds. */
  lose(): void { for (const { session } of this.#sessions) session.lose(); }

  #proof(part: SessionPart, at: number, cpHash: Buffer): Uint8Array {
    const { session, authValue, nonceCaller, attributes } = part;
    if (session.proves === 'password') return authValue;
    return session.hmac(authValue, cpHash, nonceCaller, session.nonceTpm, ...(at === 0 && this.#authorized > 0 ? this.#othersNonces(part) : []), Uint8Array.of(attributes));
  }

  /** The first session vouches for those that only encrypt: Part 1 §19.6, nonceTPM_decrypt and nonceTPM_encrypt. */
  #othersNonces(first: SessionPart): Uint8Array[] {
    const decrypting = this.#sessions.find(({ use }) => use.encryptCommand);
    const encrypting = this.#sessions.find(({ use }) => use.encryptResponse);
    return [...new Set([decrypting, encrypting])].flatMap((part) => (part === undefined || part === first ? [] : [part.session.nonceTpm]));
  }

  #check(): void {
    const sessions = this.#sessions;
    const usage = (why: string): TenzroError => new TenzroError('tpm.usage', why);
    if (this.#parts.length > SESSIONS_MAX) throw usage(`a command takes at most ${SESSIONS_MAX} authorisations`);
    if (new Set(sessions.map(({ session }) => session)).size < sessions.length) throw usage('a session can serve a command only once');
    if (sessions.filter(({ use }) => use.encryptCommand).length > 1 || sessions.filter(({ use }) => use.encryptResponse).length > 1) throw usage('only one session can encrypt in each direction');
    if (this.#parts.some(({ kind }, at) => kind === 'password' && at >= this.#authorized)) throw usage('more passwords than entities to authorise');
    if (this.#parts.slice(this.#authorized).some((part) => part.kind === 'session' && !part.use.encryptCommand && !part.use.encryptResponse)) throw usage('a session that authorises nothing must encrypt');
    if (sessions.some(({ session }) => session.isLost)) throw new TenzroError('tpm.session_lost', 'the session was closed, or an answer to it did not come or was wrong');
  }
}

/** Part 1 §19: trailing zeros of an authValue do not count. */
function trimmed(authValue: Uint8Array): Uint8Array {
  let length = authValue.length;
  while (length > 0 && authValue[length - 1] === 0) length -= 1;
  return authValue.subarray(0, length);
}
