/**
 * One writer per data directory. Node has no flock(2), so the lock is a file that names its holder: boot id, process id and the process's start
 * time. A holder that no longer runs (kill −9, power cut) is recognised by these, whoever has its process id now.
 */
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';

const RETRIES_MAX = 8;

/** Throws `ledger.locked` when a living process holds it. Disposing releases it. */
export function acquireLock(path: string): Disposable {
  const own = holderOf(process.pid);
  const draft = `${path}.${process.pid}.${process.hrtime.bigint()}`;
  writeFileSync(draft, own, { mode: 0o600, flag: 'wx' });
  try {
    for (let tries = 0; tries < RETRIES_MAX; tries++) {
      if (tryLink(draft, path)) return { [Symbol.dispose]: () => { if (read(path) === own) rmSync(path, { force: true }); } };
      const holder = read(path);
      if (holder === undefined) continue; // released in between
      const pid = Number(holder.split(' ')[1]);
      if (holder === holderOf(pid)) throw new TenzroError('ledger.locked', `process ${pid} holds ${path}`);
      removeStale(path, holder);
    }
    throw new TenzroError('ledger.locked', `${path} changes hands all the time`);
  } finally {
    rmSync(draft, { force: true });
  }
}

/** Takes the file away and looks at what it took: when another got the lock in between, it is put back. */
function removeStale(path: string, stale: string): void {
  const aside = `${path}.stale.${process.pid}`;
  try {
    renameSync(path, aside);
  } catch (cause) {
    if (isCode(cause, 'ENOENT')) return;
    throw cause;
  }
  if (read(aside) !== stale) tryLink(aside, path);
  rmSync(aside, { force: true });
}

function tryLink(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (cause) {
    if (isCode(cause, 'EEXIST')) return false;
    throw new TenzroError('ledger.permission', `cannot lock ${to}: ${messageOf(cause)}`, { cause });
  }
}

/** `<boot id> <pid> <start time in ticks since boot>`; proc(5): the start time is field 22 of /proc/<pid>/stat. */
function holderOf(pid: number): string {
  const stat = Number.isSafeInteger(pid) ? (read(`/proc/${pid}/stat`) ?? '') : '';
  const afterName = stat.slice(stat.lastIndexOf(')') + 2).split(' '); // the name may hold blanks; the next field is the third
  return `${(read('/proc/sys/kernel/random/boot_id') ?? '').trim()} ${pid} ${afterName[19] ?? 'gone'}`;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    if (isCode(cause, 'ENOENT') || isCode(cause, 'ESRCH')) return undefined;
    throw cause;
  }
}

const isCode = (cause: unknown, code: string): boolean => cause instanceof Error && 'code' in cause && cause.code === code;
