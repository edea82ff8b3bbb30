/**
 * Hands a message to the listeners whose filter matches. Unlike the engine's own (mqemitter) it does not wait until every subscriber has
 * taken the bytes: one that stopped reading would hold every publisher. What waits is bounded where it waits, in the subscriber's socket.
 */
import { TopicTree } from './topicTree.ts';

export interface Emitted { readonly topic: string }
export type Listener = (message: Emitted, done: () => void) => void;

export class Emitter {
  readonly #listeners = new TopicTree<Listener>();
  /** Used again for every message; taken away while one is served. */
  #matching: Listener[] = [];
  #closed = false;

  /** Counts every change of who listens where. */
  version = 0;

  hasListener(topic: string): boolean {
    const matching: Listener[] = [];
    this.#listeners.collect(topic, matching);
    return matching.length > 0;
  }

  on(filter: string, listener: Listener, done?: () => void): this {
    this.#listeners.add(filter, listener);
    this.version++;
    if (done !== undefined) setImmediate(done);
    return this;
  }

  removeListener(filter: string, listener: Listener, done?: () => void): this {
    this.#listeners.remove(filter, (other) => other === listener);
    this.version++;
    if (done !== undefined) setImmediate(done);
    return this;
  }

  emit(message: Emitted, done: (error?: Error) => void): this {
    if (this.#closed) {
      done(new Error('the broker is closed'));
      return this;
    }
    const matching = this.#matching;
    this.#matching = [];
    this.#listeners.collect(message.topic, matching);
    for (const listener of matching) listener(message, nothing);
    matching.length = 0;
    this.#matching = matching;
    done();
    return this;
  }

  close(done: () => void): this {
    this.#closed = true;
    setImmediate(done);
    return this;
  }
}

const nothing = (): void => {};
