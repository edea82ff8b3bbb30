/** Certificates of the fleet's authority for gateways that are in its register: at the claim, for who asks. */
import { toHex } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { MLDSA65 } from '#runtime/crypto/mldsa.ts';
import type { Api } from './api.ts';
import type { Register } from './register.ts';
import type { Renewals } from './renewals.ts';

export interface CertificatesApiOptions {
  readonly register: Pick<Register, 'get'>;
  readonly renewals: Pick<Renewals, 'issue'>;
}

export const certificatesApi = ({ register, renewals }: CertificatesApiOptions): Api => ({
  'certificates.issue': async ({ gateway, signingKey }) => {
    const registered = typeof gateway === 'string' ? register.get(gateway) : undefined;
    const key = typeof signingKey === 'string' ? Buffer.from(signingKey, 'base64') : Buffer.alloc(0);
    if (!registered || key.length !== MLDSA65.publicKeyBytes || toHex(sha256(key)) !== registered.identityKey) throw new TenzroError('controller.request', 'certificates are for the identity key of a gateway in the register');
    if (registered.state !== 'begun' && registered.state !== 'claimed') throw new TenzroError('controller.request', `${registered.name} is ${registered.state}`);
    return { certificates: (await renewals.issue(registered.name, key)).map((der) => Buffer.from(der).toString('base64')) };
  },
});
