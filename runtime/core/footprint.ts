/** What a thread leaves behind when it comes to rest: compiled code that the next start can use, and a heap that V8 does not shrink while nothing new is allocated. */
import { flushCompileCache } from 'node:module';
import { performance } from 'node:perf_hooks';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** By then every room has run its first round. */
const FIRST_LOOK_MS = 5_000;
/** Rare enough that the pause (30–50 ms on a laptop) is not felt. */
const LOOK_INTERVAL_MS = 60_000;
/** Share of the time that a thread may be busy and still counts as idle; under load V8 collects by itself. */
const IDLE_UTILIZATION = 0.1;

type Collect = (options: { readonly type: 'major'; readonly flavor: 'last-resort' }) => void;

/**
 * For the calling thread, each time that it comes to rest after its start or after load: its heap shrinks, and its code goes to the compile cache,
 * so that a start that is killed still warms the next.
 */
export function settleWhenIdle(): void {
  let before = performance.eventLoopUtilization();
  let isDue = true;
  const look = (): void => {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, before);
    before = now;
    if (utilization > IDLE_UTILIZATION) isDue = true;
    else if (isDue) {
      isDue = false;
      flushCompileCache();
      collector()({ type: 'major', flavor: 'last-resort' });
    }
  };
  setTimeout(look, FIRST_LOOK_MS).unref();
  setInterval(look, LOOK_INTERVAL_MS).unref();
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
