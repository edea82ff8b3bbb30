/**
 * The verifier's folder: `verifier.json` (its name), `verifier.seed` (ML-DSA-65, 0600), `tls.key` (0600) and `tls.pem`, `policy.yaml`, `memory/`. TLS
 * authenticates today's connection only, with P-256, so that every tool can ask for the status; what lasts, leases and enrolments, is signed post-quantum.
 */
import { generateKeyPairSync } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createFile, readOwnFile } from '#provisioning/ownFile.ts';
import { toHex } from '#runtime/core/bytes.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { pemOf, selfSignedCertificate } from '#runtime/crypto/certificate.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { MLDSA65, newSeed, signerOfSeed, type Signer } from '#runtime/crypto/mldsa.ts';

export interface VerifierHouse {
  readonly name: string;
  readonly signer: Signer;
  /** PEM. */
  readonly certificate: string;
  readonly key: string;
  readonly memoryDir: string;
  readonly policyFile: string;
}

const FILE = { settings: 'verifier.json', seed: 'verifier.seed', tlsKey: 'tls.key', tlsCertificate: 'tls.pem', policy: 'policy.yaml', memory: 'memory' } as const;
const OWNER_ONLY = 0o600;
const READABLE = 0o644;
const HOUSE_VERSION = 1;
/** Before the certificate's start: a gateway's clock may be behind. Its end: two years and a bit; tls.pem and tls.key may be replaced at any time. */
const BACKDATED_MS = 24 * 3_600_000;
const VALID_MS = 825 * 24 * 3_600_000;

/** What policies and gateways pin: SHA-256 of the key, hexadecimal. */
export const keyDigestOf = (signer: Signer): string => toHex(sha256(signer.publicKey));
export const certificateFile = (dir: string): string => join(dir, FILE.tlsCertificate);

export interface NewHouse {
  readonly dir: string;
  readonly name: string;
  /** Names and addresses under which gateways reach it. */
  readonly hosts: readonly string[];
  /** Text of the sample policy. */
  readonly policy: (keyDigest: string) => string;
  readonly clock: Clock;
}

/** Never over an existing file: throws `verifier.directory`. The settings are written last: without them there is no house. */
export async function buildHouse({ dir, name, hosts, policy, clock }: NewHouse): Promise<{ readonly keyDigest: string }> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const nowMs = clock.wallMicros() / 1_000;
  const certificate = selfSignedCertificate({ privateKey, commonName: name, hosts, notBeforeMs: nowMs - BACKDATED_MS, notAfterMs: nowMs + VALID_MS });
  const seed = newSeed();
  const keyDigest = keyDigestOf(signerOfSeed(seed));
  try {
    await write(join(dir, FILE.seed), seed, OWNER_ONLY);
    await write(join(dir, FILE.tlsKey), privateKey.export({ format: 'pem', type: 'pkcs8' }), OWNER_ONLY);
    await write(join(dir, FILE.tlsCertificate), pemOf(certificate), READABLE);
    await write(join(dir, FILE.policy), policy(keyDigest), READABLE);
    await write(join(dir, FILE.settings), `${JSON.stringify({ version: HOUSE_VERSION, name })}\n`, READABLE);
  } finally {
    seed.fill(0);
  }
  return { keyDigest };
}

/** Throws `verifier.directory` where there is none, and `verifier.key` for keys that others can read, or that are none. */
export async function openHouse(dir: string): Promise<VerifierHouse> {
  const name = nameOf(await read(join(dir, FILE.settings)));
  const seed = await readSecret(join(dir, FILE.seed));
  try {
    if (seed.length !== MLDSA65.seedBytes) throw new TenzroError('verifier.key', `${join(dir, FILE.seed)} has ${seed.length} bytes, not ${MLDSA65.seedBytes}`);
    return {
      name, signer: signerOfSeed(seed), certificate: (await read(join(dir, FILE.tlsCertificate))).toString('utf8'), key: (await readSecret(join(dir, FILE.tlsKey))).toString('utf8'),
      memoryDir: join(dir, FILE.memory), policyFile: join(dir, FILE.policy),
    };
  } finally {
    seed.fill(0);
  }
}

function nameOf(text: Buffer): string {
  try {
    const { version, name } = JSON.parse(text.toString('utf8')) as { readonly version?: unknown; readonly name?: unknown };
    if (version === HOUSE_VERSION && typeof name === 'string' && name !== '') return name;
  } catch (cause) {
    throw new TenzroError('verifier.directory', `${FILE.settings} is not JSON: ${messageOf(cause)}`, { cause });
  }
  throw new TenzroError('verifier.directory', `${FILE.settings} is not of version ${HOUSE_VERSION}, or names nobody`);
}

async function read(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new TenzroError('verifier.directory', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
}

const readSecret = (path: string): Promise<Buffer> => readOwnFile(path, 'verifier.key');
const write = (path: string, content: string | Uint8Array, mode: number): Promise<void> => createFile(path, content, mode, 'verifier.directory');
