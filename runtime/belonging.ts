/** The composition root of what ties a gateway to its fleets: its owner, the upstreams, and the commands that come over them and over its own broker. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Owner } from '#runtime/core/fleet.ts';
import type { JsonObject } from '#runtime/core/json.ts';
import type { FleetStatus } from '#runtime/observe/status.ts';
import { thumbprintOf } from '#runtime/crypto/jws.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import { OWNER_UPSTREAM } from '#runtime/core/fleet.ts';
import { openCommanding, type CommandingOptions } from './commanding.ts';
import { openTwinning, type Twinning } from './twinning.ts';
import { Upstreams } from './upstreams.ts';

export interface BelongingOptions extends Omit<CommandingOptions, 'trials'> {
  /** The identity's. Rejects with `identity.*` while the keys are locked. */
  readonly signer: () => Promise<Signer>;
  /** What the gateway says of itself to its fleets, beside `status`; nothing that changes all the time. */
  readonly statement: () => JsonObject;
  /** Whether `onOwned` was called where the gateway is owned. */
  readonly isOwnerKnown: () => boolean;
}

export interface Belonging {
  readonly upstreams: Upstreams;
  /** What people at the fleet ask for, until `signal` aborts: it ends before the broker does. */
  follow(signal: AbortSignal): Promise<void>;
  status(): FleetStatus;
  /** At every start while it is owned, and at the claim. */
  onOwned(owner: Owner): void;
  /** Its keys count no more at once; resolves when the connection to its broker is closed. */
  onDisowned(): Promise<void>;
  /** Resolves when the owner's fleet has receipted that many entries; at the latest after a time that is enough for a fleet that is there. */
  delivered(entries: number): Promise<void>;
  /** Of an owner: the provable time is not before it, µs since 1970. */
  raiseTime(micros: number): void;
}

/** A fleet that is away learns of a release from its claim's end. */
const DELIVERY_MS = 30_000;
const DELIVERY_POLL_MS = 250;

export function openBelonging({ signer, statement, isOwnerKnown, ...options }: BelongingOptions): Belonging {
  const { settings } = options;
  const twinning: Twinning = openTwinning({ ...options, gateway: settings.node.name, ledger: options.writer, operators: () => commanding.operators() });
  const commanding = openCommanding({ ...options, trials: twinning });
  const upstreams = new Upstreams(settings.uplinks, { ...options, gateway: settings.node.name, signer, statement, isComplete: isOwnerKnown, usersOf: () => [commanding.overFleet(), twinning.user()] });
  let owned: FleetStatus['owner'] = null;
  return {
    upstreams,
    follow: async (signal) => { await Promise.all([commanding.commander.follow(signal), twinning.follow(signal)]); },
    async delivered(entries) {
      const isOver = AbortSignal.timeout(DELIVERY_MS);
      const receipted = (): number => upstreams.status().find(({ name }) => name === OWNER_UPSTREAM)?.receipt?.treeSize ?? 0;
      while (receipted() < entries && !isOver.aborted) await sleep(DELIVERY_POLL_MS, undefined, { signal: isOver, ref: false }).catch(() => undefined); // it is over: the loop ends
    },
    raiseTime: (micros) => { commanding.commander.raiseTime(micros); },
    status: () => ({ upstreams: upstreams.status(), commands: commanding.commander.open(), owner: owned }),
    onOwned(owner) {
      owned = { words: owner.words, keys: owner.ownerKeys.map((key) => thumbprintOf(key)) };
      commanding.setOwner(owner);
      upstreams.add(owner.upstream);
    },
    async onDisowned() {
      owned = null;
      commanding.setOwner(undefined);
      await upstreams.remove(OWNER_UPSTREAM);
    },
  };
}
