/**
 * The gateway's identity: the 32-byte seed of its ML-DSA-65 key in a file that only its owner may read. Whoever reads the file can sign as this
 * gateway; sealing the seed to the TPM's PCRs comes later.
 */
import { constants } from 'node:fs';
import { link, open, rm, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { invariant, TenzroError, messageOf } from '#runtime/core/errors.ts';
import { MLDSA65, newSeed } from '#runtime/crypto/mldsa.ts';

const FILE_NAME = 'identity.seed';
const OWNER_ONLY = 0o600;
const OTHERS = 0o077;

/**
 * `create`: makes the key where there is none, for a chain that has no genesis yet; otherwise a missing key is `attest.foreign_key`, since a new
 * one could not continue the chain. Also throws `attest.key_permissions`, `attest.key_malformed`, `attest.key_io`.
 */
export async function loadIdentitySeed(dataDir: string, { create }: { readonly create: boolean }): Promise<Buffer> {
  const path = join(dataDir, FILE_NAME);
  try {
    const existing = await readSeed(path);
    if (existing) return existing;
    if (!create) throw new TenzroError('attest.foreign_key', `${path} is missing: the chain in this directory cannot be continued without it`);
    await writeSeed(path, newSeed());
    const made = await readSeed(path);
    invariant(made, 'the identity key was just written');
    return made;
  } catch (cause) {
    if (cause instanceof TenzroError) throw cause;
    throw new TenzroError('attest.key_io', `${path}: ${messageOf(cause)}`, { cause });
  }
}

async function readSeed(path: string): Promise<Buffer | undefined> {
  let file: FileHandle;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (cause) {
    if (isErrno(cause, 'ENOENT')) return undefined;
    throw cause;
  }
  try {
    const { mode, uid } = await file.stat();
    if ((mode & OTHERS) !== 0) throw new TenzroError('attest.key_permissions', `${path} has mode ${(mode & 0o777).toString(8)}, not 600`);
    if (uid !== process.getuid?.()) throw new TenzroError('attest.key_permissions', `${path} belongs to user ${uid}`);
    const seed = await file.readFile();
    if (seed.length !== MLDSA65.seedBytes) throw new TenzroError('attest.key_malformed', `${path} has ${seed.length} bytes, not ${MLDSA65.seedBytes}`);
    return seed;
  } finally {
    await file.close();
  }
}

/** Whole or not at all, also over a power cut; never over an existing key. */
async function writeSeed(path: string, seed: Uint8Array): Promise<void> {
  const draft = `${path}.new`;
  await rm(draft, { force: true });
  await inFile(await open(draft, 'wx', OWNER_ONLY), async (file) => {
    await file.writeFile(seed);
    await file.sync();
  });
  await link(draft, path);
  await rm(draft);
  await inFile(await open(dirname(path), 'r'), (folder) => folder.sync());
}

async function inFile(file: FileHandle, work: (file: FileHandle) => Promise<void>): Promise<void> {
  try {
    await work(file);
  } finally {
    await file.close();
  }
}

const isErrno = (error: unknown, code: string): boolean => error instanceof Error && 'code' in error && error.code === code;
