/**
 * The only file that imports @noble/post-quantum: it stands in where Node was built without ML-DSA or ML-KEM, and cross-checks OpenSSL in the tests.
 * Loaded when first needed.
 */
import { createRequire } from 'node:module';

const lazyRequire = createRequire(import.meta.url);

export const nobleMlDsa65 = (): typeof import('@noble/post-quantum/ml-dsa.js').ml_dsa65 =>
  (lazyRequire('@noble/post-quantum/ml-dsa.js') as typeof import('@noble/post-quantum/ml-dsa.js')).ml_dsa65;

export const nobleMlKem768 = (): typeof import('@noble/post-quantum/ml-kem.js').ml_kem768 =>
  (lazyRequire('@noble/post-quantum/ml-kem.js') as typeof import('@noble/post-quantum/ml-kem.js')).ml_kem768;
