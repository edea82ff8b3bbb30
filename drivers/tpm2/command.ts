/** What a command is to the driver's core, apart from what is in it; the groups (keys.ts, nv.ts, …) are made of these. */
import type { TpmReader } from '#runtime/crypto/tpmReader.ts';
import { TpmWriter } from './codec.ts';
import type { CommandCode } from './constants.ts';
import type { Authorization } from './session.ts';
import type { Slot, SlotKind } from './slots.ts';

/** Anything with a handle; its name enters the HMAC of sessions (Part 1 §16). */
export interface Entity {
  /** Of what this driver loaded: where it lies at the moment. */
  readonly handle: number;
  readonly name: Uint8Array;
  /** What authorises its use; absent: empty. Sent in clear where no session authorises. */
  readonly authValue?: Uint8Array;
  /** Only of what this driver loaded. */
  readonly slot?: Slot;
}

export interface Command {
  readonly code: CommandCode;
  readonly entities?: readonly Entity[];
  /** How many entities, from the first, need an authorisation: the handles marked `@` in Part 3. */
  readonly authorized?: number;
  /** For these entities, in order; where one is missing, the entity's password goes. Further ones only encrypt. */
  readonly authorizations?: readonly Authorization[];
  readonly parameters?: Buffer;
  /** The authValue that the first entity has when the command is done, where that changes: the TPM answers with it (Part 1 §19.6). */
  readonly authValueAfter?: Uint8Array;
}

/** Carries commands out, one after the other. Rejections are `tpm.*` errors, a refusal is a `TpmRefusal`; `signal` ends the wait, not the command. */
export interface Executor {
  /** `parse` takes all of the response's parameters. */
  execute<T>(command: Command, parse: (parameters: TpmReader) => T, signal: AbortSignal): Promise<T>;
  /** A command whose response begins with a handle. What it made is flushed when `parse` throws, or when the caller has given up by then. */
  load<T>(kind: SlotKind, command: Command, parse: (parameters: TpmReader, slot: Slot) => T, signal: AbortSignal): Promise<T>;
  /** Gives a slot back. Never rejects: what cannot be flushed now is stray, and gives way when room is needed. */
  release(slot: Slot): Promise<void>;
}

export const nothing = (): void => undefined;

/** The one TPM2B that many commands answer. */
export const one = (parameters: TpmReader): Buffer => parameters.sized();

/** Hierarchies and PCRs: their name is their handle (Part 1 §16). */
export function permanent(handle: number, authValue?: Uint8Array): Entity {
  return { handle, name: new TpmWriter().u32(handle).done(), ...(authValue ? { authValue } : {}) };
}

/** The same entity, with the authValue that its uses are to be authorised with. Disposing either disposes both. */
export function withAuth<T extends Entity>(entity: T, authValue: Uint8Array): T {
  return Object.create(entity, { authValue: { value: authValue, enumerable: true } }) as T;
}
