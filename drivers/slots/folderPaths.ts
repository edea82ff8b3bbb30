/** Where the application's folders and what belongs to them lie, and how small files there are replaced. */
import { constants } from 'node:fs';
import { open, readFile, rename, statfs, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { FACTORY, parseState, type Folder, type FolderState, type Place } from './folderState.ts';

export interface FolderPaths {
  /** The package's own folder. */
  readonly package: string;
  /** A, B, the state and the last result: written by root alone. */
  readonly home: string;
  /** Which folder the gateway was started from; gone after a boot. */
  readonly chosen: string;
  /** Written by the gateway: what it asks for. */
  readonly handover: string;
  /** Folders of release keys: PEM, ML-DSA-65. Written by root alone. */
  readonly keys: readonly string[];
}

/** `root` is another one in tests. */
export const folderPaths = (root = '/'): FolderPaths => ({
  package: join(root, 'opt/tenzro-edge'),
  home: join(root, 'var/lib/tenzro-edge-slots'),
  chosen: join(root, 'run/tenzro-edge-slot'),
  handover: join(root, 'var/lib/tenzro-edge/handover'),
  keys: [join(root, 'usr/share/tenzro-edge/release-keys'), join(root, 'etc/tenzro-edge-release-keys')],
});

const SMALL_BYTES_MAX = 4_096;

/** Bounded and through no link; undefined where there is none. Rejects with `update.slots`. */
export async function readSmall(path: string): Promise<string | undefined> {
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const stat = await file.stat();
    if (!stat.isFile() || stat.size > SMALL_BYTES_MAX) throw new TenzroError('update.slots', `${path} is no small file`);
    return await file.readFile('utf8');
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return undefined;
    throw slotsFault(cause);
  }
}

/** Whole or not at all, also over a power cut. */
export async function replaceSmall(path: string, text: string, mode: number): Promise<void> {
  await inSlots(async () => {
    await using file = await open(`${path}.next`, 'w', mode);
    await file.writeFile(text);
    await file.sync();
    await rename(`${path}.next`, path);
    await syncFolder(dirname(path));
  });
}

export async function syncFolder(path: string): Promise<void> {
  await using folder: FileHandle = await open(path);
  await folder.sync();
}

export const readState = async ({ home }: FolderPaths): Promise<FolderState> => {
  const text = await readSmall(join(home, 'state'));
  return text === undefined ? FACTORY : parseState(text);
};

/** Undefined where no launcher chose: there are no folders on this machine. */
export async function readRunning({ chosen }: FolderPaths): Promise<Place | undefined> {
  const text = (await readSmall(chosen))?.trim();
  return text === 'A' || text === 'B' || text === 'package' ? text : undefined;
}

/** Version of what lies there whole; undefined where nothing does. */
export async function versionAt(folder: string): Promise<string | undefined> {
  return (await readFile(join(folder, 'release'), 'utf8').catch(() => undefined))?.trim();
}

export const folderAt = (paths: FolderPaths, place: Place): string => (place === 'package' ? paths.package : join(paths.home, place));

/** Which folders are whole and newer than the package: others never start. */
export async function fitting(paths: FolderPaths, compare: (a: string, b: string) => number): Promise<(folder: Folder) => boolean> {
  const [ours, a, b] = await Promise.all([versionAt(paths.package), versionAt(folderAt(paths, 'A')), versionAt(folderAt(paths, 'B'))]);
  return (folder) => {
    const theirs = folder === 'A' ? a : b;
    return ours !== undefined && theirs !== undefined && compare(theirs, ours) > 0;
  };
}

/** Left for the datachain. */
const RESERVE_BYTES = 64 * 2 ** 20;

/** Throws `update.slots` where so much more does not fit. */
export async function checkSpace(folder: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize < bytes + RESERVE_BYTES) throw new TenzroError('update.slots', `${folder} has ${Math.floor((bavail * bsize) / 2 ** 20)} MiB free, the update needs ${Math.ceil((bytes + RESERVE_BYTES) / 2 ** 20)}`);
}

export const slotsFault = (cause: unknown): TenzroError => (cause instanceof TenzroError ? cause : new TenzroError('update.slots', messageOf(cause), { cause }));

export async function inSlots<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw slotsFault(cause);
  }
}
