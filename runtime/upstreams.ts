/**
 * The fleets that this gateway reports to: those of its configuration, and the one that claimed it, which comes and goes while the gateway runs. Each has a
 * connection of its own, and none waits for another.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { toHex } from '#runtime/core/bytes.ts';
import { OWNER_UPSTREAM, type Upstream } from '#runtime/core/fleet.ts';
import type { UplinkSettings } from '#runtime/core/settings.ts';
import type { UpstreamStatus } from '#runtime/core/types.ts';
import { Uplinking, configuredPlan, plannedOf, type UplinkingOptions, type UpstreamPlan } from './uplinking.ts';

/** How often what the gateway says of itself is compared with what it said. */
const REFRESH_MS = 1_000;

export interface UpstreamsOptions extends UplinkingOptions {
  /** False while one more may be added that has to have everything: then age prunes nothing. */
  readonly isComplete: () => boolean;
}

interface Running {
  readonly uplinking: Uplinking;
  /** Of those that were added at run time. */
  readonly upstream: Upstream | undefined;
  readonly controller: AbortController;
  done: Promise<void>;
}

export class Upstreams {
  readonly #options: UpstreamsOptions;
  #wasComplete = false;
  readonly #running = new Map<string, Running>();
  /** Also of those that were removed, until they are closed. */
  readonly #work = new Set<Promise<void>>();
  readonly #failed = Promise.withResolvers<never>();
  #signal: AbortSignal | undefined;

  constructor(configured: readonly UplinkSettings[], options: UpstreamsOptions) {
    this.#options = options;
    this.#failed.promise.catch(() => undefined); // whoever follows has it
    for (const uplink of configured) this.#begin(configuredPlan(uplink), undefined, Promise.resolve());
  }

  /** Connects once `follow` runs. Of two with one name the later counts; the same again changes nothing, unless it shall connect `anew`. */
  add(upstream: Upstream, anew = false): void {
    const before = this.#running.get(upstream.name);
    if (before && !anew && isDeepStrictEqual(before.upstream, upstream)) return;
    before?.controller.abort();
    this.#begin(plannedOf(upstream), upstream, before?.done ?? Promise.resolve()); // one client id: the connection before closes first
    this.#tellRetention();
  }

  /** Resolves when its connection is closed; at once where there is none of that name. */
  async remove(name: string): Promise<void> {
    const before = this.#running.get(name);
    if (!before) return;
    this.#running.delete(name);
    before.controller.abort();
    this.#tellRetention();
    await before.done;
  }

  /** Runs until `signal` aborts, then closes all connections. Rejects for defects of ours. */
  async follow(signal: AbortSignal): Promise<void> {
    this.#signal = signal;
    for (const running of this.#running.values()) this.#start(running);
    try {
      await Promise.race([this.#refresh(signal), this.#failed.promise]);
    } finally {
      for (const { controller } of this.#running.values()) controller.abort();
      await Promise.all(this.#work);
    }
  }

  /** PEM of the certificate that the upstream of that name is shown from its next connection on. Rejects with `identity.*`. */
  async certify(name: string, certificate: string): Promise<void> { await this.#running.get(name)?.uplinking.certify(certificate); }

  /** When any of their controllers gave the newest receipt, µs since 1970; 0: none yet. */
  get receiptMicros(): number { return Math.max(0, ...Array.from(this.#running.values(), ({ uplinking }) => uplinking.receiptMicros)); }

  /** The owner's first. */
  status(): readonly UpstreamStatus[] { return this.#ordered().map(({ uplinking }) => uplinking.status()); }

  /** SHA-256 of the newest receipt of the first upstream that has given one: what the next block names. */
  get receiptDigest(): Uint8Array | undefined {
    for (const { uplinking: { receiptDigest } } of this.#ordered()) if (receiptDigest) return receiptDigest;
    return undefined;
  }

  #ordered(): readonly Running[] {
    const owner = this.#running.get(OWNER_UPSTREAM);
    const others = [...this.#running.values()].filter((running) => running !== owner);
    return owner ? [owner, ...others] : others;
  }

  #begin(plan: UpstreamPlan, upstream: Upstream | undefined, after: Promise<void>): void {
    const running: Running = { uplinking: new Uplinking(plan, this.#options), upstream, controller: new AbortController(), done: after };
    this.#running.set(plan.name, running);
    if (this.#signal) this.#start(running);
  }

  #start(running: Running): void {
    const { uplinking, controller, done: before } = running;
    const signal = AbortSignal.any([controller.signal, ...(this.#signal ? [this.#signal] : [])]);
    running.done = before.then(() => uplinking.run(signal)).catch((error: unknown) => { this.#failed.reject(error); });
    this.#work.add(running.done);
    void running.done.finally(() => this.#work.delete(running.done));
  }

  async #refresh(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      for (const { uplinking } of this.#running.values()) uplinking.refresh();
      if (this.#options.isComplete() !== this.#wasComplete) this.#tellRetention();
      await sleep(REFRESH_MS, undefined, { signal }).catch(() => undefined); // aborted: the loop ends
    }
  }

  #tellRetention(): void {
    this.#wasComplete = this.#options.isComplete();
    this.#options.writer.awaitReceipts(Array.from(this.#running.values(), ({ uplinking: { plan } }) => toHex(plan.receiptKey)), this.#wasComplete);
  }
}
