/** Who signs: the keys that are named, or development keys made once on this machine, which nobody else trusts. */
import { X509Certificate, createPrivateKey } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { TenzroError } from '#runtime/core/errors.ts';
import { hostWorkshop } from '../disk/workshop.ts';

export interface Signer {
  /** PEM files. The certificate's file may go on with certificates between it and the authority. */
  readonly keyFile: string;
  readonly certificateFile: string;
  /** What cards trust: the certificate of the authority, or the signer's own where it is self-signed. */
  readonly authorityFile: string;
  readonly isDevelopment: boolean;
}

const YEARS_100_DAYS = 36_500;
const DEVELOPMENT = 'DEVELOPMENT ONLY, Tenzro Edge';

/** Throws `image.signature` where the three do not belong together. */
export async function namedSigner(keyFile: string, certificateFile: string, authorityFile = certificateFile): Promise<Signer> {
  const [key, certificate, authority] = await Promise.all([keyFile, certificateFile, authorityFile].map(async (path) => readFile(path).catch((cause: unknown) => { throw new TenzroError('image.signature', `${path} cannot be read`, { cause }); })));
  const problem = key && certificate && authority ? mismatch(key, certificate, authority) : 'a file is missing';
  if (problem !== undefined) throw new TenzroError('image.signature', problem);
  return { keyFile, certificateFile, authorityFile, isDevelopment: false };
}

function mismatch(key: Buffer, certificate: Buffer, authority: Buffer): string | undefined {
  try {
    const [signer, issuer] = [new X509Certificate(certificate), new X509Certificate(authority)];
    if (!signer.checkPrivateKey(createPrivateKey(key))) return 'the certificate is not of this key';
    return signer.raw.equals(issuer.raw) || signer.checkIssued(issuer) || chained(certificate) ? undefined : 'the authority did not issue the certificate';
  } catch (error) {
    return `no PEM key or certificate: ${error instanceof Error ? error.message : String(error)}`;
  } finally {
    key.fill(0);
  }
}

/** With certificates in between; openssl and RAUC follow these. */
const chained = (certificate: Buffer): boolean => certificate.toString('latin1').split('-----BEGIN CERTIFICATE-----').length > 2;

/** `home`: the build's cache. Made where they are not there yet, with a lifetime of a machine that builds. */
export async function developmentSigner(home: string, signal: AbortSignal): Promise<Signer> {
  const folder = join(home, 'development-keys');
  const signer = { keyFile: join(folder, 'sign.key'), certificateFile: join(folder, 'sign.pem'), authorityFile: join(folder, 'authority.pem'), isDevelopment: true };
  const isThere = await readFile(signer.authorityFile).then(() => true, () => false);
  if (isThere) return signer;
  await mkdir(home, { recursive: true });
  const next = await mkdtemp(`${folder}.`);
  try {
    await makeKeys(next, signal);
    await rename(next, folder).catch(async (error: unknown) => { if (!await readFile(signer.authorityFile).then(() => true, () => false)) throw error; }); // another build was faster
  } finally {
    await rm(next, { recursive: true, force: true });
  }
  return signer;
}

/** RAUC and `openssl cms` want a certificate for S/MIME signatures (RFC 5280, section 4.2.1.12: emailProtection). */
async function makeKeys(folder: string, signal: AbortSignal): Promise<void> {
  const workshop = hostWorkshop({ folder, epochSeconds: 0, signal });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-noenc', '-sha256'];
  await workshop.run('openssl', ['req', '-x509', ...newKey, '-days', String(YEARS_100_DAYS), '-subj', `/CN=${DEVELOPMENT} authority`, '-keyout', 'authority.key', '-out', 'authority.pem', '-addext', 'keyUsage=critical,keyCertSign,cRLSign']);
  await workshop.run('openssl', ['req', ...newKey, '-subj', `/CN=${DEVELOPMENT} signer`, '-keyout', 'sign.key', '-out', 'sign.csr']);
  await writeFile(join(folder, 'extensions'), 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=emailProtection,codeSigning\n');
  await workshop.run('openssl', ['x509', '-req', '-in', 'sign.csr', '-CA', 'authority.pem', '-CAkey', 'authority.key', '-days', String(YEARS_100_DAYS), '-extfile', 'extensions', '-out', 'sign.pem']);
  await Promise.all(['authority.key', 'sign.csr', 'extensions'].map((name) => rm(join(folder, name))));
}

/** The keys beside the programs that use them, for the time of `work`. */
export async function withKeys<T>(signer: Signer, folder: string, work: (files: { readonly key: string; readonly certificate: string; readonly authority: string }) => Promise<T>): Promise<T> {
  const files = { key: 'signer.key', certificate: 'signer.pem', authority: 'authority.pem' };
  try {
    await copyFile(signer.keyFile, join(folder, files.key));
    await copyFile(signer.certificateFile, join(folder, files.certificate));
    await copyFile(signer.authorityFile, join(folder, files.authority));
    return await work(files);
  } finally {
    await Promise.all(Object.values(files).map((name) => rm(join(folder, name), { force: true })));
  }
}
