/**
 * A folder of small files that are for their owner only. Every write is whole or not at all, also over a power cut; what others could have read or put
 * there is refused.
 */
import { constants } from 'node:fs';
import { mkdir, open, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { TenzroError, messageOf, type ErrorCode } from '#runtime/core/errors.ts';

const OWNER_ONLY = { file: 0o600, folder: 0o700 } as const;
const OTHERS = 0o077;

export interface FolderOptions {
  /** What it throws. `io`: whatever the system refuses. */
  readonly codes: { readonly permissions: ErrorCode; readonly damaged: ErrorCode; readonly io: ErrorCode };
  /** A larger file is damaged. */
  readonly fileBytesMax: number;
}

export class OwnFolder {
  readonly path: string;
  readonly #options: FolderOptions;

  constructor(path: string, options: FolderOptions) {
    this.path = path;
    this.#options = options;
  }

  /** Undefined where there is no such file. */
  async read(name: string): Promise<Buffer | undefined> {
    const path = join(this.path, name);
    const { codes, fileBytesMax } = this.#options;
    return this.inSystem(name, async () => {
      const file = await openIfThere(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
      if (!file) return undefined;
      return inFile(file, async () => {
        const { mode, uid, size } = await file.stat();
        if ((mode & OTHERS) !== 0) throw new TenzroError(codes.permissions, `${path} has mode ${(mode & 0o777).toString(8)}, not 600`);
        if (uid !== process.getuid?.()) throw new TenzroError(codes.permissions, `${path} belongs to user ${uid}`);
        if (size > fileBytesMax) throw new TenzroError(codes.damaged, `${path} has ${size} bytes`);
        return file.readFile();
      });
    });
  }

  /** The old content, or the new one; the folder is made where it is missing. */
  async replace(name: string, bytes: Uint8Array): Promise<void> {
    const draft = `${name}.new`;
    await this.inSystem(name, async () => {
      await this.make();
      const { uid } = await stat(this.path);
      if (uid !== process.getuid?.()) throw new TenzroError(this.#options.codes.permissions, `${this.path} belongs to user ${uid}`);
      await rm(join(this.path, draft), { force: true });
      await inFile(await open(join(this.path, draft), 'wx', OWNER_ONLY.file), async (file) => {
        await file.writeFile(bytes);
        await file.sync();
      });
      await this.rename(draft, name);
    });
    await this.inSystem('', () => syncFolder(dirname(this.path)));
  }

  /** Within the folder. */
  async rename(from: string, to: string): Promise<void> {
    await this.inSystem(to, async () => {
      await rename(join(this.path, from), join(this.path, to));
      await this.sync();
    });
  }

  async remove(name: string): Promise<void> {
    await this.inSystem(name, async () => {
      await rm(join(this.path, name), { force: true });
      await this.sync();
    });
  }

  /** The first bytes become zeros, in place, where there is such a file. */
  async blank(name: string, sizeBytes: number): Promise<void> {
    await this.inSystem(name, async () => {
      const file = await openIfThere(join(this.path, name), constants.O_WRONLY | constants.O_NOFOLLOW);
      if (!file) return;
      await inFile(file, async () => {
        await file.write(Buffer.alloc(sizeBytes), 0, sizeBytes, 0);
        await file.sync();
      });
    });
  }

  async make(): Promise<void> { await mkdir(this.path, { recursive: true, mode: OWNER_ONLY.folder }); }

  async sync(): Promise<void> { await syncFolder(this.path); }

  /** Whatever the system refuses `work` is the folder's code for that. */
  async inSystem<T>(name: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (cause) {
      if (cause instanceof TenzroError) throw cause;
      throw new TenzroError(this.#options.codes.io, `${join(this.path, name)}: ${messageOf(cause)}`, { cause });
    }
  }
}

async function openIfThere(path: string, flags: number): Promise<FileHandle | undefined> {
  try {
    return await open(path, flags);
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return undefined;
    throw cause;
  }
}

async function inFile<T>(file: FileHandle, work: (file: FileHandle) => Promise<T>): Promise<T> {
  try {
    return await work(file);
  } finally {
    await file.close();
  }
}

async function syncFolder(path: string): Promise<void> { await inFile(await open(path, 'r'), (folder) => folder.sync()); }
