/** Who may look on at the fleet's own broker: names with password hashes, in a file of the controller's folder that is read again when it changes. */
import { readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';

export interface Person {
  readonly name: string;
  /** As `tenzro config hash-password` makes it. */
  readonly passwordHash: string;
}

const VERSION = 1;
const OWNER_ONLY = 0o600;
export const PERSON_NAME = /^[A-Za-z0-9_.@-]{1,64}$/;

/** Nobody where there is no file. Throws `controller.users`. */
export async function readPeople(path: string): Promise<readonly Person[]> {
  let text;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    if (isMissing(cause)) return [];
    throw new TenzroError('controller.users', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
  try {
    const { version, users } = JSON.parse(text) as { readonly version?: unknown; readonly users?: unknown };
    if (version === VERSION && Array.isArray(users) && users.every(isPerson)) return users;
  } catch (cause) {
    throw new TenzroError('controller.users', `${path} is not JSON: ${messageOf(cause)}`, { cause });
  }
  throw new TenzroError('controller.users', `${path} is not a list of users of version ${VERSION}`);
}

/** `passwordHash` undefined: that name may not come in any more. Whole or not at all. False where nothing was to be removed. */
export async function writePerson(path: string, name: string, passwordHash: string | undefined): Promise<boolean> {
  const before = await readPeople(path);
  const others = before.filter((person) => person.name !== name);
  const users = passwordHash === undefined ? others : [...others, { name, passwordHash }];
  const draft = `${path}.new`;
  await rm(draft, { force: true });
  await writeFile(draft, `${JSON.stringify({ version: VERSION, users }, undefined, 1)}\n`, { mode: OWNER_ONLY, flag: 'wx', flush: true });
  await rename(draft, path);
  return passwordHash !== undefined || others.length < before.length;
}

/** Changes with the file. */
export async function stampOf(path: string): Promise<string> {
  const found = await stat(path, { bigint: true }).catch((error: unknown) => { if (isMissing(error)) return undefined; throw error; });
  return found ? `${found.ino} ${found.size} ${found.mtimeNs}` : 'none';
}

const isMissing = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'ENOENT';

function isPerson(value: unknown): value is Person {
  const { name, passwordHash } = typeof value === 'object' && value !== null ? (value as Partial<Record<keyof Person, unknown>>) : {};
  return typeof name === 'string' && PERSON_NAME.test(name) && typeof passwordHash === 'string';
}
