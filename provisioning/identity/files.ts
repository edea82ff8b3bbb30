/**
 * The folder `identity/` of a data directory: `sealed.cbor` (the keys), `next.cbor` (keys that a rotation prepares) and `approvals.json`. Every write
 * is whole or not at all, also over a power cut; files are for their owner only, and what others could have read or put there is refused.
 */
import { constants, existsSync } from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { APPROVAL_BYTES_MAX, formatApprovals, parseApprovals, type Approval } from './approval.ts';
import { decodeIdentityFile, type IdentityFile } from './sealedFile.ts';

const NAME = { sealed: 'sealed.cbor', next: 'next.cbor', approvals: 'approvals.json' } as const;
/** Of the first release: the bare seed of the signing key. */
const LEGACY_NAME = 'identity.seed';
const LEGACY_BYTES = 32;
const OWNER_ONLY = { file: 0o600, folder: 0o700 } as const;
const OTHERS = 0o077;
const FILE_BYTES_MAX = APPROVAL_BYTES_MAX;

export type Slot = 'sealed' | 'next';

export class IdentityFiles {
  readonly #folder: string;
  readonly #legacy: string;

  constructor(dataDir: string) {
    this.#folder = join(dataDir, 'identity');
    this.#legacy = join(dataDir, LEGACY_NAME);
  }

  /** Undefined where there is none. Throws `identity.damaged`, `identity.newer_version`, `identity.permissions`, `identity.io`. */
  async read(slot: Slot): Promise<IdentityFile | undefined> {
    const bytes = await readOwn(join(this.#folder, NAME[slot]));
    return bytes && decodeIdentityFile(bytes);
  }

  async write(slot: Slot, bytes: Uint8Array): Promise<void> { await this.#replace(NAME[slot], bytes); }

  /** `next` takes the place of `sealed`. */
  async promote(): Promise<void> { await this.#rename(NAME.next, NAME.sealed); }

  async dropNext(): Promise<void> { await remove(join(this.#folder, NAME.next)); }

  /** The keys make room for others, and stay in the folder under another name: `sealed.1.cbor`, `identity.1.seed`, … Gives those names. */
  async setAside(): Promise<readonly string[]> {
    return inSystem(this.#folder, async () => {
      await mkdir(this.#folder, { recursive: true, mode: OWNER_ONLY.folder });
      const taken = new Set(await readdir(this.#folder));
      let number = 1;
      while (taken.has(`sealed.${number}.cbor`) || taken.has(`identity.${number}.seed`)) number += 1;
      const moves = [[join(this.#folder, NAME.sealed), `sealed.${number}.cbor`], [this.#legacy, `identity.${number}.seed`]] as const;
      const moved = moves.filter(([from]) => existsSync(from));
      for (const [from, to] of moved) await rename(from, join(this.#folder, to));
      await syncFolder(this.#folder);
      return moved.map(([, to]) => to);
    });
  }

  /** Empty where there are none. Throws as `read`. */
  async readApprovals(): Promise<readonly Approval[]> {
    const bytes = await readOwn(join(this.#folder, NAME.approvals));
    if (!bytes) return [];
    try {
      return parseApprovals(bytes.toString('utf8'));
    } catch (cause) {
      throw new TenzroError('identity.damaged', `${NAME.approvals}: ${messageOf(cause)}`, { cause });
    }
  }

  async writeApprovals(approvals: readonly Approval[]): Promise<void> { await this.#replace(NAME.approvals, Buffer.from(formatApprovals(approvals))); }

  /** The seed file of the first release. The caller zeroes what it gets. */
  async readLegacy(): Promise<Buffer | undefined> {
    const seed = await readOwn(this.#legacy);
    if (seed && seed.length !== LEGACY_BYTES) throw new TenzroError('identity.damaged', `${LEGACY_NAME} has ${seed.length} bytes, not ${LEGACY_BYTES}`);
    return seed;
  }

  /** Overwritten, then removed. A card or SSD may keep the old cells all the same: docs/decisions/0008-sealed-keys.md. */
  async destroyLegacy(): Promise<void> {
    await inSystem(this.#legacy, async () => {
      const file = await openIfThere(this.#legacy, constants.O_WRONLY | constants.O_NOFOLLOW);
      if (!file) return;
      await inFile(file, async () => {
        await file.write(Buffer.alloc(LEGACY_BYTES), 0, LEGACY_BYTES, 0);
        await file.sync();
      });
    });
    await remove(this.#legacy);
  }

  async #replace(name: string, bytes: Uint8Array): Promise<void> {
    const path = join(this.#folder, name);
    await inSystem(path, async () => {
      await mkdir(this.#folder, { recursive: true, mode: OWNER_ONLY.folder });
      const { uid } = await stat(this.#folder);
      if (uid !== process.getuid?.()) throw new TenzroError('identity.permissions', `${this.#folder} belongs to user ${uid}`);
      const draft = `${path}.new`;
      await rm(draft, { force: true });
      await inFile(await open(draft, 'wx', OWNER_ONLY.file), async (file) => {
        await file.writeFile(bytes);
        await file.sync();
      });
      await this.#rename(`${name}.new`, name);
    });
    await inSystem(this.#folder, () => syncFolder(dirname(this.#folder)));
  }

  async #rename(from: string, to: string): Promise<void> {
    await inSystem(join(this.#folder, to), async () => {
      await rename(join(this.#folder, from), join(this.#folder, to));
      await syncFolder(this.#folder);
    });
  }
}

/** Undefined where there is no such file. */
async function readOwn(path: string): Promise<Buffer | undefined> {
  return inSystem(path, async () => {
    const file = await openIfThere(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    if (!file) return undefined;
    return inFile(file, async () => {
      const { mode, uid, size } = await file.stat();
      if ((mode & OTHERS) !== 0) throw new TenzroError('identity.permissions', `${path} has mode ${(mode & 0o777).toString(8)}, not 600`);
      if (uid !== process.getuid?.()) throw new TenzroError('identity.permissions', `${path} belongs to user ${uid}`);
      if (size > FILE_BYTES_MAX) throw new TenzroError('identity.damaged', `${path} has ${size} bytes`);
      return file.readFile();
    });
  });
}

async function openIfThere(path: string, flags: number): Promise<FileHandle | undefined> {
  try {
    return await open(path, flags);
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return undefined;
    throw cause;
  }
}

async function remove(path: string): Promise<void> {
  await inSystem(path, async () => {
    await rm(path, { force: true });
    await syncFolder(dirname(path));
  });
}

async function inFile<T>(file: FileHandle, work: (file: FileHandle) => Promise<T>): Promise<T> {
  try {
    return await work(file);
  } finally {
    await file.close();
  }
}

async function syncFolder(path: string): Promise<void> { await inFile(await open(path, 'r'), (folder) => folder.sync()); }

/** Whatever the system refuses is `identity.io`. */
async function inSystem<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof TenzroError) throw cause;
    throw new TenzroError('identity.io', `${path}: ${messageOf(cause)}`, { cause });
  }
}
