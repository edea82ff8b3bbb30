/** Locked packages on the disk: from the mirror, or from snapshot.debian.org when the mirror has them no more. Kept by their hash. */
import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { messageOf } from '#runtime/core/errors.ts';
import type { LockedDeb, PackageLock } from './lock.ts';
import { BuildProblem } from './problem.ts';

/** At once; the mirror is asked no harder than apt would. */
const DOWNLOADS_MAX = 6;
const DOWNLOAD_TIMEOUT_MS = 300_000;

export const cacheHome = (): string => join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'tenzro-edge-build');

/** What has `debian/` and `debian-security/`, without a last slash. The lock's hashes make the transport not matter. */
export const debianMirror = (): string => (process.env['TENZRO_DEBIAN_MIRROR'] ?? 'http://deb.debian.org').replace(/\/+$/, '');

const snapshotUrl = (path: string, snapshot: string): string => {
  const [archive = '', ...rest] = path.split('/');
  return `https://snapshot.debian.org/archive/${archive}/${snapshot}/${rest.map(encodeURIComponent).join('/')}`;
};

/** Where each file lies, in the lock's order. Every byte was checked when it was put there. */
export async function fetchDebs(lock: PackageLock, signal?: AbortSignal): Promise<string[]> {
  const folder = join(cacheHome(), 'debs');
  await mkdir(folder, { recursive: true });
  const waiting = lock.packages.values();
  const worker = async (): Promise<void> => { for (const deb of waiting) await fetchDeb(deb, lock.snapshot, folder, signal); };
  await Promise.all(Array.from({ length: DOWNLOADS_MAX }, worker));
  return lock.packages.map((deb) => join(folder, `${deb.sha256}.deb`));
}

async function fetchDeb(deb: LockedDeb, snapshot: string, folder: string, signal: AbortSignal | undefined): Promise<void> {
  const file = join(folder, `${deb.sha256}.deb`);
  const kept = await stat(file).catch(() => undefined);
  if (kept?.size === deb.sizeBytes && await sha256Of(file) === deb.sha256) return;
  const urls = [`${debianMirror()}/${deb.path.split('/').map(encodeURIComponent).join('/')}`, snapshotUrl(deb.path, snapshot)];
  const failures: string[] = [];
  for (const url of urls) {
    try {
      const bytes = await download(url, deb, signal);
      const part = `${file}.${process.pid}`;
      await writeFile(part, bytes);
      await rename(part, file);
      return;
    } catch (error) {
      signal?.throwIfAborted();
      failures.push(`${url}: ${messageOf(error)}`);
    }
  }
  await rm(file, { force: true });
  throw new BuildProblem('unreachable', `${deb.name} ${deb.version} cannot be fetched:\n  ${failures.join('\n  ')}`,
    'Name another mirror (TENZRO_DEBIAN_MIRROR=http://…), allow https to snapshot.debian.org, or lock what Debian has today: npm run build:base -- --update-lock.');
}

/** Never takes more bytes than the lock names. */
async function download(url: string, { sizeBytes, sha256 }: LockedDeb, signal: AbortSignal | undefined): Promise<Buffer> {
  const limit = AbortSignal.timeout(DOWNLOAD_TIMEOUT_MS);
  const response = await fetch(url, { signal: signal === undefined ? limit : AbortSignal.any([signal, limit]) });
  if (!response.ok || response.body === null) throw new Error(`HTTP ${response.status}`);
  const chunks: Uint8Array[] = [];
  let taken = 0;
  for await (const chunk of response.body as ReadableStream<Uint8Array>) {
    taken += chunk.length;
    if (taken > sizeBytes) throw new Error(`more than the locked ${sizeBytes} bytes`);
    chunks.push(chunk);
  }
  const bytes = Buffer.concat(chunks);
  if (createHash('sha256').update(bytes).digest('hex') !== sha256) throw new Error('not the locked bytes (SHA-256 differs)');
  return bytes;
}

const sha256Of = async (file: string): Promise<string> => createHash('sha256').update(await readFile(file)).digest('hex');
