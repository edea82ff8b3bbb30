/**
 * The enrolment statement: an enroller's signed word that one identity tuple belongs together, because it ran credential activation with that TPM. CWT
 * claims (RFC 8392) in COSE_Sign1 by an ML-DSA-65 key that stands in the protected header, so that a policy pins it by SHA-256. Pure codec;
 * docs/reference/enrolment.md is its reference.
 */
import { equalBytes } from '#runtime/core/bytes.ts';
import type { Enrolment, EnrolmentBinding, IdentityTuple } from '#runtime/core/enrolment.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { parseSign1, sign1, signingKeyHeader, signingKeyOf, verifySign1 } from '#runtime/crypto/cose.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import { HASH_BYTES, type Identity } from './block.ts';

/** What these claims are: a signed lease or block can never pass for an enrolment. */
const PROFILE = 'urn:uuid:649a327e-d331-48fc-b06a-80eef371167b';
/** Keys of the claims: RFC 8392 §4, `profile` as eat_profile of RFC 9711 §10.2; ours stand in the range for private use, below −65536 (RFC 8392 §9.1.1). */
const CLAIM = {
  iss: 1, sub: 2, iat: 6, profile: 265,
  chainId: -65_801, ek: -65_802, ak: -65_803, signingKey: -65_804, exchangeKey: -65_805, binding: -65_806, certificate: -65_807, root: -65_808,
} as const;
const BINDING = { certified: 1, firstUse: 2 } as const;
/** Key and signature take 5.3 KiB of it. */
const STATEMENT_BYTES_MAX = 8 * 1024;
const NAME_CHARACTERS_MAX = 128;

/** The statement that an entry of kind `enrolment` carries. */
export const signEnrolment = (signer: Signer, enrolment: Enrolment): Buffer => sign1(signer, signingKeyHeader(signer.publicKey), encodeCbor(claimsOf(enrolment)));

function claimsOf({ enroller, issuedAt, tuple, binding }: Enrolment): ReadonlyMap<number, Cbor> {
  const claims = new Map<number, Cbor>([
    [CLAIM.iss, enroller], [CLAIM.sub, tuple.device], [CLAIM.iat, issuedAt], [CLAIM.profile, PROFILE],
    [CLAIM.chainId, tuple.chainId], [CLAIM.ek, tuple.ek], [CLAIM.ak, tuple.ak], [CLAIM.signingKey, tuple.signingKey], [CLAIM.binding, BINDING[binding.kind]],
  ]);
  if (tuple.exchangeKey) claims.set(CLAIM.exchangeKey, tuple.exchangeKey);
  if (binding.certificate) claims.set(CLAIM.certificate, binding.certificate);
  if (binding.kind === 'certified') claims.set(CLAIM.root, binding.root);
  return claims;
}

export interface EnrolmentStatement {
  readonly enrolment: Enrolment;
  /** SHA-256 of the enroller's key: what policies pin. */
  readonly keyDigest: Uint8Array;
  /** The key that the statement names signed it. Costs an ML-DSA verification. */
  readonly isSigned: () => boolean;
}

/** Parses without judging the signature. Throws `enrolment.malformed`; claims beyond ours are refused. */
export function parseEnrolment(statement: Uint8Array): EnrolmentStatement {
  if (statement.length > STATEMENT_BYTES_MAX) throw malformed(`${statement.length} bytes, more than ${STATEMENT_BYTES_MAX}`);
  try {
    const message = parseSign1(statement);
    const key = signingKeyOf(message.header);
    return { enrolment: decodeClaims(decodeCbor(message.payload)), keyDigest: sha256(key), isSigned: () => verifySign1(message, key) };
  } catch (cause) {
    if (cause instanceof TenzroError && cause.code === 'enrolment.malformed') throw cause;
    throw malformed(messageOf(cause), cause);
  }
}

