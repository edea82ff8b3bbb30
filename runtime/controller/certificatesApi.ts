/** Certificates of the fleet's authority for gateways that are in its register: whatever is issued is an act that is written down. */
import { createPublicKey, X509Certificate } from 'node:crypto';
import { TenzroError } from '#runtime/core/errors.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { MLDSA65, spkiOfMlDsa65 } from '#runtime/crypto/mldsa.ts';
import { parseCertificate } from '#runtime/crypto/x509.ts';
import type { Api } from './api.ts';
import type { PartContext } from './part.ts';
import type { Register } from './register.ts';

export interface CertificatesApiOptions extends Pick<PartContext, 'house' | 'clock'> {
  readonly register: Pick<Register, 'get' | 'certified'>;
}

export const certificatesApi = ({ house: { authority }, clock, register }: CertificatesApiOptions): Api => ({
  'certificates.issue': async ({ gateway, signingKey }) => {
    const registered = typeof gateway === 'string' ? register.get(gateway) : undefined;
    const key = typeof signingKey === 'string' ? Buffer.from(signingKey, 'base64') : Buffer.alloc(0);
    if (!registered || key.length !== MLDSA65.publicKeyBytes || toHex(sha256(key)) !== registered.identityKey) throw new TenzroError('controller.request', 'certificates are for the identity key of a gateway in the register');
    if (registered.state !== 'begun' && registered.state !== 'claimed') throw new TenzroError('controller.request', `${registered.name} is ${registered.state}`);
    const leaf = authority.gatewayCertificate(createPublicKey({ key: spkiOfMlDsa65(key), format: 'der', type: 'spki' }), registered.name, Math.floor(clock.wallMicros() / 1_000));
    const { notBeforeMs, notAfterMs } = parseCertificate(leaf);
    await register.certified(registered.name, { serial: new X509Certificate(leaf).serialNumber.toLowerCase(), notBeforeMs, notAfterMs });
    return { certificates: [leaf, authority.intermediate].map((der) => Buffer.from(der).toString('base64')) };
  },
});
