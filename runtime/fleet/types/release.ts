/**
 * `release`: the gateway gives up its owner. The order makes that tellable: (1) the intent is on the disk, (2) the command is `successful` in the chain and on
 * the fleet's topic, (3) the fleet is given time to receipt that entry, (4) the owner is forgotten, (5) the intent is. A kill after (1) goes on at the next
 * start; nothing is forgotten whose word was not at least written, and what the fleet missed it learns from its claim's end.
 */
import type { CommandHandler } from '#runtime/core/command.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { KeyValueStore, Log } from '#runtime/core/ports.ts';
import type { Maybe } from '#runtime/core/types.ts';
import { ABLE, onlyKnown } from './parameters.ts';

export interface ReleasePorts {
  /** Whether there is an owner to give up. */
  readonly isOwned: () => boolean;
  /** Resolves when the fleet has receipted all that is flushed now, or when it was given time enough. */
  readonly delivered: () => Promise<void>;
  /** Forgets the owner, durably; nothing to do where there is none. */
  readonly release: () => Promise<void>;
  readonly store: KeyValueStore;
  readonly log: Log;
}

const INTENT = 'release\u0001intent';

/** Takes the step that cannot be taken back, once, after the result is out. */
export class Releaser {
  readonly #ports: ReleasePorts;
  #isUnderWay = false;

  constructor(ports: ReleasePorts) { this.#ports = ports; }

  check(): void {
    if (!this.#ports.isOwned()) throw new TenzroError('command.parameters', 'this gateway was not claimed: it has no owner to be released from');
  }

  async intend(id: string): Promise<void> {
    this.#ports.store.put(INTENT, Buffer.from(id));
    await this.#ports.store.flushed();
  }

  isIntended(id: string): boolean { return [...this.#ports.store.range(INTENT)].some(({ value }) => Buffer.from(value).toString() === id); }

  /** Its result is flushed and announced. */
  settled(id: string): void {
    if (this.#isUnderWay || !this.isIntended(id)) return;
    this.#isUnderWay = true;
    this.#finish().catch((error: unknown) => this.#ports.log.error({ error: messageOf(error) }, 'the owner is not forgotten yet: the next start goes on')).finally(() => { this.#isUnderWay = false; });
  }

  async #finish(): Promise<void> {
    const { isOwned, delivered, release, store } = this.#ports;
    if (isOwned()) {
      await delivered();
      await release();
    }
    store.remove(INTENT);
    await store.flushed();
  }
}

export const release = (releaser: Maybe<Releaser>): CommandHandler => {
  if (releaser.kind === 'none') return { support: releaser, run: async () => ({}) };
  return {
    support: ABLE,
    isUnstoppable: true,
    async run({ id, parameters, isDryRun }) {
      onlyKnown(parameters, []);
      releaser.value.check();
      if (isDryRun) return { dry_run: true };
      await releaser.value.intend(id);
      return { released: true };
    },
    resume: ({ id }) => (releaser.value.isIntended(id) ? { released: true } : undefined),
    settled: ({ id }) => releaser.value.settled(id),
  };
};
