/** Steps of a build: each says when it begins and what it took. */

export interface Step {
  readonly name: string;
  readonly tookMs: number;
}

export class Steps {
  readonly done: Step[] = [];
  readonly #say: (text: string) => void;

  constructor(say: (text: string) => void) { this.#say = say; }

  async step<T>(name: string, work: () => Promise<T>): Promise<T> {
    const started = performance.now();
    this.#say(`${name} …`);
    const result = await work();
    const tookMs = performance.now() - started;
    this.done.push({ name, tookMs });
    this.#say(`${name}: ${(tookMs / 1_000).toFixed(1)} s`);
    return result;
  }
}
