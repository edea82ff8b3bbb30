/** How much of something may happen: a bound on what others can make us do. Pure: times are the caller's, monotonic. */

/** So many at once, then one every interval. */
export class Credit {
  readonly #most: number;
  readonly #intervalMicros: number;
  #left: number;
  #sinceMicros: number;

  constructor(most: number, intervalMs: number, nowMicros: number) {
    this.#most = most;
    this.#intervalMicros = intervalMs * 1_000;
    this.#left = most;
    this.#sinceMicros = nowMicros;
  }

  has(nowMicros: number): boolean {
    const grown = Math.floor((nowMicros - this.#sinceMicros) / this.#intervalMicros);
    this.#left = Math.min(this.#most, this.#left + grown);
    this.#sinceMicros += grown * this.#intervalMicros;
    return this.#left > 0;
  }

  spend(nowMicros: number): boolean {
    if (!this.has(nowMicros)) return false;
    this.#left -= 1;
    return true;
  }

  /** When there is one again. */
  get nextMicros(): number { return this.#sinceMicros + this.#intervalMicros; }
}
