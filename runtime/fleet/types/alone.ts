/** Children that get nothing of ours: LMDB leaves its files open over exec, so whatever else this process has open is /dev/null in them. */
import { closeSync, openSync, readdirSync } from 'node:fs';
import type { IOType } from 'node:child_process';

/** `start` spawns with the given descriptors, which are `own` and then nothing; its child has them when it returns. */
export function startAlone<T, S extends IOType | 'ipc'>(own: readonly S[], start: (stdio: (S | number)[]) => T): T {
  const nothing = openSync('/dev/null', 'r');
  try {
    const highest = Math.max(...readdirSync('/dev/fd').map(Number));
    return start([...own, ...Array.from({ length: Math.max(0, highest + 1 - own.length) }, () => nothing)]);
  } finally {
    closeSync(nothing);
  }
}
