/** Lays the system onto a tree of Debian, without running anything of that tree: it is for another processor. */
import { chmod, cp, lstat, mkdir, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { SYSTEM, SYSTEM_ROOT } from './manifest.ts';

const UNITS = 'etc/systemd/system';
const VENDOR_UNITS = 'usr/lib/systemd/system';
const MODE = { folder: 0o755, file: 0o644, run: 0o755, shadow: 0o640 } as const;

/** As root, or where owners do not matter; doing it again changes nothing. Times and owners are the caller's to set. */
export async function laySystem(tree: string): Promise<void> {
  for (const pattern of SYSTEM.removed) await removeAll(tree, pattern);
  for (const path of SYSTEM.directories) await mkdir(join(tree, path), { recursive: true, mode: MODE.folder });
  await copyRoot(tree);
  for (const [path, target] of Object.entries(SYSTEM.links)) await link(tree, path, target);
  for (const [unit, target] of Object.entries(SYSTEM.enabled)) await enable(tree, unit, target);
  for (const path of SYSTEM.masked) await link(tree, path, '/dev/null');
  await layAccounts(join(tree, 'etc'));
}

async function copyRoot(tree: string): Promise<void> {
  for (const entry of await readdir(SYSTEM_ROOT, { recursive: true, withFileTypes: true })) {
    if (entry.isDirectory()) continue;
    const from = join(entry.parentPath, entry.name);
    const path = relative(SYSTEM_ROOT, from);
    await mkdir(join(tree, dirname(path)), { recursive: true, mode: MODE.folder });
    await rm(join(tree, path), { force: true });
    await cp(from, join(tree, path));
    await chmod(join(tree, path), SYSTEM.executables.includes(path) ? MODE.run : MODE.file);
  }
}

/** `*` only in the last part of a path. */
async function removeAll(tree: string, pattern: string): Promise<void> {
  const [folder, last] = [join(tree, dirname(pattern)), new RegExp(`^${pattern.slice(pattern.lastIndexOf('/') + 1).replaceAll('.', String.raw`\.`).replaceAll('*', '.*')}$`)];
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => { if (error.code !== 'ENOENT') throw error; return []; });
  for (const name of names.filter((found) => last.test(found))) await rm(join(folder, name), { recursive: true });
}

async function link(tree: string, path: string, target: string): Promise<void> {
  await rm(join(tree, path), { recursive: true, force: true });
  await mkdir(join(tree, dirname(path)), { recursive: true, mode: MODE.folder });
  await symlink(target, join(tree, path));
}

async function enable(tree: string, unit: string, target: string): Promise<void> {
  const isThere = await lstat(join(tree, VENDOR_UNITS, unit)).then(() => true, () => false);
  if (!isThere) throw new Error(`the tree has no ${unit}`);
  await link(tree, `${UNITS}/${target}.wants/${unit}`, `/${VENDOR_UNITS}/${unit}`);
}

async function layAccounts(etc: string): Promise<void> {
  const edit = async (name: string, mode: number, change: (text: string) => string): Promise<void> => {
    const path = join(etc, name);
    const before = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => { if (error.code !== 'ENOENT') throw error; return ''; });
    await writeFile(path, change(before));
    await chmod(path, mode);
  };
  await edit('group', MODE.file, withGroups);
  await edit('passwd', MODE.file, withUsers);
  await edit('shadow', MODE.shadow, withLockedUsers);
}

const linesOf = (text: string): string[] => text.split('\n').filter((line) => line !== '');
const nameOf = (line: string): string => line.slice(0, line.indexOf(':'));
const textOf = (lines: readonly string[]): string => `${lines.join('\n')}\n`;
const USERS: ReadonlySet<string> = new Set(Object.keys(SYSTEM.users));

/** group(5). Groups that are there keep their numbers, but for those of our users: these own what lies on /data. */
function withGroups(text: string): string {
  const lines = linesOf(text).filter((line) => !USERS.has(nameOf(line)));
  for (const [name, gid] of Object.entries(SYSTEM.groups)) {
    if (lines.some((line) => nameOf(line) === name)) continue;
    refuseTaken(lines, name, gid);
    lines.push(`${name}:x:${gid}:`);
  }
  return textOf(lines.map(withMembers).toSorted(byNumber));
}

/** Several runs, one order. */
const byNumber = (a: string, b: string): number => Number(a.split(':')[2]) - Number(b.split(':')[2]);

function refuseTaken(lines: readonly string[], name: string, number: number): void {
  const taken = lines.find((line) => line.split(':')[2] === String(number));
  if (taken !== undefined) throw new Error(`${nameOf(taken)} has the number ${number}, which is for ${name}`);
}

function withMembers(line: string): string {
  const [name = '', password = '', gid = '', members = ''] = line.split(':');
  const joined = new Set(members.split(',').filter((member) => member !== ''));
  for (const [user, groups] of Object.entries(SYSTEM.memberOf)) if ((groups as readonly string[]).includes(name)) joined.add(user);
  return [name, password, gid, [...joined].join(',')].join(':');
}

/** passwd(5). */
function withUsers(text: string): string {
  const lines = linesOf(text).filter((line) => !USERS.has(nameOf(line)));
  for (const [name, { uid, gid, comment, home, shell }] of Object.entries(SYSTEM.users)) {
    refuseTaken(lines, name, uid);
    lines.push(`${name}:x:${uid}:${gid}:${comment}:${home}:${shell}`);
  }
  return textOf(lines.toSorted(byNumber));
}

/** shadow(5): nobody logs in here, root neither. The days of the last change would tell two builds apart. */
function withLockedUsers(text: string): string {
  const lines = linesOf(text).filter((line) => !USERS.has(nameOf(line))).map((line) => {
    const [name = '', , , ...rest] = line.split(':');
    return [name, '*', '', ...rest].join(':');
  });
  return textOf([...lines, ...[...USERS].map((name) => `${name}:*::0:99999:7:::`)]);
}
