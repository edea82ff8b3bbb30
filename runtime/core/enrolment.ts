/** What an enroller states about one gateway. The codec is ledger/enrolment.ts, the protocol provisioning/enrolment/. */

/** What makes a device that device. Immutable: whatever changes, the device is enrolled anew. */
export interface IdentityTuple {
  /** Gateway id, as the genesis' signed header names it. */
  readonly device: string;
  /** SHA-256 of the genesis payload. */
  readonly chainId: Uint8Array;
  /** SHA-256 of the EK's TPMT_PUBLIC. */
  readonly ek: Uint8Array;
  /** SHA-256 of the AK's TPMT_PUBLIC. */
  readonly ak: Uint8Array;
  /** SHA-256 of the ML-DSA-65 public key. */
  readonly signingKey: Uint8Array;
  /** SHA-256 of the exchange key; absent where the genesis has none. */
  readonly exchangeKey?: Uint8Array;
}

/** The AK was proven to live in the TPM of the EK (credential activation), and the EK … */
export type EnrolmentBinding =
  /** … is of a TPM whose maker's certificate chained to a root of the enroller. */
  | { readonly kind: 'certified'; /** SHA-256 of the certificates' DER. */ readonly certificate: Uint8Array; readonly root: Uint8Array }
  /** … was taken as the gateway gave it: trust on first use. */
  | { readonly kind: 'firstUse'; /** SHA-256 of an EK certificate that chained to none of the enroller's roots. */ readonly certificate?: Uint8Array };

export interface Enrolment {
  /** Name that the enroller gives itself. */
  readonly enroller: string;
  /** The enroller's clock, whole seconds since 1970. */
  readonly issuedAt: number;
  readonly tuple: IdentityTuple;
  readonly binding: EnrolmentBinding;
}
