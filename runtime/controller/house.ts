/** The controller's folder: `controller.json` (its name), `receipt.seed` (ML-DSA-65, 0600) and `store/`. */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createFile, readOwnFile } from '#provisioning/ownFile.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { MLDSA65, newSeed, signerOfSeed, type Signer } from '#runtime/crypto/mldsa.ts';

export interface ControllerHouse {
  readonly name: string;
  /** Signs receipts. */
  readonly signer: Signer;
  readonly storeDir: string;
}

const FILE = { settings: 'controller.json', seed: 'receipt.seed', store: 'store' } as const;
const OWNER_ONLY = 0o600;
const READABLE = 0o644;
const HOUSE_VERSION = 1;

/** What gateways pin as `uplink.receiptKey`: SHA-256 of the key, hexadecimal. */
export const receiptKeyOf = (signer: Signer): string => toHex(sha256(signer.publicKey));

/** Never over an existing file: throws `controller.directory`. The settings are written last: without them there is no house. */
export async function buildHouse(dir: string, name: string): Promise<{ readonly receiptKey: string }> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const seed = newSeed();
  try {
    await write(join(dir, FILE.seed), seed, OWNER_ONLY);
    await write(join(dir, FILE.settings), `${JSON.stringify({ version: HOUSE_VERSION, name })}\n`, READABLE);
    return { receiptKey: receiptKeyOf(signerOfSeed(seed)) };
  } finally {
    seed.fill(0);
  }
}

/** Where the chains are kept. Throws `controller.directory` where there is no house. */
export async function storeOf(dir: string): Promise<string> {
  await nameIn(dir);
  return join(dir, FILE.store);
}

/** Throws `controller.directory` where there is none, and `controller.key` for a key that others can read, or that is none. */
export async function openHouse(dir: string): Promise<ControllerHouse> {
  const name = await nameIn(dir);
  const seed = await readSeed(join(dir, FILE.seed));
  try {
    return { name, signer: signerOfSeed(seed), storeDir: join(dir, FILE.store) };
  } finally {
    seed.fill(0);
  }
}

async function nameIn(dir: string): Promise<string> {
  const path = join(dir, FILE.settings);
  try {
    const { version, name } = JSON.parse(await readFile(path, 'utf8')) as { readonly version?: unknown; readonly name?: unknown };
    if (version === HOUSE_VERSION && typeof name === 'string' && name !== '') return name;
  } catch (cause) {
    throw new TenzroError('controller.directory', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
  throw new TenzroError('controller.directory', `${path} is not of version ${HOUSE_VERSION}, or names nobody`);
}

async function readSeed(path: string): Promise<Buffer> {
  const seed = await readOwnFile(path, 'controller.key');
  if (seed.length !== MLDSA65.seedBytes) throw new TenzroError('controller.key', `${path} has ${seed.length} bytes, not ${MLDSA65.seedBytes}`);
  return seed;
}

const write = (path: string, content: string | Uint8Array, mode: number): Promise<void> => createFile(path, content, mode, 'controller.directory');
