/**
 * The controller's folder. `serve` opens `server.key` only (receipt key, intermediate CA). What commands gateways (`owner-1.key`, `owner-2.key`) and what makes
 * another intermediate (`root.key`) it never reads: they may be carried elsewhere. All of them lie under one passphrase.
 */
import { createPublicKey } from 'node:crypto';
import { mkdir, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { createFile, readOwnFile, replaceFile } from '#provisioning/ownFile.ts';
import { equalBytes, toHex } from '#runtime/core/bytes.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { pemOf, type Issuer } from '#runtime/crypto/certificate.ts';
import { derOfFile } from '#runtime/crypto/certificatePath.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { MLDSA65, newSeed, signerOfSeed, type Signer } from '#runtime/crypto/mldsa.ts';
import { newOwnerKey } from '#runtime/crypto/ownerKey.ts';
import { openUnderPassphrase, sealUnderPassphrase } from '#runtime/crypto/passphraseBox.ts';
import { parseCertificate } from '#runtime/crypto/x509.ts';
import { Authority, decodeKey, encodeKey, newIntermediate, newRoot } from './authority.ts';

export interface ControllerHouse {
  readonly name: string;
  /** A fleet without claiming: whoever the broker lets in belongs to it. */
  readonly isOpen: boolean;
  /** Names and addresses of the broker, as they were given; empty: those that this machine has when it serves. */
  readonly hosts: readonly string[];
  /** Signs receipts, and what the controller says about itself. */
  readonly signer: Signer;
  readonly authority: Authority;
}

const LABEL = { server: 'TENZRO ENCRYPTED FLEET SERVER', root: 'TENZRO ENCRYPTED FLEET ROOT' } as const;
const SERVER = { seed: 1, intermediateKey: 2, intermediate: 3 } as const;
const OWNER_ONLY = 0o600;
const READABLE = 0o644;
const HOUSE_VERSION = 2;

export const filesOf = (dir: string) => ({
  settings: join(dir, 'controller.json'), server: join(dir, 'server.key'), root: join(dir, 'root.key'), ca: join(dir, 'ca.pem'), policy: join(dir, 'policy.yaml'), users: join(dir, 'broker-users.json'),
  owners: [join(dir, 'owner-1.key'), join(dir, 'owner-2.key')] as const, store: join(dir, 'store'), broker: join(dir, 'broker'), lock: join(dir, 'lock'),
}) as const;

/** What gateways pin as `uplinks[].receiptKey`, or get with the claim: SHA-256 of the key, hexadecimal. */
export const receiptKeyOf = (signer: Signer): string => toHex(sha256(signer.publicKey));

export interface NewHouse {
  readonly dir: string;
  /** How the controller calls itself; part of the names in its certificates. */
  readonly name: string;
  readonly hosts: readonly string[];
  readonly isOpen?: boolean;
  /** Text of the sample policy. */
  readonly policy: string;
  /** The caller zeroes it. */
  readonly passphrase: Uint8Array;
  readonly nowMs: number;
}

/** Only in a folder that is new or empty: throws `controller.directory`. The settings are written last: without them there is no house. */
export async function buildHouse({ dir, name, hosts, isOpen = false, policy, passphrase, nowMs }: NewHouse): Promise<{ readonly receiptKey: string; readonly ownerKeys: readonly Uint8Array[] }> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  if ((await readdir(dir)).length > 0) throw new TenzroError('controller.directory', `${dir} is not empty`);
  await checkOwn(dir);
  const files = filesOf(dir);
  const root = newRoot(name, nowMs);
  const owners = files.owners.map((path) => ({ path, ...newOwnerKey(passphrase) }));
  const seed = newSeed();
  try {
    for (const { path, privatePem, publicPem } of owners) {
      await write(path, privatePem, OWNER_ONLY);
      await write(`${path}.pub`, publicPem, READABLE);
    }
    await write(files.root, sealed(LABEL.root, encodeKey(root), passphrase), OWNER_ONLY);
    await write(files.server, serverFile(seed, newIntermediate(root, name, nowMs), passphrase), OWNER_ONLY);
    await write(files.ca, pemOf(root.certificate), READABLE);
    await write(files.policy, policy, READABLE);
    await write(files.settings, `${JSON.stringify({ version: HOUSE_VERSION, name, hosts, open: isOpen })}\n`, READABLE);
    return { receiptKey: receiptKeyOf(signerOfSeed(seed)), ownerKeys: owners.map(({ publicKey }) => publicKey) };
  } finally {
    seed.fill(0);
  }
}

const OTHERS_WRITE = 0o022;

/** Who may write in it puts another key in the place of an owner's, and gateways are handed that one. Throws `controller.directory`. */
async function checkOwn(dir: string): Promise<void> {
  const { mode, uid } = await stat(dir);
  if ((mode & OTHERS_WRITE) !== 0) throw new TenzroError('controller.directory', `others may write in ${dir}: chmod go-w ${dir}`);
  if (uid !== process.geteuid?.()) throw new TenzroError('controller.directory', `${dir} belongs to user ${uid}, this is user ${process.geteuid?.()}`);
}

/** Where the chains are kept. Throws `controller.directory` where there is no house. */
export async function storeOf(dir: string): Promise<string> {
  await settingsIn(dir);
  return filesOf(dir).store;
}

