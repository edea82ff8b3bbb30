/** Why a test did not run: the reporter prints it beside the test's name. */
import type { Context, Runnable, Suite } from 'mocha';

const reasons = new WeakMap<Runnable | Suite, string>();

/** Skips the test (or, from a `before` hook, its whole suite) and keeps the reason. Never returns. */
export function skipBecause(context: Context, reason: string): never {
  const runnable = context.test;
  if (runnable?.parent && 'type' in runnable && runnable.type === 'hook') reasons.set(runnable.parent, reason);
  else if (runnable) reasons.set(runnable, reason);
  return context.skip();
}

/** The reason given for the test or for the nearest suite around it. */
export function skipReason(test: Runnable): string | undefined {
  let place: Runnable | Suite | undefined = test;
  while (place) {
    const reason = reasons.get(place);
    if (reason !== undefined) return reason;
    place = place.parent;
  }
  return undefined;
}
