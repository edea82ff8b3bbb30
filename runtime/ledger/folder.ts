/** Folders for their owner alone. */
import { existsSync, mkdirSync } from 'node:fs';
import { dirname, resolve } from 'node:path';

const OWNER_ONLY = 0o700;

/**
 * With the folders above it; one that is there stays as it is. Not `recursive: true`: Node's never returns, and takes no signal, where a folder that exists
 * says that it does not, as /proc does for what cannot be made in it. Throws what the system says.
 */
export function makeFolder(path: string): void {
  const folder = resolve(path);
  if (existsSync(folder)) return;
  if (dirname(folder) !== folder) makeFolder(dirname(folder));
  try {
    mkdirSync(folder, { mode: OWNER_ONLY });
  } catch (error) {
    if (!existsSync(folder)) throw error; // else another process was first
  }
}
