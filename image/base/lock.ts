/** `--update-lock`: what Debian 13 has today, for the tools, for the card, and for the module of emulated boots. */
import { writeFile } from 'node:fs/promises';
import { formatLock, type PackageLock } from '#image/tools/lock.ts';
import { BASE_PACKAGES, TOOL_PACKAGES } from '#image/tools/packages.ts';
import { timed, type Progress } from '#image/tools/problem.ts';
import { resolveLock, type Request } from '#image/tools/resolve.ts';
import { TOOLS_LOCK } from '#image/tools/tools.ts';
import { CROSS_LOCK, crossPackages, HEADERS_LOCK, headersPackage } from './emulatedTpm.ts';
import { BASE_LOCK, kernelVersionOf } from './tree.ts';

/** `now`: the day of the archive that the locks name. */
export async function updateLocks(now: Date, progress: Progress): Promise<void> {
  const snapshot = now.toISOString().replace(/[-:]|\.\d+/g, '');
  const lock = (file: string, request: Omit<Request, 'snapshot'>): Promise<PackageLock> => writeLock(file, { ...request, snapshot }, progress);
  await lock(TOOLS_LOCK, { architecture: 'amd64', names: TOOL_PACKAGES });
  const kernelVersion = kernelVersionOf(await lock(BASE_LOCK, { architecture: 'arm64', names: BASE_PACKAGES }));
  await lock(CROSS_LOCK, { architecture: 'amd64', names: crossPackages(kernelVersion) });
  await lock(HEADERS_LOCK, { architecture: 'arm64', names: [headersPackage(kernelVersion)], alone: true });
}

async function writeLock(file: string, request: Request, progress: Progress): Promise<PackageLock> {
  const lock = await timed(`lock for ${request.architecture}`, progress, () => resolveLock(request));
  await writeFile(file, formatLock(lock));
  progress(`${lock.packages.length} packages, ${(lock.packages.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) / 1e6).toFixed(0)} MB to fetch`);
  return lock;
}
