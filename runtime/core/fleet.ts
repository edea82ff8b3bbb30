/** To whom a gateway belongs and reports, as data: from its configuration, and from the claim that made it somebody's. */
import type { ForwardRule } from './settings.ts';

/** A fleet that gets this gateway's chain and commands it: one connection each. */
export interface Upstream {
  /** [A-Za-z0-9_-]; `OWNER_UPSTREAM` for the fleet that claimed it. */
  readonly name: string;
  /** `mqtts://host:port`, or `mqtt://` where nobody listens on the way. */
  readonly url: string;
  /** PEM certificates that the broker's must chain to. */
  readonly ca: string | readonly string[];
  readonly login?: { readonly user: string; readonly password: string };
  /** Shown with the identity key where the broker asks for one: PEM of the fleet's, leaf first, or one that the gateway signs itself. */
  readonly certificate?: { readonly kind: 'issued'; readonly pem: string } | { readonly kind: 'own' };
  /** SHA-256 of the controller's ML-DSA-65 key, 32 bytes. */
  readonly receiptKey: Uint8Array;
  /** After compression; 0: no limit. */
  readonly maxBytesPerSecond: number;
  readonly forward: readonly ForwardRule[];
}

export const OWNER_UPSTREAM = 'owner';

/** Who owns this gateway now. */
export interface Owner {
  /** ML-DSA-65, of equal right: a command or order by either counts. */
  readonly ownerKeys: readonly Uint8Array[];
  readonly upstream: Upstream;
  /** For people: both sides of the claim showed them. */
  readonly words: string;
}
