/** Whose signatures on application bundles count: PEM files that only root can have put there. The gateway's own user must not be able to add one. */
import { createPublicKey } from 'node:crypto';
import { constants } from 'node:fs';
import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { rawPublicKeyOf } from '#runtime/crypto/mldsa.ts';

const KEY_BYTES_MAX = 16_384;
const KEYS_MAX = 16;
const WRITABLE_BY_OTHERS = 0o022;

/** Raw ML-DSA-65 keys. `owner`: user id that must own folder and file. What is not so is no key. */
export async function releaseKeys(folders: readonly string[], owner: number): Promise<readonly Uint8Array[]> {
  const found = await Promise.all(folders.map(async (folder) => {
    const about = await stat(folder).catch(() => undefined);
    if (about === undefined || about.uid !== owner || (about.mode & WRITABLE_BY_OTHERS) !== 0) return [];
    const names = (await readdir(folder)).filter((name) => name.endsWith('.pem')).toSorted().slice(0, KEYS_MAX);
    return Promise.all(names.map(async (name) => readKey(join(folder, name), owner)));
  }));
  return found.flat().filter((key) => key !== undefined);
}

async function readKey(path: string, owner: number): Promise<Uint8Array | undefined> {
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const about = await file.stat();
    if (!about.isFile() || about.size > KEY_BYTES_MAX || about.uid !== owner || (about.mode & WRITABLE_BY_OTHERS) !== 0) return undefined;
    return rawPublicKeyOf(createPublicKey(await file.readFile()));
  } catch {
    return undefined; // no key: a bundle signed by it is refused, and says how many keys there are
  }
}
