/**
 * Which software sealed a block: SHA-256 over what `sha256sum` prints for the runtime's own files in byte order of their paths, so that anyone
 * can repeat it in the project's root:
 *   (find runtime drivers models provisioning -type f '(' -name '*.ts' -o -name '*.js' ')'; echo package.json; echo package-lock.json) |
 *     LC_ALL=C sort | xargs sha256sum | sha256sum
 * package-lock.json pins every dependency by version and integrity hash. Not covered: the files under node_modules as they lie on the disk, native
 * libraries, Node itself and the operating system; IMA's list (PCR 10) covers what was opened of them, where the kernel measures.
 * It states, and does not prove: a changed runtime can name any digest. Measured boot (PCRs 0–10) is what speaks of the machine.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { toHex } from '#runtime/core/bytes.ts';
import { sha256 } from '#runtime/crypto/hash.ts';

const FOLDERS = ['runtime', 'drivers', 'models', 'provisioning'] as const;
const FILES = ['package.json', 'package-lock.json'] as const;
const SOURCE = /\.[jt]s$/;

/** `root`: absolute path of the project. Some 300 files, read synchronously at start. What a packager left out of FOLDERS and FILES does not count. */
export function softwareDigest(root: string): Buffer {
  const sources = FOLDERS.filter((folder) => existsSync(join(root, folder))).flatMap((folder) => readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && SOURCE.test(entry.name))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)).split(sep).join('/')));
  const files = FILES.filter((file) => existsSync(join(root, file)));
  const paths = [...sources, ...files].map((path) => Buffer.from(path, 'utf8')).toSorted((a, b) => Buffer.compare(a, b)).map(String);
  return sha256(...paths.map((path) => Buffer.from(`${toHex(sha256(readFileSync(join(root, path))))}  ${path}\n`, 'utf8')));
}
