import { hash } from 'node:crypto';

/** One-shot SHA-256: `crypto.hash` is about three times faster than `createHash` for our leaf sizes. */
export const sha256 = (...parts: readonly Uint8Array[]): Buffer =>
  hash('sha256', parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts), 'buffer');
