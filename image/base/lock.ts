/** `--update-lock`: what Debian 13 has today, for the tools and for the card. */
import { writeFile } from 'node:fs/promises';
import { formatLock } from '#image/tools/lock.ts';
import { BASE_PACKAGES, TOOL_PACKAGES } from '#image/tools/packages.ts';
import { timed, type Progress } from '#image/tools/problem.ts';
import { resolveLock } from '#image/tools/resolve.ts';
import { TOOLS_LOCK } from '#image/tools/tools.ts';
import { BASE_LOCK } from './tree.ts';

/** `now`: the day of the archive that the locks name. */
export async function updateLocks(now: Date, progress: Progress): Promise<void> {
  const snapshot = now.toISOString().replace(/[-:]|\.\d+/g, '');
  for (const [file, architecture, names] of [[TOOLS_LOCK, 'amd64', TOOL_PACKAGES], [BASE_LOCK, 'arm64', BASE_PACKAGES]] as const) {
    const lock = await timed(`lock for ${architecture}`, progress, () => resolveLock({ architecture, names, snapshot }));
    await writeFile(file, formatLock(lock));
    progress(`${lock.packages.length} packages, ${(lock.packages.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) / 1e6).toFixed(0)} MB to fetch`);
  }
}
