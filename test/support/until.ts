/** Waits for something that has no event of its own: another process's port, file or state. */
import { setTimeout as delay } from 'node:timers/promises';

export interface UntilOptions {
  readonly timeoutMs?: number;
  readonly intervalMs?: number;
  /** Says why waiting is in vain, as soon as it is. */
  readonly hopeless?: () => string | undefined;
}

/**
 * Polls until `probe` returns something other than undefined or false, and returns it. Throws after `timeoutMs` with `what`
 * and the last error of the probe: a test says what it waited for.
 */
export async function until<T>(what: string, probe: () => Promise<T | undefined | false> | T | undefined | false, options: UntilOptions = {}): Promise<T> {
  const { timeoutMs = 10_000, intervalMs = 20, hopeless } = options;
  const deadline = performance.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      const result = await probe();
      if (result !== undefined && result !== false) return result;
    } catch (error) {
      last = error;
    }
    const reason = hopeless?.();
    if (reason !== undefined) throw new Error(`waited for ${what}: ${reason}`);
    if (performance.now() >= deadline) throw new Error(`waited ${timeoutMs} ms for ${what}`, { cause: last });
    await delay(intervalMs);
  }
}
