/**
 * Sessions (Part 1 §19.6): whoever listens on the bus learns neither the key of a salted session nor an encrypted parameter, and whoever alters a
 * response is found out. The salt is only as good as its key: pin it (an EK whose certificate was checked, or the one of the genesis), never one
 * that the bus just told.
 *
 * Nonces roll from response to response, so a session serves one command at a time: the driver's queue sees to that. A session whose answer did
 * not come, or was wrong, is lost, because its nonce is unknown from then on: close it and start another.
 */
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { TenzroError } from '#runtime/core/errors.ts';
import { hmacSha256, kdfa } from '#runtime/crypto/tpmKdf.ts';
import { EMPTY } from './codec.ts';
import type { Slot } from './slots.ts';

const AES_128_BITS = 128;
export const NONCE_BYTES = 32;

/** What a session encrypts, beside authenticating everything. */
export interface SessionUse {
  readonly encryptCommand?: boolean;
  readonly encryptResponse?: boolean;
}

/** How one entity's use is authorised, or by what a parameter is encrypted. */
export type Authorization =
  /** The entity's authValue in clear. */
  | { readonly kind: 'password' }
  | { readonly kind: 'session'; readonly session: Session; readonly use: SessionUse };

export const password: Authorization = { kind: 'password' };

/** What starting a session gives; both secrets are the session's own from then on. */
export interface SessionStart {
  readonly slot: Slot;
  /** Empty for an unsalted session. */
  readonly key: Uint8Array;
  readonly nonceTpm: Uint8Array;
  readonly release: () => Promise<void>;
}

/** An HMAC session, on its own: it proves knowledge of the entity's authValue and of the salt. `await using` closes it. */
export class Session implements AsyncDisposable {
  readonly slot: Slot;
  readonly #key: Uint8Array;
  readonly #release: () => Promise<void>;
  #nonceTpm: Uint8Array;
  #isLost = false;

  constructor({ slot, key, nonceTpm, release }: SessionStart) {
    this.slot = slot;
    this.#key = key;
    this.#nonceTpm = nonceTpm;
    this.#release = release;
  }

  get handle(): number { return this.slot.handle; }
  /** As rolled by the last response; only within a command. */
  get nonceTpm(): Uint8Array { return this.#nonceTpm; }
  get isLost(): boolean { return this.#isLost; }

  /** For one command. Encryption needs a salted session. */
  use(use: SessionUse = {}): Authorization {
    if ((use.encryptCommand || use.encryptResponse) && this.#key.length === 0) throw new TenzroError('tpm.usage', 'a session without a salt has no secret to encrypt with: start it with one');
    return { kind: 'session', session: this, use };
  }

  /** Which form the authValue takes in the authorisation of an entity. */
  get proves(): 'authValue' | 'password' | 'nothing' { return 'authValue'; }

  /** Of a command or response, keyed as Part 1 §19.6 says. */
  hmac(authValue: Uint8Array, ...parts: readonly Uint8Array[]): Buffer {
    const key = Buffer.concat([this.#key, this.proves === 'authValue' ? authValue : EMPTY]);
    const digest = hmacSha256(key, ...parts);
    key.fill(0);
    return digest;
  }

  /** Part 1 §21: CFB over the bytes of the first parameter, a TPM2B, whose size stays in clear. `authValue`: of the entity that the session authorises. */
  cipher(direction: 'encrypt' | 'decrypt', parameters: Buffer, authValue: Uint8Array, nonceNewer: Uint8Array, nonceOlder: Uint8Array): Buffer {
    const size = parameters.length < 2 ? 0 : parameters.readUInt16BE(0);
    const key = Buffer.concat([this.#key, authValue]);
    const secret = kdfa(key, 'CFB', nonceNewer, nonceOlder, 2 * AES_128_BITS);
    const stream = (direction === 'encrypt' ? createCipheriv : createDecipheriv)('aes-128-cfb', secret.subarray(0, AES_128_BITS / 8), secret.subarray(AES_128_BITS / 8));
    const first = stream.update(parameters.subarray(2, 2 + size));
    const result = Buffer.concat([parameters.subarray(0, 2), first, parameters.subarray(2 + size)]);
    for (const used of [key, secret, first]) used.fill(0);
    return result;
  }

  /** The TPM answered and the answer is right. */
  roll(nonceTpm: Uint8Array): void { this.#nonceTpm = nonceTpm; }

  /** Nobody knows which nonce the TPM holds. */
  lose(): void { this.#isLost = true; }

  /** After the commands that were called before. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#release();
    this.#isLost = true;
    this.#key.fill(0);
  }
}

/** A session that authorises once its policy is satisfied (Part 1 §19.7): the commands of `tpm.policy` fill it, each use empties it again. */
export class PolicySession extends Session {
  #proves: 'authValue' | 'password' | 'nothing' = 'nothing';

  override get proves(): 'authValue' | 'password' | 'nothing' { return this.#proves; }

  /** After TPM2_PolicyAuthValue or TPM2_PolicyPassword; `nothing` after a restart. */
  demand(proof: 'authValue' | 'password' | 'nothing'): void { this.#proves = proof; }

  override roll(nonceTpm: Uint8Array): void {
    super.roll(nonceTpm);
    this.#proves = 'nothing'; // the TPM forgets the policy when the nonce rolls
  }
}

/** Computes a policy's digest and authorises nothing. */
export class TrialSession extends PolicySession {
  override use(): never { throw new TenzroError('tpm.usage', 'a trial session computes a policy and authorises nothing'); }
}
