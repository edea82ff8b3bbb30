/** Named numbers. `add` on the hot path is one map look-up; nothing is allocated for a name that was seen before. */
import type { Counters } from '#runtime/core/ports.ts';

export class CounterTable implements Counters {
  readonly #values = new Map<string, number>();

  add(name: string, by = 1): void {
    this.#values.set(name, (this.#values.get(name) ?? 0) + by);
  }

  set(name: string, value: number): void {
    this.#values.set(name, value);
  }

  /** Sorted by name, so that two looks compare line by line. */
  snapshot(): Record<string, number> {
    return Object.fromEntries([...this.#values].toSorted(([a], [b]) => (a < b ? -1 : 1)));
  }
}
