/**
 * One writer per data directory. Node has no flock(2), so the lock is a symbolic link whose target names its holder: made in one step, and on a full
 * disk too. A holder that no longer runs (kill −9, power cut) is recognised by boot id and start time, whoever has its process id now.
 */
import { readFileSync, readlinkSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';

const RETRIES_MAX = 8;

/** Throws `ledger.locked` when a living process holds it. Disposing releases it. */
export function acquireLock(path: string): Disposable {
  const own = holderOf(process.pid);
  for (let tries = 0; tries < RETRIES_MAX; tries++) {
    if (tryLink(own, path)) return { [Symbol.dispose]: () => { if (holder(path) === own) rmSync(path, { force: true }); } };
    const other = holder(path);
    if (other === undefined) continue; // released in between
    const pid = Number(other.split(':')[1]);
    if (other === holderOf(pid)) throw new TenzroError('ledger.locked', `process ${pid} holds ${path}`);
    removeStale(path, other);
  }
  throw new TenzroError('ledger.locked', `${path} changes hands all the time`);
}

/** Takes the link away and looks at what it took: when another got the lock in between, it is put back. */
function removeStale(path: string, stale: string): void {
  const aside = `${path}.stale.${process.pid}`;
  try {
    renameSync(path, aside);
  } catch (cause) {
    if (isCode(cause, 'ENOENT')) return;
    throw cause;
  }
  const taken = holder(aside);
  if (taken !== undefined && taken !== stale) tryLink(taken, path);
  rmSync(aside, { force: true });
}

function tryLink(target: string, path: string): boolean {
  try {
    symlinkSync(target, path);
    return true;
  } catch (cause) {
    if (isCode(cause, 'EEXIST')) return false;
    throw new TenzroError('ledger.permission', `cannot lock ${path}: ${messageOf(cause)}`, { cause });
  }
}

function holder(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch (cause) {
    if (isCode(cause, 'ENOENT')) return undefined;
    throw cause;
  }
}

/**
 * `<start of the boot id>:<pid>:<start time in ticks since boot>`; short enough to lie in the inode. proc(5): the state is field 3 of stat, the start time 22.
 * A zombie holds nothing any more, and lies about for ever where nobody asks for its exit code, as in a container whose first process does not.
 */
function holderOf(pid: number): string {
  const stat = Number.isSafeInteger(pid) ? proc(`/proc/${pid}/stat`) : '';
  const afterName = stat.slice(stat.lastIndexOf(')') + 2).split(' '); // the name may hold blanks; what follows it is field 3
  const startTime = afterName[0] === 'Z' ? 'gone' : afterName[19] ?? 'gone';
  return `${proc('/proc/sys/kernel/random/boot_id').slice(0, 13)}:${pid}:${startTime}`;
}

function proc(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    if (isCode(cause, 'ENOENT') || isCode(cause, 'ESRCH')) return '';
    throw cause;
  }
}

const isCode = (cause: unknown, code: string): boolean => cause instanceof Error && 'code' in cause && cause.code === code;
