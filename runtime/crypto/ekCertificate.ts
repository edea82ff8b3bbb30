/** Whether an EK certificate is what it should be: TCG EK Credential Profile for TPM Family 2.0, path validation as in RFC 5280 §6.1. */

/** A trust anchor, as a report names it. */
export interface AnchorName {
  readonly subject: string;
  /** SHA-256 of the certificate's DER. */
  readonly fingerprint: Uint8Array;
}

export type EkVerdict =
  /** The path ends in an anchor and everything on it holds. */
  | { readonly kind: 'chained'; /** SHA-256 of the EK certificate. */ readonly certificate: Uint8Array; readonly root: AnchorName; readonly tpm: TpmDescription }
  /** There is no certificate, or none of the anchors stands at its path's end: nothing was learnt. */
  | { readonly kind: 'unchained'; readonly why: string }
  /** The certificate, or a path to an anchor, is not what it must be. */
  | { readonly kind: 'broken'; readonly why: string };

/** What the maker says about the TPM (EK Credential Profile, "Subject Alternative Name"). */
export interface TpmDescription {
  /** TCG vendor ID, printable where it is, e.g. `IFX`, `STM `. */
  readonly manufacturer: string;
  readonly model: string;
  /** TPM firmware version, hex digits as the certificate has them. */
  readonly version: string;
}
