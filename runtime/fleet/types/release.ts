/**
 * `release`: the gateway gives up its owner. The order makes that tellable: (1) the intent is on the disk, (2) the command is `successful` in the chain and on
 * the fleet's topic, (3) the fleet is given time to receipt that entry, (4) the owner is forgotten, (5) the intent is. A kill after (1) goes on at the next
 * start; nothing is forgotten whose word was not at least written, and what the fleet missed it learns from its claim's end.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { CommandHandler } from '#runtime/core/command.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { KeyValueStore, Log } from '#runtime/core/ports.ts';
import type { Maybe } from '#runtime/core/types.ts';
import { ABLE, onlyKnown } from './parameters.ts';

export interface ReleasePorts {
  /** Whom the gateway belongs to; unknown before the record of it is read. */
  readonly owner: () => KnownOwner;
  /** Resolves when the fleet has receipted all that is flushed now, or when it was given time enough. */
  readonly delivered: () => Promise<void>;
  /** Forgets the owner of that claim, durably; nothing to do where it is over. */
  readonly release: (claimId: string) => Promise<void>;
  readonly store: KeyValueStore;
  readonly log: Log;
}

/** `claimId`: hexadecimal. */
export type KnownOwner = { readonly kind: 'unknown' } | { readonly kind: 'nobody' } | { readonly kind: 'owner'; readonly claimId: string };

/** Command and claim that it ends: whoever claims the gateway meanwhile is not released. */
const INTENT = 'release\u0001intent';
const KNOWN_POLL_MS = 100;

/** Takes the step that cannot be taken back, once, after the result is out. */
export class Releaser {
  readonly #ports: ReleasePorts;
  #isUnderWay = false;

  constructor(ports: ReleasePorts) { this.#ports = ports; }

  /** The claim that would end. Waits until it is known. Throws `command.parameters` where there is none. */
  async check(signal: AbortSignal): Promise<string> {
    let owner = this.#ports.owner();
    for (; owner.kind === 'unknown'; owner = this.#ports.owner()) await sleep(KNOWN_POLL_MS, undefined, { signal });
    if (owner.kind === 'nobody') throw new TenzroError('command.parameters', 'this gateway was not claimed: it has no owner to be released from');
    return owner.claimId;
  }

  async intend(id: string, claimId: string): Promise<void> {
    this.#ports.store.put(INTENT, Buffer.from(`${id} ${claimId}`));
    await this.#ports.store.flushed();
  }

  isIntended(id: string): boolean { return this.#claimOf(id) !== undefined; }

  /** Its result is flushed and announced. */
  settled(id: string): void {
    const claimId = this.#claimOf(id);
    if (this.#isUnderWay || claimId === undefined) return;
    this.#isUnderWay = true;
    this.#finish(claimId).catch((error: unknown) => this.#ports.log.error({ error: messageOf(error) }, 'the owner is not forgotten yet: the next start goes on')).finally(() => { this.#isUnderWay = false; });
  }

  async #finish(claimId: string): Promise<void> {
    const { owner, delivered, release, store } = this.#ports;
    if (owner().kind !== 'nobody') {
      await delivered();
      await release(claimId);
    }
    store.remove(INTENT);
    await store.flushed();
  }

  #claimOf(id: string): string | undefined {
    for (const { value } of this.#ports.store.range(INTENT)) {
      const [command, claimId] = Buffer.from(value).toString().split(' ');
      if (command === id) return claimId;
    }
    return undefined;
  }
}

export const release = (releaser: Maybe<Releaser>): CommandHandler => {
  if (releaser.kind === 'none') return { support: releaser, run: async () => ({}) };
  return {
    support: ABLE,
    isUnstoppable: true,
    async run({ id, parameters, isDryRun }, signal) {
      onlyKnown(parameters, []);
      const claimId = await releaser.value.check(signal);
      if (isDryRun) return { dry_run: true };
      await releaser.value.intend(id, claimId);
      return { released: true };
    },
    resume: ({ id }) => (releaser.value.isIntended(id) ? { released: true } : undefined),
    settled: ({ id }) => releaser.value.settled(id),
  };
};
