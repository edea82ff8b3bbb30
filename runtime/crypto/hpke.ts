/**
 * Hybrid public key encryption (RFC 9180), base mode, with X-Wing as its KEM (draft-connolly-cfrg-xwing-kem §6.2), HKDF-SHA256 and AES-256-GCM: whoever has
 * the recipient's public key can seal, only the recipient can open. Sections are those of RFC 9180.
 */
import { createHmac } from 'node:crypto';
import { TenzroError, invariant } from '#runtime/core/errors.ts';
import { AES_256_GCM, openAead, sealAead, type Aead } from './aead.ts';
import { encapsulateXWing, type ExchangeKey } from './xwing.ts';

/** §7.1 with the KEM that the draft registers, and §7.2. */
const KEM_X_WING = 0x647a;
const KDF_HKDF_SHA256 = 0x0001;
export const HPKE_SUITE = [KEM_X_WING, KDF_HKDF_SHA256, AES_256_GCM.id] as const;
const HASH_BYTES = 32;
const MODE_BASE = 0x00; // table 1
const EMPTY = new Uint8Array(0);

export interface SealContext {
  /** Encapsulated key, 1120 bytes: the recipient opens the same context with it. */
  readonly enc: Uint8Array;
  /** Ciphertext and tag. Messages are numbered by their order. Throws `hpke.exhausted`. */
  seal(plaintext: Uint8Array, aad?: Uint8Array): Buffer;
}

export interface OpenContext {
  /** In the order in which they were sealed; one that fails does not count. Throws `hpke.open`. */
  open(ciphertext: Uint8Array, aad?: Uint8Array): Buffer;
}

/** `info` binds the context to its purpose; both sides state the same. Throws `hpke.malformed` for a key that is none. */
export function sealContext(recipientPublicKey: Uint8Array, info: Uint8Array): SealContext {
  const { sharedSecret, ciphertext: enc } = encapsulateXWing(recipientPublicKey);
  const sequence = new Sequence(keySchedule(sharedSecret, info));
  return { enc, seal: (plaintext, aad = EMPTY) => sequence.next((schedule, nonce) => sealAead(schedule.aead, schedule.key, nonce, plaintext, aad)) };
}

/** Throws `hpke.malformed` for an `enc` that is none. One for another key gives a context in which nothing opens. */
export function openContext(enc: Uint8Array, key: ExchangeKey, info: Uint8Array, aead: Aead = AES_256_GCM): OpenContext {
  const sequence = new Sequence(keySchedule(key.decapsulate(enc), info, { aead }));
  return { open: (ciphertext, aad = EMPTY) => sequence.next((schedule, nonce) => openAead(schedule.aead, schedule.key, nonce, ciphertext, aad)) };
}

/** One message to one recipient (§6.1). */
export function sealOnce(recipientPublicKey: Uint8Array, info: Uint8Array, plaintext: Uint8Array, aad?: Uint8Array): { readonly enc: Uint8Array; readonly ciphertext: Buffer } {
  const context = sealContext(recipientPublicKey, info);
  return { enc: context.enc, ciphertext: context.seal(plaintext, aad) };
}

export const openOnce = (enc: Uint8Array, key: ExchangeKey, info: Uint8Array, ciphertext: Uint8Array, aad?: Uint8Array): Buffer =>
  openContext(enc, key, info).open(ciphertext, aad);

export interface KeySchedule {
  readonly aead: Aead;
  readonly key: Uint8Array;
  readonly baseNonce: Uint8Array;
  readonly exporterSecret: Uint8Array;
}

/** §5.1 without a pre-shared key. Zeroes `sharedSecret`. Another KEM or AEAD than ours is for the published vectors. */
export function keySchedule(sharedSecret: Uint8Array, info: Uint8Array, { aead = AES_256_GCM, kem = KEM_X_WING }: { readonly aead?: Aead; readonly kem?: number } = {}): KeySchedule {
  const suite = Buffer.concat([Buffer.from('HPKE'), u16(kem), u16(KDF_HKDF_SHA256), u16(aead.id)]);
  const extract = (salt: Uint8Array, label: string, input: Uint8Array): Buffer => hmac(salt, Buffer.from('HPKE-v1'), suite, Buffer.from(label), input); // §4, LabeledExtract
  const context = Buffer.concat([Buffer.of(MODE_BASE), extract(EMPTY, 'psk_id_hash', EMPTY), extract(EMPTY, 'info_hash', info)]);
  const secret = extract(sharedSecret, 'secret', EMPTY);
  sharedSecret.fill(0);
  /** §4, LabeledExpand; as no output is longer than the hash, HKDF-Expand is its first block (RFC 5869 §2.3). */
  const expand = (label: string, sizeBytes: number): Buffer =>
    hmac(secret, u16(sizeBytes), Buffer.from('HPKE-v1'), suite, Buffer.from(label), context, Buffer.of(1)).subarray(0, sizeBytes);
  const schedule = { aead, key: expand('key', aead.keyBytes), baseNonce: expand('base_nonce', aead.nonceBytes), exporterSecret: expand('exp', HASH_BYTES) };
  secret.fill(0);
  return schedule;
}

/** §5.2: the nonce of a message is the base nonce XOR its number. */
export class Sequence {
  readonly #schedule: KeySchedule;
  #next: number;

  /** `first`: number of the next message. */
  constructor(schedule: KeySchedule, first = 0) {
    invariant(schedule.baseNonce.length > 8, 'a nonce holds a 64-bit number');
    this.#schedule = schedule;
    this.#next = first;
  }

  /** Counts on when `work` succeeds. Throws `hpke.exhausted` before a number could come twice. */
  next<T>(work: (schedule: KeySchedule, nonce: Uint8Array) => T): T {
    if (this.#next >= Number.MAX_SAFE_INTEGER) throw new TenzroError('hpke.exhausted', `the context has sealed ${this.#next} messages`);
    const nonce = Buffer.from(this.#schedule.baseNonce);
    const at = nonce.length - 8;
    nonce.writeBigUInt64BE(nonce.readBigUInt64BE(at) ^ BigInt(this.#next), at);
    const result = work(this.#schedule, nonce);
    this.#next++;
    return result;
  }
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function hmac(key: Uint8Array, ...parts: readonly Uint8Array[]): Buffer {
  const mac = createHmac('sha256', key);
  for (const part of parts) mac.update(part);
  return mac.digest();
}
