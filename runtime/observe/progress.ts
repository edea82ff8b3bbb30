/** Health means progress: something with work before it that has not moved for too long is stalled, however alive its thread looks. */
import type { Clock } from '#runtime/core/clock.ts';

export interface StalledWork {
  readonly name: string;
  readonly behind: number;
  /** How long it has not moved. */
  readonly stalledMs: number;
}

interface Seen {
  position: number;
  behind: number;
  movedMicros: number;
}

export class ProgressWatch {
  readonly #clock: Clock;
  readonly #stallMs: number;
  readonly #seen = new Map<string, Seen>();

  constructor(clock: Clock, stallMs: number) {
    this.#clock = clock;
    this.#stallMs = stallMs;
  }

  /** Notes how far `name` is and how much work waits. Call it now and then; an idle worker (nothing waits) never stalls. */
  note(name: string, position: number, behind: number): void {
    const now = this.#clock.monoMicros();
    const seen = this.#seen.get(name);
    if (seen === undefined || seen.position !== position || seen.behind === 0) this.#seen.set(name, { position, behind, movedMicros: now });
    else seen.behind = behind;
  }

  stalled(): readonly StalledWork[] {
    const now = this.#clock.monoMicros();
    return [...this.#seen]
      .map(([name, seen]) => ({ name, behind: seen.behind, stalledMs: Math.round((now - seen.movedMicros) / 1000) }))
      .filter((work) => work.behind > 0 && work.stalledMs >= this.#stallMs);
  }
}
