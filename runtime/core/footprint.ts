/** What the start of a thread leaves behind: compiled code that the next start can use, and a heap that V8 does not shrink while nothing new is allocated. */
import { flushCompileCache } from 'node:module';
import { performance } from 'node:perf_hooks';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** By then every room has run its first round. */
const SETTLE_MS = 5_000;
/** Share of the time that a thread may be busy: under load the pause would be felt, and V8 collects by itself. */
const IDLE_UTILIZATION = 0.1;

type Collect = (options: { readonly type: 'major'; readonly flavor: 'last-resort' }) => void;

/** Once, when the calling thread first idles: its code goes to the compile cache (so that a start that is killed still warms the next), its heap shrinks. */
export function settleAfterStart(): void {
  const before = performance.eventLoopUtilization();
  setTimeout(() => {
    if (performance.eventLoopUtilization(before).utilization > IDLE_UTILIZATION) { settleAfterStart(); return; }
    flushCompileCache();
    collector()({ type: 'major', flavor: 'last-resort' });
  }, SETTLE_MS).unref();
}

/** V8's own collector, as --expose-gc gives it. The flag is taken back at once: it is part of what compiled code is checked against. */
function collector(): Collect {
  setFlagsFromString('--expose-gc');
  try {
    return runInNewContext('gc') as Collect;
  } finally {
    setFlagsFromString('--no-expose-gc');
  }
}
