/** The folders of a card made from our image, as the first boot finds and leaves them. Everything here is done by root, before the gateway. */
import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { chmod, chown, open, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { replaceFile } from '#provisioning/ownFile.ts';
import { BOOT_FILES, BOOT_FILE_BYTES_MAX, type BootFileName, type FoundFile } from '#runtime/board/firstBoot.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';

export interface BoardFolders {
  /** The FAT partition. */
  readonly boot: string;
  /** The data partition, or memory in its place. */
  readonly data: string;
  /** What tenzro-data.service says about it. */
  readonly state: string;
}

export const BOARD: BoardFolders = { boot: '/boot/firmware', data: '/data', state: '/run/tenzro' };
/** Paths under `data`. */
export const KEPT = { config: 'config/tenzro.yaml', wifi: 'network/wpa_supplicant-wlan0.conf', hostname: 'board/hostname', timezone: 'board/timezone', record: 'board/boot-files.json', history: 'board/taken-over.json' } as const;
export type Kept = keyof typeof KEPT;

const NOTE = 'taken-over.txt';
const MODE: Readonly<Record<Kept, number>> = { config: 0o640, wifi: 0o600, hostname: 0o644, timezone: 0o644, record: 0o644, history: 0o644 };
const KEPT_BYTES_MAX = 1024 * 1024;

const isAbsent = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT';
const run = promisify(execFile);
const MOUNT_MS = 20_000;

/** The partition is read-only but for the moment in which files are wiped. Its device is named: else mount(8) asks fstab, where `nofail` lets it end well without having done anything. */
export async function remount(folder: string, mode: 'rw' | 'ro'): Promise<void> {
  try {
    const mounted = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n').findLast((line) => line.split(' ')[4] === folder);
    const device = mounted?.split(' - ')[1]?.split(' ')[1];
    if (device === undefined) throw new TenzroError('board.boot_partition', 'it is not mounted');
    await run('mount', ['-o', `remount,${mode},noatime,nodev,nosuid,noexec`, device, folder], { timeout: MOUNT_MS });
  } catch (cause) {
    throw new TenzroError('board.boot_partition', `${folder} cannot be mounted ${mode}: ${messageOf(cause)}`, { cause });
  }
}

export class BoardCard {
  readonly #folders: BoardFolders;
  readonly #remount: typeof remount;

  constructor(folders: BoardFolders, options: { readonly remount: typeof remount } = { remount }) {
    this.#folders = folders;
    this.#remount = options.remount;
  }

  /** Files of the boot partition that mean something to us, each to one byte beyond what is read. The caller zeroes them. */
  async find(): Promise<readonly FoundFile[]> {
    const files: FoundFile[] = [];
    for (const name of BOOT_FILES) {
      const bytes = await readBounded(join(this.#folders.boot, name), BOOT_FILE_BYTES_MAX + 1, 'board.boot_partition');
      if (bytes) files.push({ name, bytes });
    }
    return files;
  }

  /** Text that is kept on the data partition; undefined where there is none. */
  async read(what: Kept): Promise<string | undefined> {
    return (await readBounded(join(this.#folders.data, KEPT[what]), KEPT_BYTES_MAX, 'core.system'))?.toString('utf8');
  }

  /** The old text or the new one, also over a power cut; of the owner of its folder. */
  async keep(what: Kept, text: string): Promise<void> {
    const path = join(this.#folders.data, KEPT[what]);
    await replaceFile(path, text, MODE[what]);
    await chmod(path, MODE[what]); // whatever the process masks
    const { uid, gid } = await stat(join(path, '..'));
    await chown(path, uid, gid);
  }

  async forget(what: Kept): Promise<void> {
    await rm(join(this.#folders.data, KEPT[what]), { force: true });
  }

  /** The work may write to the boot partition. Throws `board.boot_partition`. */
  async whileWritable(work: () => Promise<void>): Promise<void> {
    await this.#remount(this.#folders.boot, 'rw');
    try {
      await work();
    } catch (cause) {
      throw new TenzroError('board.boot_partition', `${this.#folders.boot} cannot be written: ${messageOf(cause)}`, { cause });
    } finally {
      await this.#remount(this.#folders.boot, 'ro');
    }
  }

  /** Overwritten on the card before its name goes: an entry that is only deleted leaves its bytes. Flash keeps what it likes; docs/operate/first-boot.md says so. */
  async wipe(name: BootFileName): Promise<void> {
    const path = join(this.#folders.boot, name);
    const file = await open(path, 'r+').catch((error: unknown) => { if (isAbsent(error)) return undefined; throw error; });
    if (!file) return;
    try {
      const { size } = await file.stat();
      await file.write(Buffer.alloc(Math.min(size, BOOT_FILE_BYTES_MAX)), 0, undefined, 0);
      await file.sync();
    } finally {
      await file.close();
    }
    await rm(path);
  }

  async note(text: string): Promise<void> {
    await replaceFile(join(this.#folders.boot, NOTE), text, 0o644);
  }
}

/** Undefined where it is not there. A folder of that name is no file. */
async function readBounded(path: string, bytesMax: number, code: 'board.boot_partition' | 'core.system'): Promise<Buffer | undefined> {
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    const bytes = Buffer.alloc(Math.min((await file.stat()).size, bytesMax));
    const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
    return bytes.subarray(0, bytesRead);
  } catch (cause) {
    if (isAbsent(cause)) return undefined;
    throw new TenzroError(code, `${path} cannot be read: ${messageOf(cause)}`, { cause });
  }
}
