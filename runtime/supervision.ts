/**
 * Composition root of the gateway's watchdog: tells systemd that it starts, is ready, lives, stops. A sign of life leaves this loop only when the main thread's event
 * loop turned and the other threads answered, so whoever hangs silences it, and systemd starts the gateway again. Without systemd nothing of this happens.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ServiceManager, type Assignments } from '#drivers/system/serviceManager.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { messageOf } from '#runtime/core/errors.ts';
import type { Counters, Log } from '#runtime/core/ports.ts';

export interface Watched {
  /** Resolves when the thread went round its loop once more, or has ended: how it ended is told elsewhere. */
  answered(): Promise<void>;
  /** So long it may be silent. 0: it has to answer for every sign of life. */
  readonly silentMs: number;
}

export interface SupervisionOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly clock: Clock;
  readonly log: Log;
  readonly counters: Counters;
}

type Phase = { readonly name: 'starting' | 'stopping' } | { readonly name: 'ready'; readonly threads: readonly Watched[]; readonly status: () => string };

/** Two of three signs may get lost. */
const SIGNS_PER_LIMIT = 3;
/** Where nobody asks for signs of life, what was not heard is said again by then. */
const RETRY_MS = 1_000;
/** A start may read a large chain; one that takes longer hangs. */
const START_MAX_MS = 30 * 60_000;
/** A model may compute for this long. */
export const INFERENCE_SILENT_MS = 5 * 60_000;

export class Supervision implements AsyncDisposable {
  readonly #options: SupervisionOptions;
  readonly #ended = new AbortController();
  readonly #startedMicros: number;
  readonly #heard = new Map<Watched, number>();
  #phase: Phase = { name: 'starting' };
  #changed = Promise.withResolvers<void>();
  readonly #work: Promise<void>;

  constructor(options: SupervisionOptions) {
    this.#options = options;
    this.#startedMicros = options.clock.monoMicros();
    const manager = ServiceManager.of(options.env);
    this.#work = manager ? this.#follow(manager) : Promise.resolve();
  }

  /** The broker takes messages. `status`: one line for `systemctl status`. */
  ready(threads: readonly Watched[], status: () => string): void { this.#enter({ name: 'ready', threads, status }); }

  stopping(): void { this.#enter({ name: 'stopping' }); }

  #enter(phase: Phase): void {
    this.#phase = phase;
    this.#changed.resolve();
  }

  async #follow(manager: ServiceManager): Promise<void> {
    const { signal } = this.#ended;
    const intervalMs = manager.watchdogMs === undefined ? undefined : manager.watchdogMs / SIGNS_PER_LIMIT;
    let said: Phase | undefined;
    while (!signal.aborted) {
      const phase = this.#phase;
      if (said !== phase) this.#changed = Promise.withResolvers();
      const isAlive = phase.name !== 'ready' || await Promise.race([this.#allAnswer(phase.threads), this.#changed.promise.then(() => false)]);
      const isHeard = isAlive && await this.#tell(manager, this.#assignments(phase, said !== phase, manager.watchdogMs ?? 0));
      if (isHeard) said = phase;
      if (this.#phase !== phase) continue;
      const nap = new AbortController();
      const slept = isHeard && intervalMs === undefined ? this.#changed.promise : sleep(intervalMs ?? RETRY_MS, undefined, { signal: AbortSignal.any([signal, nap.signal]), ref: false }).catch(() => undefined); // woken, or the end
      await Promise.race([slept, this.#changed.promise]);
      nap.abort();
    }
  }

  async #allAnswer(threads: readonly Watched[]): Promise<true> {
    const { clock } = this.#options;
    await Promise.all(threads.map(async (thread) => {
      const answer = thread.answered().then(() => { this.#heard.set(thread, clock.monoMicros()); });
      const silentMs = (clock.monoMicros() - (this.#heard.get(thread) ?? clock.monoMicros())) / 1_000;
      if (!this.#heard.has(thread)) this.#heard.set(thread, clock.monoMicros());
      if (silentMs >= thread.silentMs) await answer;
    }));
    return true;
  }

  #assignments(phase: Phase, isNew: boolean, watchdogMs: number): Assignments {
    if (phase.name === 'stopping') return { ...(isNew ? { STOPPING: '1', STATUS: 'stopping' } : {}), WATCHDOG: '1' };
    if (phase.name === 'ready') return { ...(isNew ? { READY: '1' } : {}), WATCHDOG: '1', STATUS: phase.status() };
    const isLate = this.#options.clock.monoMicros() - this.#startedMicros > START_MAX_MS * 1_000;
    return { STATUS: 'starting', ...(watchdogMs === 0 || isLate ? {} : { EXTEND_TIMEOUT_USEC: String(watchdogMs * 1_000) }) };
  }

  /** What is not heard is said again soon enough, or systemd acts. */
  async #tell(manager: ServiceManager, assignments: Assignments): Promise<boolean> {
    try {
      await manager.tell(assignments, this.#ended.signal);
      return true;
    } catch (error) {
      if (this.#ended.signal.aborted) return false;
      this.#options.counters.add('supervision.unheard');
      this.#options.log.warn({ error: messageOf(error) }, 'systemd did not hear that the gateway lives');
      return false;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.abort();
    this.#changed.resolve();
    await this.#work;
  }
}
