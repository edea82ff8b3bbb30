/** A TPM maker in miniature: authorities and EK certificates as a test asks for them, faults included, made by openssl. */
import { execFileSync } from 'node:child_process';
import { createPrivateKey, createPublicKey } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ekEccP256, ekRsa2048 } from '#drivers/tpm2/templates.ts';
import { parsePublic, type TpmPublic } from '#runtime/crypto/tpmEvidence.ts';

const EK_PURPOSE = 'extendedKeyUsage = 2.23.133.8.1';
export const IFX = { manufacturer: 'id:49465800', model: 'SLB9670', version: 'id:0755' } as const;
/** A directory name with what the EK Credential Profile wants, as `subjectAltName`. */
const SAN = 'subjectAltName = critical, dirName:tpm';

export interface Issued {
  /** For openssl: paths. */
  readonly keyFile: string;
  readonly certificateFile: string;
  readonly der: Buffer;
  readonly pem: string;
}

export interface Wish {
  readonly key?: 'rsa' | 'rsa1024' | 'p256' | 'p384';
  /** '' for an empty subject. */
  readonly subject?: string;
  /** Absent: self-signed. */
  readonly issuer?: Issued;
  readonly extensions?: readonly string[];
  readonly days?: number;
  readonly digest?: 'sha1' | 'sha256' | 'sha384';
  readonly tpm?: { readonly manufacturer?: string; readonly model?: string; readonly version?: string };
}

const KEY_ARGS = {
  rsa: ['RSA', '-pkeyopt', 'rsa_keygen_bits:2048'], rsa1024: ['RSA', '-pkeyopt', 'rsa_keygen_bits:1024'],
  p256: ['EC', '-pkeyopt', 'ec_paramgen_curve:P-256'], p384: ['EC', '-pkeyopt', 'ec_paramgen_curve:P-384'],
} as const;

export const AUTHORITY = ['basicConstraints = critical, CA:TRUE', 'keyUsage = critical, keyCertSign, cRLSign', 'subjectKeyIdentifier = hash'] as const;
export const ENDORSEMENT = ['basicConstraints = critical, CA:FALSE', EK_PURPOSE, SAN, 'authorityKeyIdentifier = keyid'] as const;

export class TpmMaker {
  readonly #openssl: string;
  readonly #folder: string;
  #made = 0;

  constructor(openssl: string, folder: string) {
    this.#openssl = openssl;
    this.#folder = folder;
  }

  authority(wish: Wish = {}): Issued {
    return this.issue({ key: 'p256', extensions: [...AUTHORITY, ...(wish.issuer ? ['authorityKeyIdentifier = keyid'] : [])], ...wish });
  }

  /** An EK and its certificate. */
  endorsement(wish: Wish = {}): Issued & { readonly ek: TpmPublic } {
    const issued = this.issue({ key: 'p256', subject: '', extensions: ENDORSEMENT, ...wish });
    return { ...issued, ek: parsePublic(ekPublicOf(issued.keyFile)) };
  }

  issue({ key = 'p256', subject, issuer, extensions = [], days = 3650, digest = 'sha256', tpm = IFX }: Wish): Issued {
    this.#made += 1;
    const path = (name: string): string => join(this.#folder, `${this.#made}.${name}`);
    const [keyFile, config, certificateFile] = [path('key.pem'), path('conf'), path('pem')];
    const { manufacturer, model, version } = tpm;
    // openssl takes what stands before the first dot for a number that only tells lines apart
    const attributes = [['2.23.133.2.1', manufacturer], ['2.23.133.2.2', model], ['2.23.133.2.3', version]].flatMap(([type, value]) => (value === undefined ? [] : [`0.${type} = ${value}`]));
    writeFileSync(config, ['[req]', 'distinguished_name = none', 'string_mask = utf8only', '[none]', '[ext]', ...extensions, '[tpm]', ...attributes, ''].join('\n'));
    this.#run(['genpkey', '-algorithm', ...KEY_ARGS[key], '-out', keyFile]);
    const signer = issuer ? ['-CA', issuer.certificateFile, '-CAkey', issuer.keyFile] : [];
    this.#run(['req', '-x509', '-new', '-config', config, '-extensions', 'ext', '-key', keyFile, '-subj', subject === '' ? '/' : `/O=Test/CN=${subject ?? `Authority ${this.#made}`}`, `-${digest}`, '-days', String(days), ...signer, '-out', certificateFile]);
    const pem = readFileSync(certificateFile, 'utf8');
    return { keyFile, certificateFile, pem, der: Buffer.from(pem.replaceAll(/-----[^-]+-----|\s/g, ''), 'base64') };
  }

  #run(args: readonly string[]): void { execFileSync(this.#openssl, args, { stdio: ['ignore', 'ignore', 'pipe'] }); }
}

/** TPMT_PUBLIC of the EK template around that key. */
function ekPublicOf(keyFile: string): Buffer {
  const jwk = createPublicKey(createPrivateKey(readFileSync(keyFile))).export({ format: 'jwk' });
  const bytes = (text: string | undefined): Buffer => Buffer.from(text ?? '', 'base64url');
  if (jwk.kty === 'RSA') return Buffer.concat([ekRsa2048().subarray(0, -256), bytes(jwk.n)]);
  const area = ekEccP256();
  bytes(jwk.x).copy(area, area.length - 66);
  bytes(jwk.y).copy(area, area.length - 32);
  return area;
}
