/**
 * HMAC session salted to a given key (Part 1 §19.6): whoever listens on the bus learns neither the session key nor an encrypted parameter, and
 * whoever alters a response is found out. The salt is only as good as the key: pin it (an EK whose certificate was checked, or the one of the
 * genesis), never one that the bus just told.
 */
import { constants, createCipheriv, createDecipheriv, createECDH, publicEncrypt, randomBytes, timingSafeEqual } from 'node:crypto';
import { TenzroError } from '#runtime/core/errors.ts';
import { publicKeyOf, type TpmPublic } from '#runtime/crypto/tpmEvidence.ts';
import { hmacSha256, kdfa, kdfe, labelOf } from '#runtime/crypto/tpmKdf.ts';
import type { TpmReader } from '#runtime/crypto/tpmReader.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { TpmWriter, EMPTY } from './codec.ts';
import { HANDLE, SESSION_ATTRIBUTE, type CommandCode } from './constants.ts';

const NONCE_BYTES = 32;
const AES_128_BITS = 128;

/** What a session encrypts, beside authenticating everything. */
export interface SessionUse {
  readonly encryptCommand?: boolean;
  readonly encryptResponse?: boolean;
}

/** How one command is authorised and its response checked; made for one exchange. */
export interface Authorization {
  /** May encrypt the first parameter. */
  protect(parameters: Buffer): Buffer;
  /** TPMS_AUTH_COMMAND (Part 2 §10.13.2) over the protected parameters. */
  authorize(code: CommandCode, names: readonly Uint8Array[], parameters: Buffer): Buffer;
  /** Takes one TPMS_AUTH_RESPONSE (§10.13.3), checks it, and gives the parameters in clear. Throws `tpm.hmac`. */
  accept(code: CommandCode, parameters: Buffer, reader: TpmReader): Buffer;
}

/** The empty password: what entities without an authValue take. */
export const emptyPassword: Authorization = {
  protect: (parameters) => parameters,
  authorize: () => new TpmWriter().u32(HANDLE.password).sized(EMPTY).u8(SESSION_ATTRIBUTE.continueSession).sized(EMPTY).done(),
  accept: (_code, parameters, reader) => {
    reader.sized();
    reader.u8();
    if (reader.sized().length > 0) throw new TenzroError('tpm.response', 'a password authorisation was answered with an HMAC');
    return parameters;
  },
};

export class Session {
  readonly handle: number;
  readonly #key: Uint8Array;
  #nonceTpm: Uint8Array;

  constructor(handle: number, key: Uint8Array, nonceTpm: Uint8Array) {
    this.handle = handle;
    this.#key = key;
    this.#nonceTpm = nonceTpm;
  }

  /** For one command, on entities without an authValue. The session stays open. */
  use({ encryptCommand = false, encryptResponse = false }: SessionUse = {}): Authorization {
    const nonceCaller = randomBytes(NONCE_BYTES);
    const attributes = SESSION_ATTRIBUTE.continueSession | (encryptCommand ? SESSION_ATTRIBUTE.decrypt : 0) | (encryptResponse ? SESSION_ATTRIBUTE.encrypt : 0);
    return {
      protect: (parameters) => (encryptCommand ? this.#cipherFirst(parameters, nonceCaller, this.#nonceTpm, createCipheriv) : parameters),
      authorize: (code, names, parameters) => {
        const cpHash = sha256(u32(code), ...names, parameters); // cpHash, Part 1 §18
        const hmac = hmacSha256(this.#key, cpHash, nonceCaller, this.#nonceTpm, Uint8Array.of(attributes));
        return new TpmWriter().u32(this.handle).sized(nonceCaller).u8(attributes).sized(hmac).done();
      },
      accept: (code, parameters, reader) => {
        const nonceTpm = reader.sized();
        const answered = reader.u8();
        const hmac = reader.sized();
        const rpHash = sha256(u32(0), u32(code), parameters); // rpHash, Part 1 §18
        const expected = hmacSha256(this.#key, rpHash, nonceTpm, nonceCaller, Uint8Array.of(answered));
        if (hmac.length !== expected.length || !timingSafeEqual(hmac, expected)) throw new TenzroError('tpm.hmac', 'the HMAC of a TPM response is wrong: it was altered on its way');
        this.#nonceTpm = nonceTpm;
        return encryptResponse ? this.#cipherFirst(parameters, nonceTpm, nonceCaller, createDecipheriv) : parameters;
      },
    };
  }

  /** Part 1 §21: CFB over the bytes of the first parameter, a TPM2B, whose size stays in clear. */
  #cipherFirst(parameters: Buffer, nonceNewer: Uint8Array, nonceOlder: Uint8Array, cipher: typeof createCipheriv | typeof createDecipheriv): Buffer {
    const size = parameters.length < 2 ? 0 : parameters.readUInt16BE(0);
    const secret = kdfa(this.#key, 'CFB', nonceNewer, nonceOlder, 2 * AES_128_BITS);
    const stream = cipher('aes-128-cfb', secret.subarray(0, AES_128_BITS / 8), secret.subarray(AES_128_BITS / 8));
    return Buffer.concat([parameters.subarray(0, 2), stream.update(parameters.subarray(2, 2 + size)), parameters.subarray(2 + size)]);
  }
}

export const newNonce = (): Buffer => randomBytes(NONCE_BYTES);

/** Part 1 §19.6: the key of an unbound session. */
export const sessionKeyOf = (salt: Uint8Array, nonceTpm: Uint8Array, nonceCaller: Uint8Array): Buffer => kdfa(salt, 'ATH', nonceTpm, nonceCaller, 256);

/** A fresh salt, and its form that only the holder of `key` can read (TPM2B_ENCRYPTED_SECRET contents): Part 1 annexes B (RSA) and C (ECC). */
export function saltFor({ key, area }: TpmPublic): { readonly salt: Buffer; readonly encrypted: Buffer } {
  if (key.kind === 'rsa') {
    const salt = randomBytes(32);
    const encrypted = publicEncrypt({ key: publicKeyOf(area), padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256', oaepLabel: labelOf('SECRET') }, salt);
    return { salt, encrypted };
  }
  const ephemeral = createECDH('prime256v1');
  const point = ephemeral.generateKeys(); // 0x04 ‖ x ‖ y
  const [x, y] = [point.subarray(1, 33), point.subarray(33)];
  const z = ephemeral.computeSecret(Buffer.concat([Uint8Array.of(4), key.x, key.y]));
  return { salt: kdfe(z, 'SECRET', x, key.x), encrypted: new TpmWriter().sized(x).sized(y).done() };
}

const u32 = (value: number): Buffer => new TpmWriter().u32(value).done();
