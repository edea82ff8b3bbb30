/** Waits for something that has no event of its own: another process's port, file or state. */
import { setTimeout as delay } from 'node:timers/promises';

/**
 * Polls until `probe` returns something other than undefined or false, and returns it. Throws after `timeoutMs` with `what`
 * and the last error of the probe: a test says what it waited for.
 */
export async function until<T>(what: string, probe: () => Promise<T | undefined | false> | T | undefined | false, timeoutMs = 10_000, intervalMs = 20): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      const result = await probe();
      if (result !== undefined && result !== false) return result;
    } catch (error) {
      last = error;
    }
    if (performance.now() >= deadline) throw new Error(`waited ${timeoutMs} ms for ${what}`, { cause: last });
    await delay(intervalMs);
  }
}
