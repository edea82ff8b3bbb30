/** Wi-Fi as one of the machine's own programs sets it up. */
export interface WifiNetwork {
  /** 1 to 32 bytes of any value. */
  readonly ssid: Uint8Array;
  /** 8 to 63 printable ASCII characters; '' for an open network. */
  readonly passphrase: string;
}

/** Networks that others made stay as they are, and are used again when none of ours is. Rejections are `claim.network` where nothing else is said. */
export interface Wifi {
  /** Why it sets nothing up here; undefined: it does. */
  whyNot(signal: AbortSignal): Promise<string | undefined>;
  /** Puts one network on trial, in the place of the one before. Nothing of it outlives a restart of the machine. Rejects with `claim.apply` when it does not come up. */
  try(network: WifiNetwork, signal: AbortSignal): Promise<void>;
  /** These stay, over restarts, the first preferred; the trial ends. Idempotent: where they are kept already, nothing is disturbed. */
  keep(networks: readonly WifiNetwork[], signal: AbortSignal): Promise<void>;
  /** None of ours is left, also of those that a process before this one made. */
  remove(signal: AbortSignal): Promise<void>;
}

/** A network on trial has so long. */
export const UP_SECONDS = 30;
/** Of the first kept network; those behind it have less. Networks without a priority have 0, everywhere. */
export const HIGHEST_PRIORITY = 100;
