/** What the gateway keeps secret, as one sealed payload. Buffers of it are zeroed by whoever is done with them; see docs/decisions/0008-sealed-keys.md for what JavaScript cannot zero. */
import { hkdfSync, randomBytes } from 'node:crypto';
import { TenzroError } from '#runtime/core/errors.ts';
import type { HierarchyAuth } from '#runtime/core/ports.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { AUTHORITY, newAuthorityScalar } from './authority.ts';

export interface Secrets {
  /** Of the ML-DSA-65 key that signs blocks, 32 bytes. */
  readonly signingSeed: Buffer;
  /** Of the X-Wing key that others encrypt to, 32 bytes. */
  readonly exchangeSeed: Buffer;
  /** What the authorisations of the TPM's hierarchies are derived from, 32 bytes. */
  readonly tpmSecret: Buffer;
  /** Private scalar of the gateway's own authority, 32 bytes; absent where an external one approves. */
  readonly authority?: Buffer;
}

const SECRET_BYTES = 32;
const KEY = { signingSeed: 1, exchangeSeed: 2, tpmSecret: 3, authority: 4 } as const;

/** `kept`: what an earlier identity hands on. */
export function newSecrets({ hasOwnAuthority, ...kept }: { readonly hasOwnAuthority: boolean } & Partial<Pick<Secrets, 'signingSeed' | 'tpmSecret'>>): Secrets {
  const random = (): Buffer => randomBytes(SECRET_BYTES);
  return { signingSeed: random(), exchangeSeed: random(), tpmSecret: random(), ...kept, ...(hasOwnAuthority ? { authority: newAuthorityScalar() } : {}) };
}

export function eraseSecrets(secrets: Secrets): void {
  for (const secret of [secrets.signingSeed, secrets.exchangeSeed, secrets.tpmSecret, secrets.authority]) secret?.fill(0);
}

/** The caller zeroes what it gets. */
export function encodeSecrets({ signingSeed, exchangeSeed, tpmSecret, authority }: Secrets): Buffer {
  const map = new Map<number, Cbor>([[KEY.signingSeed, signingSeed], [KEY.exchangeSeed, exchangeSeed], [KEY.tpmSecret, tpmSecret]]);
  if (authority) map.set(KEY.authority, authority);
  return encodeCbor(map);
}

/** Copies, so that `bytes` may be zeroed. Throws `identity.damaged`, without a byte of it in the message. */
export function decodeSecrets(bytes: Uint8Array): Secrets {
  const map = decodedMap(bytes);
  if (!(map instanceof Map) || [...map.keys()].some((key) => !KNOWN.has(key))) throw damaged();
  const part = (key: number, sizeBytes: number): Buffer => {
    const value: unknown = map.get(key);
    if (!(value instanceof Uint8Array) || value.length !== sizeBytes) throw damaged();
    return Buffer.from(value);
  };
  return {
    signingSeed: part(KEY.signingSeed, SECRET_BYTES), exchangeSeed: part(KEY.exchangeSeed, SECRET_BYTES), tpmSecret: part(KEY.tpmSecret, SECRET_BYTES),
    ...(map.has(KEY.authority) ? { authority: part(KEY.authority, AUTHORITY.scalarBytes) } : {}),
  };
}

function decodedMap(bytes: Uint8Array): Cbor {
  try {
    return decodeCbor(bytes);
  } catch {
    throw damaged(); // without the cause, whose message might quote the bytes
  }
}

const KNOWN: ReadonlySet<unknown> = new Set(Object.values(KEY));
const damaged = (): TenzroError => new TenzroError('identity.damaged', 'what was sealed is not an identity');

/** RFC 5869, a label for each hierarchy. The caller zeroes them. */
export function hierarchyAuthOf(tpmSecret: Uint8Array): HierarchyAuth {
  const derive = (label: string): Buffer => {
    const auth = Buffer.from(hkdfSync('sha256', tpmSecret, new Uint8Array(0), `tenzro/tpm/${label}/1`, SECRET_BYTES));
    auth[SECRET_BYTES - 1] = (auth[SECRET_BYTES - 1] ?? 0) | 1; // trailing zeros of an authValue do not count (TPM 2.0 Part 1, Authorizations and Acknowledgments): let there be none
    return auth;
  };
  return { owner: derive('owner'), endorsement: derive('endorsement'), lockout: derive('lockout') };
}
