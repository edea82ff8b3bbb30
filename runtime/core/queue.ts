/** Single-consumer bounded queue. `offer` never waits: it says no, and the caller decides (drop with a gap, or push back). */
export class BoundedQueue<T> {
  readonly #max: number;
  readonly #items: T[] = [];
  #wake: (() => void) | undefined;

  constructor(max: number) { this.#max = max; }

  get length(): number { return this.#items.length; }

  /** False when full: the item was not taken. */
  offer(item: T): boolean {
    if (this.#items.length >= this.#max) return false;
    this.#items.push(item);
    this.#wake?.();
    return true;
  }

  /** Everything that waits, oldest first; waits for at least one, or returns nothing when `signal` aborts. */
  async take(signal: AbortSignal): Promise<T[]> {
    while (this.#items.length === 0 && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const done = (): void => { this.#wake = undefined; signal.removeEventListener('abort', done); resolve(); };
        this.#wake = done;
        signal.addEventListener('abort', done, { once: true });
      });
    }
    return this.#items.splice(0);
  }
}
