/** The composition root of what a controller sends to its gateways: joins the desk of commands, the roll-outs and what the gateways report with the form of signed commands. */
import { COMMAND_TYPES, type Operator } from '#runtime/core/command.ts';
import type { ActBook } from '#runtime/controller/acts.ts';
import { Desk, type CommandForm } from '#runtime/controller/desk.ts';
import { deskApi } from '#runtime/controller/deskApi.ts';
import { DeskStore } from '#runtime/controller/deskStore.ts';
import { filesOf } from '#runtime/controller/house.ts';
import type { ControllerPart, PartContext } from '#runtime/controller/part.ts';
import type { Releases } from '#runtime/controller/releases.ts';
import type { RefusalBook } from '#runtime/controller/refusals.ts';
import { rolloutApi, viewsApi } from '#runtime/controller/rolloutApi.ts';
import { Rollouts } from '#runtime/controller/rollouts.ts';
import { RolloutStore } from '#runtime/controller/rolloutStore.ts';
import { Views } from '#runtime/controller/views.ts';
import { claimsOf, signatureOf, signedBytesOf } from '#runtime/fleet/message.ts';
import { readOperators } from '#runtime/fleet/operators.ts';

/** What `runtime/fleet` reads and judges a signed command by, for the desk. */
export const COMMAND_FORM: CommandForm = {
  read(message) {
    const jws = signatureOf(message);
    return { claims: claimsOf(message), kid: jws.kid, isSignedBy: (publicKey) => jws.isSignedBy(publicKey, signedBytesOf(message)) };
  },
};

export interface DispatchOptions {
  readonly acts: ActBook;
  readonly refused?: RefusalBook;
  /** The owners of the fleet, and whoever else its gateways obey. */
  readonly operators: () => readonly Operator[];
  /** Of whom reports are taken; default: of anybody. */
  readonly isMember?: (gateway: string) => boolean;
  /** Absent: nobody is in a register. */
  readonly releases?: Releases;
}

/** Throws `ledger.corrupt`. */
export function openDispatch({ store, clock, counters, log }: Omit<PartContext, 'dir' | 'house'>, { acts, refused, operators, isMember, releases }: DispatchOptions): ControllerPart {
  const desk = new Desk({ store: new DeskStore(store), form: COMMAND_FORM, operators, acts, ...(refused ? { refused } : {}), clock, counters, log: log.child({ room: 'desk' }) });
  const views = new Views(counters, isMember);
  const rollouts = new Rollouts({ store: new RolloutStore(store), desk, views, acts, clock, log: log.child({ room: 'rollouts' }) });
  return {
    users: [desk, views, rollouts],
    api: { ...deskApi(desk), ...rolloutApi(rollouts), ...viewsApi(views) },
    async follow(signal) { await Promise.all([desk.follow(signal), rollouts.follow(signal), releases?.follow(desk, signal)]); },
  };
}

/** How long a look at the folder lasts: owner keys may be changed there while it serves. */
const LOOK_MICROS = 1_000_000;

/** Whose public keys lie in the controller's folder: the private ones may be elsewhere. */
export function ownersIn({ dir, clock, log }: Pick<PartContext, 'dir' | 'clock' | 'log'>): () => readonly Operator[] {
  const settings = { operators: filesOf(dir).owners.map((file, at) => ({ name: `owner-${at + 1}`, publicKeyFile: `${file}.pub`, may: COMMAND_TYPES })) };
  let [owners, seenMicros]: [readonly Operator[], number] = [[], -Infinity];
  return () => {
    if (clock.monoMicros() - seenMicros > LOOK_MICROS) [owners, seenMicros] = [readOperators(settings, ({ code, message, hint }) => { log.warn({ code, hint }, message); }), clock.monoMicros()];
    return owners;
  };
}
