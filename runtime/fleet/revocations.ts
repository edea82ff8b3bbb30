/**
 * What the owner of this gateway took back: keys of operators, authorities of brokers, the receipt key of a controller. In force at once, kept over restarts for
 * as long as the gateway belongs to that fleet. INVARIANT: what was taken back stays so; no older list, and no list of a key that was taken back, changes anything.
 */
import { equalBytes, toHex } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { Owner } from '#runtime/core/fleet.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import { derOfFile } from '#runtime/crypto/certificatePath.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { decodeRevoked, encodeRevoked, judgeRevocation, NOTHING_REVOKED, parseRevocation, receiptKeyNow, spkiDigestOf, type RevocationList, type Revoked } from '#runtime/crypto/revocation.ts';
import { thumbprintOf } from '#runtime/crypto/jws.ts';
import { parseCertificate } from '#runtime/crypto/x509.ts';

export interface RevocationsOptions {
  readonly store: KeyValueStore;
  /** In force, and on its way to the disk. MUST NOT throw. */
  readonly onTaken: (list: RevocationList, signed: { readonly message: Uint8Array; readonly kid: string }) => void;
}

interface Fleet {
  readonly owners: readonly Uint8Array[];
  readonly authority: string;
}

const PREFIX = 'fleet/revoked/';

export class Revocations {
  readonly #options: RevocationsOptions;
  #fleet: Fleet | undefined;
  #revoked: Revoked = NOTHING_REVOKED;
  /** SHA-256 of the newest list of each key. */
  readonly #digests = new Map<string, Uint8Array>();

  constructor(options: RevocationsOptions) { this.#options = options; }

  /** Whose lists count from now on, with all that they said in earlier runs. Throws `ledger.corrupt`. */
  own({ ownerKeys, upstream }: Owner): void {
    const [root] = [upstream.ca].flat().flatMap((pem) => derOfFile(Buffer.from(pem), 1) ?? []);
    const authority = root ? spkiDigestOf(parseCertificate(root).spki) : '';
    this.#fleet = { owners: ownerKeys, authority };
    this.#revoked = NOTHING_REVOKED;
    this.#digests.clear();
    for (const { key, value } of this.#options.store.range(`${PREFIX}${authority}`)) {
      if (key === `${PREFIX}${authority}`) this.#revoked = decodeRevoked(value);
      else this.#digests.set(key.slice(PREFIX.length + authority.length + 1), Uint8Array.from(value));
    }
  }

  /** Nobody owns the gateway any more. What a fleet took back is in force again when that fleet claims it anew. */
  release(): void {
    this.#fleet = undefined;
    this.#revoked = NOTHING_REVOKED;
    this.#digests.clear();
  }

  /** JWK thumbprints of keys that count no more. */
  get keys(): readonly string[] { return [...this.#revoked.keys]; }
  isKeyRevoked(kid: string): boolean { return this.#revoked.keys.has(kid); }
  isOwnerKeyRevoked(publicKey: Uint8Array): boolean { return this.#revoked.keys.size > 0 && this.isKeyRevoked(thumbprintOf(publicKey)); }
  /** By SHA-256 of a SubjectPublicKeyInfo. */
  isAuthorityRevoked(spkiDigest: Uint8Array): boolean { return this.#revoked.authorities.size > 0 && this.#revoked.authorities.has(toHex(spkiDigest)); }
  /** The one (SHA-256) in place of which that one was handed over. */
  receiptKey(handedOver: Uint8Array): Uint8Array { return receiptKeyNow(handedOver, this.#revoked); }

  /** Hostile bytes. Throws `fleet.revocation` and `jws.malformed`, and leaves all as it was. */
  take(message: Buffer): void {
    const fleet = this.#fleet;
    if (!fleet) throw new TenzroError('fleet.revocation', 'nobody owns this gateway');
    if (this.#isHeld(message)) return;
    const signed = parseRevocation(message);
    this.#revoked = judgeRevocation(signed, { ...fleet, before: this.#revoked });
    this.#digests.set(signed.kid, sha256(message));
    this.#options.store.put(`${PREFIX}${fleet.authority}/${signed.kid}`, sha256(message));
    this.#options.store.put(`${PREFIX}${fleet.authority}`, encodeRevoked(this.#revoked));
    this.#options.onTaken(signed.list, { message, kid: signed.kid });
  }

  /** The newest list of a key comes again with every connection. */
  #isHeld(message: Uint8Array): boolean {
    const digest = sha256(message);
    for (const held of this.#digests.values()) if (equalBytes(held, digest)) return true;
    return false;
  }
}
