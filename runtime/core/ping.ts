/** Asks another thread whether it still looks at its messages. One question is under way at a time, however many ask. */
export class Ping {
  #asked: PromiseWithResolvers<void> | undefined;

  /** Resolves with the next answer. */
  async ask(send: () => void): Promise<void> {
    if (this.#asked === undefined) {
      this.#asked = Promise.withResolvers();
      send();
    }
    return this.#asked.promise;
  }

  /** Also when nobody is left to answer: who waits goes on. */
  answered(): void {
    this.#asked?.resolve();
    this.#asked = undefined;
  }
}
