/** Single files of a service: its keys, certificates, settings. Made once, and replaced on purpose only. Codes say in whose name it fails. */
import { constants, type Stats } from 'node:fs';
import { link, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { TenzroError, messageOf, type ErrorCode } from '#runtime/core/errors.ts';

const OTHERS = 0o077;
/** Of systemd's `LoadCredential=` for a user other than root: root's, 0440, where the group stands for that user's access (acl(5)). */
const CREDENTIAL = 0o440;

/** Throws `code` for what others could have read, or changed. */
export function refuseOthers(path: string, { mode, uid, gid }: Pick<Stats, 'mode' | 'uid' | 'gid'>, code: ErrorCode): void {
  const isCredential = (mode & 0o777) === CREDENTIAL && uid === 0 && gid === 0;
  if ((mode & OTHERS) !== 0 && !isCredential) throw new TenzroError(code, `${path} has mode ${(mode & 0o777).toString(8)}, not 600`);
}

/** Refuses a link, and what others could have read. */
export async function readOwnFile(path: string, code: ErrorCode): Promise<Buffer> {
  let file;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (cause) {
    throw new TenzroError(code, `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
  try {
    refuseOthers(path, await file.stat(), code);
    return await file.readFile();
  } finally {
    await file.close();
  }
}

/** In place of the one that is there: that one, or this one, also over a power cut. Throws what the system throws. */
export async function replaceFile(path: string, content: string | Uint8Array, mode: number): Promise<void> {
  await rename(await writeDraft(path, content, mode), path);
  await using folder = await open(dirname(path), constants.O_RDONLY);
  await folder.sync();
}

/** Whole or not at all, also over a power cut; never over a file that is there. */
export async function createFile(path: string, content: string | Uint8Array, mode: number, code: ErrorCode): Promise<void> {
  const draft = await writeDraft(path, content, mode);
  try {
    await link(draft, path);
  } catch (cause) {
    throw new TenzroError(code, `${path} is there already`, { cause });
  } finally {
    await rm(draft);
  }
}

async function writeDraft(path: string, content: string | Uint8Array, mode: number): Promise<string> {
  const draft = `${path}.new`;
  await rm(draft, { force: true });
  const file = await open(draft, 'wx', mode);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  return draft;
}
