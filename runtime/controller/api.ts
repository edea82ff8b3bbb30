/** What the command line may ask of the running controller, over its control socket. */
import type { JsonObject } from '#runtime/core/json.ts';

export interface ApiCall {
  /** Said while it works, in order: progress, one line each. */
  readonly emit: (event: JsonObject) => void;
  /** Whoever asked is gone, or the controller stops. */
  readonly signal: AbortSignal;
}

/** Rejects with a TenzroError: bad parameters are `controller.request`. */
export type ApiMethod = (parameters: JsonObject, call: ApiCall) => Promise<JsonObject>;

/** By name, `room.verb`: `gateways.list`, `commands.submit`, `rollouts.start`. */
export type Api = Readonly<Record<string, ApiMethod>>;
