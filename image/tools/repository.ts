/**
 * A local archive made of locked packages, which apt installs from without a network. Its packages are the locked ones without compression:
 * unpacking xz under emulation would take most of a build.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { cacheHome, fetchDebs } from './fetch.ts';
import { formatLock, keyOf, type PackageLock } from './lock.ts';

const run = promisify(execFile);
const UNPACKED_BYTES_MAX = 1_000_000_000;

/** ar(5): name, time, owner, group, mode, size, magic; entries are padded to even lengths. */
function arEntry(name: string, bytes: Buffer): Buffer {
  const head = `${name.padEnd(16)}${'0'.padEnd(12)}${'0'.padEnd(6)}${'0'.padEnd(6)}${'100644'.padEnd(8)}${String(bytes.length).padEnd(10)}\`\n`;
  return Buffer.concat([Buffer.from(head, 'latin1'), bytes, Buffer.from(bytes.length % 2 === 1 ? '\n' : '', 'latin1')]);
}

/** deb(5): format 2.0 with `control.tar` and `data.tar`. */
export const plainDeb = (control: Buffer, data: Buffer): Buffer =>
  Buffer.concat([Buffer.from('!<arch>\n', 'latin1'), arEntry('debian-binary', Buffer.from('2.0\n', 'latin1')), arEntry('control.tar', control), arEntry('data.tar', data)]);

/** The folder of the archive for `deb [trusted=yes] copy://FOLDER ./`. */
export async function localRepository(lock: PackageLock, signal?: AbortSignal): Promise<string> {
  const folder = join(cacheHome(), `repository-${lock.architecture}-${keyOf(['plain packages 1', formatLock(lock)])}`);
  if (await readdir(folder).then(() => true, () => false)) return folder;
  const files = await fetchDebs(lock, signal);
  await mkdir(cacheHome(), { recursive: true });
  const next = await mkdtemp(`${folder}.`);
  try {
    const stanzas: string[] = [];
    for (const file of files) stanzas.push(await addPlain(file, next));
    await writeIndex(next, lock, `${stanzas.join('\n')}\n`);
    await rename(next, folder).catch(async (error: unknown) => { if (!await readdir(folder).then(() => true, () => false)) throw error; }); // another build was faster
  } finally {
    await rm(next, { recursive: true, force: true });
  }
  return folder;
}

async function addPlain(file: string, folder: string): Promise<string> {
  const options = { encoding: 'buffer', maxBuffer: UNPACKED_BYTES_MAX } as const;
  const [control, data, fields] = await Promise.all([run('dpkg-deb', ['--ctrl-tarfile', file], options), run('dpkg-deb', ['--fsys-tarfile', file], options), run('dpkg-deb', ['--field', file])]);
  const plain = plainDeb(control.stdout, data.stdout);
  const sha256 = createHash('sha256').update(plain).digest('hex');
  await writeFile(join(folder, `${sha256}.deb`), plain);
  return `${fields.stdout.trimEnd()}\nFilename: ./${sha256}.deb\nSize: ${plain.length}\nSHA256: ${sha256}\n`;
}

/** mmdebstrap looks for essential packages in the suite's name, so the index says it. */
async function writeIndex(folder: string, { architecture }: PackageLock, packages: string): Promise<void> {
  const sha256 = createHash('sha256').update(packages).digest('hex');
  await writeFile(join(folder, 'Packages'), packages);
  await writeFile(join(folder, 'Release'), `Suite: trixie\nCodename: trixie\nArchitectures: ${architecture} all\nDate: Thu, 01 Jan 1970 00:00:00 UTC\nSHA256:\n ${sha256} ${Buffer.byteLength(packages)} Packages\n`);
}
