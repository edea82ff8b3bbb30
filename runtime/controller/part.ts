/** What joins the controller: speaks over the fleet's broker, answers the command line, works in the background. */
import type { Clock } from '#runtime/core/clock.ts';
import type { Counters, KeyValueStore, LinkUser, Log } from '#runtime/core/ports.ts';
import type { Api } from './api.ts';
import type { ControllerHouse } from './house.ts';

export interface ControllerPart {
  /** All parts' users share one link. */
  readonly users?: readonly LinkUser[];
  readonly api?: Api;
  /** Works until `signal` aborts and what is under way is done. A rejection ends the controller. */
  follow?(signal: AbortSignal): Promise<void>;
}

/** What every part may use. */
export interface PartContext {
  /** The controller's folder. */
  readonly dir: string;
  readonly house: ControllerHouse;
  readonly store: KeyValueStore;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
}