/** The tuple of a chain that began with a TPM, from its genesis; undefined without EK or AK. `device`: as the genesis' signed header names it. */
export function tupleOf(identity: Identity, device: string, chainId: Uint8Array): IdentityTuple | undefined {
  const { signingKey, akPublic, ekPublic, exchangeKey } = identity;
  if (!akPublic || !ekPublic) return undefined;
  return { device, chainId, ek: sha256(ekPublic), ak: sha256(akPublic), signingKey: sha256(signingKey), ...(exchangeKey ? { exchangeKey: sha256(exchangeKey) } : {}) };
}

export type TupleField = keyof IdentityTuple;
const FIELDS = ['ek', 'ak', 'signingKey', 'exchangeKey', 'chainId', 'device'] as const satisfies readonly TupleField[];

/** The first field in which two tuples differ; undefined for the same tuple. */
export function tupleDifference(a: IdentityTuple, b: IdentityTuple): TupleField | undefined {
  const bytesOf = (value: string | Uint8Array | undefined): Uint8Array | undefined => (typeof value === 'string' ? Buffer.from(value) : value);
  return FIELDS.find((field) => {
    const [one, other] = [bytesOf(a[field]), bytesOf(b[field])];
    return one && other ? !equalBytes(one, other) : one !== other;
  });
}

function decodeClaims(value: Cbor): Enrolment {
  if (!(value instanceof Map)) throw malformed('the claims are not a map');
  const claims = value as ReadonlyMap<number, Cbor>;
  const known = new Set<number>(Object.values(CLAIM));
  for (const key of claims.keys()) if (!known.has(key)) throw malformed(`unknown claim ${key}`);
  if (claims.get(CLAIM.profile) !== PROFILE) throw malformed(`its profile is not ${PROFILE}`);
  const issuedAt = claims.get(CLAIM.iat);
  if (typeof issuedAt !== 'number' || !Number.isSafeInteger(issuedAt) || issuedAt < 0) throw malformed('iat is not whole seconds since 1970');
  const hash = (key: number, name: string): Uint8Array => hashOf(claims.get(key), name);
  return {
    enroller: textOf(claims.get(CLAIM.iss), 'iss'), issuedAt,
    tuple: {
      device: textOf(claims.get(CLAIM.sub), 'sub'), chainId: hash(CLAIM.chainId, 'chain id'), ek: hash(CLAIM.ek, 'EK'), ak: hash(CLAIM.ak, 'AK'), signingKey: hash(CLAIM.signingKey, 'signing key'),
      ...(claims.has(CLAIM.exchangeKey) ? { exchangeKey: hash(CLAIM.exchangeKey, 'exchange key') } : {}),
    },
    binding: decodeBinding(claims),
  };
}

function decodeBinding(claims: ReadonlyMap<number, Cbor>): EnrolmentBinding {
  const number = claims.get(CLAIM.binding);
  if (number === BINDING.certified) return { kind: 'certified', certificate: hashOf(claims.get(CLAIM.certificate), 'EK certificate'), root: hashOf(claims.get(CLAIM.root), 'root') };
  if (number !== BINDING.firstUse || claims.has(CLAIM.root)) throw malformed('it does not say how the AK was bound');
  return { kind: 'firstUse', ...(claims.has(CLAIM.certificate) ? { certificate: hashOf(claims.get(CLAIM.certificate), 'EK certificate') } : {}) };
}

function hashOf(value: Cbor | undefined, name: string): Uint8Array {
  if (!(value instanceof Uint8Array) || value.length !== HASH_BYTES) throw malformed(`${name} is not a SHA-256`);
  return value;
}
function textOf(value: Cbor | undefined, name: string): string {
  if (typeof value !== 'string' || value === '' || value.length > NAME_CHARACTERS_MAX) throw malformed(`${name} is not text of 1 to ${NAME_CHARACTERS_MAX} characters`);
  return value;
}

const malformed = (why: string, cause?: unknown): TenzroError => new TenzroError('enrolment.malformed', `enrolment statement: ${why}`, cause === undefined ? {} : { cause });
