/** Key derivation of the TCG TPM 2.0 Library, Part 1 §11.4.10, with SHA-256: for sessions (drivers/tpm2) and for credentials made without a TPM. */
import { createHmac } from 'node:crypto';
import { invariant } from '#runtime/core/errors.ts';
import { sha256 } from './hash.ts';

const DIGEST_BITS = 256;

export function hmacSha256(key: Uint8Array, ...parts: readonly Uint8Array[]): Buffer {
  const hmac = createHmac('sha256', key);
  for (const part of parts) hmac.update(part);
  return hmac.digest();
}

/** §11.4.10.2: counter mode of SP 800-108; the label's terminating zero is part of it. One block of output suffices here. */
export function kdfa(key: Uint8Array, label: string, contextU: Uint8Array, contextV: Uint8Array, bits: number): Buffer {
  invariant(bits <= DIGEST_BITS && bits % 8 === 0, `KDFa of ${bits} bits`);
  return hmacSha256(key, u32be(1), labelOf(label), contextU, contextV, u32be(bits)).subarray(0, bits / 8);
}

/** §11.4.10.3: from an ECDH secret `z` (x coordinate) and the x coordinates of both parties, 256 bits. */
export function kdfe(z: Uint8Array, label: string, partyU: Uint8Array, partyV: Uint8Array): Buffer {
  return sha256(u32be(1), z, labelOf(label), partyU, partyV);
}

export const labelOf = (label: string): Buffer => Buffer.from(`${label}\0`, 'utf8');

function u32be(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
