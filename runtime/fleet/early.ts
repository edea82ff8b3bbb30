/** Messages that wait until it is known who may command: at a start the configured operators are there at once, and the owner's keys a moment later. */
import { LIMITS } from '#runtime/core/limits.ts';
import type { CommandSource } from './answers.ts';
import type { Place } from './judge.ts';

interface Early { readonly source: CommandSource; readonly place: Place; readonly payload: Uint8Array }

export class EarlyMessages {
  #waiting: Early[] = [];

  /** Copies it. False when too many wait. */
  hold(source: CommandSource, place: Place, payload: Uint8Array): boolean {
    const others = this.#waiting.filter((early) => early.source !== source || early.place.type !== place.type || early.place.id !== place.id);
    if (others.length >= LIMITS.commandsOpenMax) return false;
    this.#waiting = [...others, { source, place, payload: Buffer.from(payload) }];
    return true;
  }

  forget(source: CommandSource): void { this.#waiting = this.#waiting.filter((early) => early.source !== source); }

  /** All of them, in the order in which they came; none waits then. */
  take(): readonly Early[] { return this.#waiting.splice(0); }
}
