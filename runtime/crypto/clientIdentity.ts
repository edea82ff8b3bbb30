/** A gateway as TLS client: a certificate around its ML-DSA-65 identity key. No authority vouches for it; the other side pins the key. */
import { invariant } from '#runtime/core/errors.ts';
import { pemOf, selfSignedCertificate } from './certificate.ts';
import type { Signer } from './mldsa.ts';

/** RFC 5280 §4.1.2.5: a certificate without an end; who pins the key reads no dates, nor does the gateway trust its own clock. */
const VALIDITY = { notBeforeMs: 0, notAfterMs: 253_402_300_799_000 } as const;
/** X.520: ub-common-name. */
const COMMON_NAME_MAX = 64;

/** PEM in a buffer that the caller zeroes; OpenSSL keeps its own for as long as the connection lasts. */
export function clientKey({ privateKey }: Signer): Buffer {
  invariant(privateKey, 'TLS with an identity key needs a Node with ML-DSA');
  const der = privateKey.export({ format: 'der', type: 'pkcs8' });
  const pem = Buffer.from(`-----BEGIN PRIVATE KEY-----\n${der.toString('base64')}\n-----END PRIVATE KEY-----\n`);
  der.fill(0);
  return pem;
}

/** PEM. */
export function clientCertificate({ privateKey }: Signer, device: string): string {
  invariant(privateKey, 'TLS with an identity key needs a Node with ML-DSA');
  return pemOf(selfSignedCertificate({ privateKey, commonName: device.slice(0, COMMON_NAME_MAX), hosts: [], ...VALIDITY }));
}
