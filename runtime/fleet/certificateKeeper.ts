/**
 * The certificate that the owner's fleet gave to this gateway, and gives anew long before it ends: what its broker delivers is judged here, kept beside the
 * owner's record, and shown at the next connection. INVARIANT: what is held was judged; nothing that ends earlier takes its place.
 */
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { Upstream } from '#runtime/core/fleet.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import { derOfFile } from '#runtime/crypto/certificatePath.ts';
import { judgeOffer } from '#runtime/crypto/gatewayCertificate.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { parseCertificate } from '#runtime/crypto/x509.ts';

export interface CertificateKeeperOptions {
  readonly store: KeyValueStore;
  /** SubjectPublicKeyInfo of the identity key as it is now, DER. */
  readonly identity: () => Uint8Array;
  /** A time that has passed for sure, µs since 1970. */
  readonly provenMicros: () => number;
  /** By SHA-256 of a SubjectPublicKeyInfo. */
  readonly isRevoked: (spkiDigest: Uint8Array) => boolean;
  /** Another one is to be shown from now on; it is on its way to the disk. MUST NOT throw. */
  readonly onTaken: (taken: Taken) => void;
}

export interface Taken {
  /** The gateway's own, its issuers behind it. */
  readonly pem: string;
  /** SHA-256 of `pem`. */
  readonly digest: Uint8Array;
  /** Milliseconds since 1970. */
  readonly endsMs: number;
}

interface Held {
  readonly roots: Upstream['ca'];
  /** Of the identity key. */
  readonly spki: Uint8Array;
  /** Empty: none is around that key yet. */
  readonly pem: string;
  readonly endsMs: number;
}

const KEY = 'fleet/certificate';

export class CertificateKeeper {
  readonly #options: CertificateKeeperOptions;
  #held: Held | undefined;

  constructor(options: CertificateKeeperOptions) { this.#options = options; }

  /** Milliseconds since 1970; undefined where the owner's broker asks for none of the fleet's. */
  get endsMs(): number | undefined { return this.#held?.pem ? this.#held.endsMs : undefined; }

  /**
   * The upstream of the owner as it was handed over, with the newest certificate that was delivered since. After `tenzro identity rotate` the one that was
   * handed over is around the key before: until the fleet delivers another, the gateway signs its own.
   */
  renewed(upstream: Upstream): Upstream {
    const { certificate, ca } = upstream;
    this.#held = undefined;
    const [leaf] = certificate?.kind === 'issued' ? chainOf(certificate.pem) : [];
    if (certificate?.kind !== 'issued' || !leaf) return upstream;
    const { spki, notAfterMs } = parseCertificate(leaf);
    const identity = this.#options.identity();
    const handed = equalBytes(spki, identity) ? { roots: ca, spki, pem: certificate.pem, endsMs: notAfterMs } : { roots: ca, spki: identity, pem: '', endsMs: 0 };
    this.#held = handed;
    for (const { key, value } of this.#options.store.range(KEY)) {
      const verdict = key === KEY ? this.#judge(value, handed) : undefined;
      if (verdict?.kind === 'good' && verdict.endsMs > handed.endsMs) this.#held = { ...handed, pem: Buffer.from(value).toString('latin1'), endsMs: verdict.endsMs };
    }
    const { pem } = this.#held;
    return { ...upstream, certificate: pem === '' ? { kind: 'own' } : { kind: 'issued', pem } };
  }

  /** Nobody owns the gateway any more. */
  release(): void {
    this.#held = undefined;
    this.#options.store.remove(KEY);
  }

  /** Hostile bytes. Throws `fleet.certificate` for what is not to be shown, and leaves all as it was. */
  take(pem: Buffer): void {
    const before = this.#held;
    if (!before) throw refused('this gateway shows no certificate of a fleet');
    const text = pem.toString('latin1');
    if (text === before.pem) return;
    const verdict = this.#judge(pem, before);
    if (verdict.kind === 'bad') throw refused(verdict.why);
    if (verdict.endsMs <= before.endsMs && !this.#isRevoked(before.pem)) throw refused(`it ends on ${dayOf(verdict.endsMs)}, the one that is held on ${dayOf(before.endsMs)}`);
    this.#held = { ...before, pem: text, endsMs: verdict.endsMs };
    this.#options.store.put(KEY, pem);
    this.#options.onTaken({ pem: text, digest: sha256(pem), endsMs: verdict.endsMs });
  }

  #judge(pem: Uint8Array, { roots, spki }: Held): ReturnType<typeof judgeOffer> {
    const { provenMicros, isRevoked } = this.#options;
    return judgeOffer({ pem, roots, spki, provenMicros: provenMicros(), isRevoked });
  }

  /** Whether an authority that the owner revoked issued it: then any other is better. */
  #isRevoked(pem: string): boolean {
    const [, ...issuers] = chainOf(pem);
    return issuers.some((der) => this.#options.isRevoked(sha256(parseCertificate(der).spki)));
  }
}

const chainOf = (pem: string): readonly Uint8Array[] => derOfFile(Buffer.from(pem), LIMITS.certificateChainMax) ?? [];
const dayOf = (ms: number): string => new Date(ms).toISOString().slice(0, 10);
const refused = (why: string): TenzroError => new TenzroError('fleet.certificate', `the certificate for this gateway does not count: ${why}`);