/** The caller zeroes the passphrase. Throws `controller.directory` where there is no house, `fleet.key` for another passphrase, `controller.key` for a key that others can read, or that is none. */
export async function openHouse(dir: string, passphrase: Uint8Array): Promise<ControllerHouse> {
  const settings = await settingsIn(dir);
  await checkOwn(dir);
  const { server, ca } = filesOf(dir);
  const secret = openUnderPassphrase(LABEL.server, await keyTextIn(server), passphrase);
  try {
    const { signer, intermediate } = readServerFile(secret);
    return { ...settings, signer, authority: new Authority(intermediate, (await readFile(ca)).toString('latin1')) };
  } finally {
    secret.fill(0);
  }
}

export interface Renewal {
  readonly name: string;
  readonly signer: Signer;
  /** Of the new intermediate. */
  readonly endsMs: number;
  /** From then on a controller that starts uses it. */
  commit(): Promise<void>;
}

/**
 * Another intermediate by the root; everything else stays. `rootFile`: where `root.key` was carried. The caller zeroes the passphrase, and keeps controllers
 * away meanwhile. Throws as `openHouse`, `controller.key` for the root of another fleet too.
 */
export async function prepareRenewal(dir: string, { passphrase, rootFile, nowMs }: { readonly passphrase: Uint8Array; readonly rootFile?: string; readonly nowMs: number }): Promise<Renewal> {
  const { name } = await settingsIn(dir);
  const files = filesOf(dir);
  const root = await openRoot(rootFile ?? files.root, files.ca, passphrase);
  const secret = openUnderPassphrase(LABEL.server, await keyTextIn(files.server), passphrase);
  try {
    const { signer, seed } = readServerFile(secret);
    const intermediate = newIntermediate(root, name, nowMs);
    const content = serverFile(seed, intermediate, passphrase);
    return { name, signer, endsMs: parseCertificate(intermediate.certificate).notAfterMs, commit: () => replaceKeyFile(files.server, content) };
  } finally {
    secret.fill(0);
  }
}

async function openRoot(path: string, caFile: string, passphrase: Uint8Array): Promise<Issuer> {
  const [certificate] = derOfFile(await readFile(caFile), 1) ?? [];
  const der = openUnderPassphrase(LABEL.root, await keyTextIn(path), passphrase);
  try {
    const privateKey = decodeKey(der);
    const spki = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
    if (!certificate || !equalBytes(parseCertificate(certificate).spki, spki)) throw new TenzroError('controller.key', `${path} is not the root of this fleet: ${caFile} has another key`);
    return { privateKey, certificate };
  } finally {
    der.fill(0);
  }
}

/** How the house is called, and where its broker is: all that can be known without the passphrase. Throws `controller.directory`. */
export async function settingsIn(dir: string): Promise<Pick<ControllerHouse, 'name' | 'hosts' | 'isOpen'>> {
  const path = filesOf(dir).settings;
  try {
    const { version, name, hosts, open } = JSON.parse(await readFile(path, 'utf8')) as { readonly [key in 'version' | 'name' | 'hosts' | 'open']?: unknown };
    if (version === HOUSE_VERSION && typeof name === 'string' && name !== '' && Array.isArray(hosts)) return { name, hosts: hosts.filter((host) => typeof host === 'string'), isOpen: open === true };
  } catch (cause) {
    throw new TenzroError('controller.directory', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
  throw new TenzroError('controller.directory', `${path} is not of version ${HOUSE_VERSION}, or names nobody`);
}

function serverFile(seed: Uint8Array, intermediate: Issuer, passphrase: Uint8Array): string {
  const key = encodeKey(intermediate);
  try {
    return sealed(LABEL.server, encodeCbor(new Map<number, Uint8Array>([[SERVER.seed, seed], [SERVER.intermediateKey, key], [SERVER.intermediate, intermediate.certificate]])), passphrase);
  } finally {
    key.fill(0);
  }
}

/** It passed its tag: what does not fit was written by another version. */
function readServerFile(secret: Uint8Array): { readonly signer: Signer; readonly intermediate: Issuer; /** Of `secret`. */ readonly seed: Uint8Array } {
  const map = decodeCbor(secret);
  const [seed, key, certificate] = map instanceof Map ? [map.get(SERVER.seed), map.get(SERVER.intermediateKey), map.get(SERVER.intermediate)] : [];
  if (!(seed instanceof Uint8Array && seed.length === MLDSA65.seedBytes && key instanceof Uint8Array && certificate instanceof Uint8Array)) throw new TenzroError('controller.key', 'server.key does not hold what a controller needs');
  return { seed, signer: signerOfSeed(seed), intermediate: { privateKey: decodeKey(key), certificate: Uint8Array.from(certificate) } };
}

function sealed(label: string, secret: Uint8Array, passphrase: Uint8Array): string {
  try {
    return sealUnderPassphrase(label, secret, passphrase);
  } finally {
    secret.fill(0);
  }
}

/** PEM of a key under the passphrase. Throws `controller.key` where it cannot be read, or others could read it. */
export const keyTextIn = async (path: string): Promise<string> => (await readOwnFile(path, 'controller.key')).toString('latin1');

/** In one step, also over a power cut. Throws what the system throws. */
export const replaceKeyFile = (path: string, pem: string): Promise<void> => replaceFile(path, pem, OWNER_ONLY);

const write = (path: string, content: string | Uint8Array, mode: number): Promise<void> => createFile(path, content, mode, 'controller.directory');
