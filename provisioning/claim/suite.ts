/**
 * What the two state machines of a claim need done with keys. They decide by these answers alone, so that a test can explore them with ideal keys in the
 * place of real ones; `deviceSuite` and `claimerSuite` (realSuite.ts) are the real ones.
 */
import type { HandOver, OwnerOrder } from './handOver.ts';
import type { Accept, Hello, Offer, Order, Standing } from './messages.ts';

/** All that one claim's secret gives, 32 bytes each; zeroed when the claim ends. */
export interface SessionKeys {
  /** SHA-256 over hello, offer and acceptance: what both sides mean by this claim. Public. */
  readonly transcript: Uint8Array;
  /** Claimer's and device's confirmation. */
  readonly claimerProof: Uint8Array;
  readonly deviceProof: Uint8Array;
  /** Keys of the two directions: each seals one message, numbered by its place. */
  readonly toDevice: Uint8Array;
  readonly toClaimer: Uint8Array;
  /** Six words, for people to compare. */
  readonly words: string;
}

/** The private half of an offer's key: used once, then forgotten. */
export interface Ephemeral {
  readonly decapsulate: (ciphertext: Uint8Array) => Uint8Array;
}

export interface DeviceSuite {
  /** An offer with a key of its own. `digest`: SHA-256 of the message. */
  offer(hello: Hello): { readonly offer: Offer; readonly digest: Uint8Array; readonly ephemeral: Ephemeral };
  /** Never fails for a wrong secret: then the confirmation does not fit. Throws `hpke.malformed`. */
  agree(session: { readonly hello: Hello; readonly offer: Offer; readonly ephemeral: Ephemeral }, accept: Accept, secret: Uint8Array): SessionKeys;
  /** What a burnt secret is known by. */
  secretDigest(secret: Uint8Array): Uint8Array;
  sealEvidence(keys: SessionKeys, evidence: Uint8Array): Uint8Array;
  /** Opens, parses, and holds it to be of this claim and signed by its first owner key. Throws `hpke.open` for what the claimer did not seal, else `claim.*`. */
  openHandOver(keys: SessionKeys, sealed: Uint8Array): { readonly bytes: Uint8Array; readonly handOver: HandOver };
  signStanding(standing: Omit<Standing, 'kind' | 'signature'>): Standing;
  orderDigest(order: Order): Uint8Array;
  /** Throws `claim.malformed`, or `claim.order` when neither key signed it or it is for another device. */
  openOrder(order: Order, ownerKeys: readonly Uint8Array[]): OwnerOrder;
}

export interface ClaimerSuite {
  /** Throws `claim.identity` unless the keys signed this offer for this hello, and are those of the code; undefined: the code was the operator's, and names none. */
  examine(hello: Hello, offer: Offer, keyDigest: Uint8Array | undefined): void;
  /** Throws `hpke.malformed`. */
  accept(hello: Hello, offer: Offer, secret: Uint8Array, challenge: Uint8Array | undefined): { readonly accept: Accept; readonly keys: SessionKeys };
  /** Throws `hpke.open`. */
  openEvidence(keys: SessionKeys, sealed: Uint8Array): Uint8Array;
  /** `handOver`: as `signHandOver` made it. */
  sealHandOver(keys: SessionKeys, handOver: Uint8Array): Uint8Array;
  isSigned(standing: Standing, signingKey: Uint8Array): boolean;
}

export function forget({ claimerProof, deviceProof, toDevice, toClaimer }: SessionKeys): void {
  for (const key of [claimerProof, deviceProof, toDevice, toClaimer]) key.fill(0);
}
