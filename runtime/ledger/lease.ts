/**
 * A lease: a verifier's signed word that it appraised one chain, in one boot, and found it in order; blocks name it by its SHA-256. An entity attestation
 * token (RFC 9711) of CWT claims (RFC 8392) in COSE_Sign1, by an ML-DSA-65 key that stands in the protected header: whoever pins that key's SHA-256 needs
 * nothing else. Pure codec; docs/reference/lease.md is its reference.
 */
import { toHex } from '#runtime/core/bytes.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { CONCEPTUAL_MESSAGE, decodeCmw, encodeCmw } from '#runtime/crypto/cmw.ts';
import { parseSign1, sign1, signingKeyHeader, signingKeyOf, verifySign1, type Sign1 } from '#runtime/crypto/cose.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import { HASH_BYTES, type Identity } from './block.ts';

/** What `eat_profile` says (RFC 9711 §4.3.2 wants a URI or an OID): the claims of this file, and how they are signed. */
export const LEASE_PROFILE = 'urn:uuid:09d832d9-1367-4a59-8ce9-9b2d393d06aa';
/** RFC 9782 §6.3: an EAT that is a CWT. */
const LEASE_MEDIA_TYPE = `application/eat+cwt; eat_profile="${LEASE_PROFILE}"`;

/** As the verifier's report says it. */
export type VerdictResult = 'pass' | 'fail' | 'unknown' | 'skipped';
export type Verdict = readonly [check: string, result: VerdictResult];

export interface Lease {
  /** The verifier's name. */
  readonly issuer: string;
  readonly chainId: Uint8Array;
  /** 16 random bytes: no two leases are alike. */
  readonly id: Uint8Array;
  /** The verifier's clock, whole seconds since 1970. */
  readonly issuedAt: number;
  readonly expiresAt: number;
  /** The challenge that was answered. */
  readonly nonce: Uint8Array;
  /** `identityDigest` of the appraised identity. */
  readonly identity: Uint8Array;
  readonly bootEpoch: number;
  /** Of the TPM at the appraised block; absent where it had no TPM evidence. */
  readonly tpm?: { readonly resetCount: number; /** Milliseconds. */ readonly clock: number };
  /** The appraised block. */
  readonly sequence: number;
  readonly blockHash: Uint8Array;
  /** SHA-256 of the policy file. */
  readonly policy: Uint8Array;
  /** Trust level that the verifier computed. */
  readonly trust: string;
  /** What was measured and compared with reference values. */
  readonly measurements: readonly Verdict[];
  /** Every other check. */
  readonly verdicts: readonly Verdict[];
}

/** What an appraisal finds; the verifier adds its name, the nonce and the times. */
export type LeaseClaims = Omit<Lease, 'issuer' | 'id' | 'issuedAt' | 'expiresAt' | 'nonce'>;

/**
 * Keys of the claims. RFC 8392 §4: iss to cti. RFC 9711: eat_nonce §4.1, ueid §4.2.1, measres §4.2.17, eat_profile §4.3.2; numbers in §10.2. Ours stand
 * in the range for private use, below −65536 (RFC 8392 §9.1.1).
 */
const CLAIM = {
  iss: 1, sub: 2, exp: 4, nbf: 5, iat: 6, cti: 7, nonce: 10, ueid: 256, profile: 265, measurements: 274,
  identity: -65_701, bootEpoch: -65_702, resetCount: -65_703, tpmClock: -65_704, sequence: -65_705, blockHash: -65_706, policy: -65_707, trust: -65_708, verdicts: -65_709,
} as const;
/** `result-type` of measres, RFC 9711 §4.2.17: success, fail, measurement-absent, comparison-not-run. */
const RESULT = { pass: 1, fail: 2, unknown: 4, skipped: 3 } as const satisfies Record<VerdictResult, number>;
const RESULT_NAMES = new Map<number, VerdictResult>(Object.entries(RESULT).map(([name, number]) => [number, name as VerdictResult]));
/** `measurement-system` of measres. */
const MEASUREMENT_SYSTEM = 'tenzro';
/** UEID type RAND, RFC 9711 §4.2.1.1 table 1: random bytes, or a hash over what identifies the entity. */
const UEID_RAND = 0x01;
/** RFC 9711 §4.1. */
const NONCE_BYTES = { min: 8, max: 64 } as const;
const ID_BYTES = 16;
const NAME_CHARACTERS_MAX = 128;
const VERDICTS_MAX = 64;
/** Key and signature take 5.3 KiB of it. */
const STATEMENT_BYTES_MAX = 32 * 1024;
const IDENTITY_DOMAIN = Buffer.from('tenzro/identity/1', 'utf8');

/** SHA-256 of signing key, AK and EK: what an enrolment's tuple holds too. */
export interface IdentityKeyDigests {
  readonly signingKey: Uint8Array;
  readonly ak?: Uint8Array;
  readonly ek?: Uint8Array;
}

export const keyDigestsOf = ({ signingKey, akPublic, ekPublic }: Identity): IdentityKeyDigests => ({
  signingKey: sha256(signingKey), ...(akPublic ? { ak: sha256(akPublic) } : {}), ...(ekPublic ? { ek: sha256(ekPublic) } : {}),
});

/** What makes a device that device, bound for ever. Names and certificates may change. */
export const identityDigest = ({ signingKey, ak, ek }: IdentityKeyDigests): Buffer => sha256(IDENTITY_DOMAIN, encodeCbor([signingKey, ak ?? null, ek ?? null]));

/** The statement: what an entry of kind `lease` carries and what blocks name by its SHA-256. */
export const signLease = (signer: Signer, lease: Lease): Buffer => sign1(signer, signingKeyHeader(signer.publicKey), encodeCbor(claimsOf(lease)));

function claimsOf(lease: Lease): ReadonlyMap<number, Cbor> {
  const claims = new Map<number, Cbor>([
    [CLAIM.iss, lease.issuer], [CLAIM.sub, toHex(lease.chainId)], [CLAIM.exp, lease.expiresAt], [CLAIM.nbf, lease.issuedAt], [CLAIM.iat, lease.issuedAt], [CLAIM.cti, lease.id],
    [CLAIM.nonce, lease.nonce], [CLAIM.ueid, Buffer.of(UEID_RAND, ...lease.identity)], [CLAIM.profile, LEASE_PROFILE], [CLAIM.measurements, [[MEASUREMENT_SYSTEM, encodeVerdicts(lease.measurements)]]],
    [CLAIM.identity, lease.identity], [CLAIM.bootEpoch, lease.bootEpoch], [CLAIM.sequence, lease.sequence], [CLAIM.blockHash, lease.blockHash],
    [CLAIM.policy, lease.policy], [CLAIM.trust, lease.trust], [CLAIM.verdicts, encodeVerdicts(lease.verdicts)],
  ]);
  if (lease.tpm) claims.set(CLAIM.resetCount, lease.tpm.resetCount).set(CLAIM.tpmClock, lease.tpm.clock);
  return claims;
}

const encodeVerdicts = (verdicts: readonly Verdict[]): Cbor => verdicts.map(([check, result]) => [check, RESULT[result]]);

export interface LeaseStatement {
  readonly lease: Lease;
  /** The key that the statement names; `isSignedBy` says whether it signed. */
  readonly signingKey: Uint8Array;
  readonly message: Sign1;
}

/** Parses without judging the signature. Throws `lease.malformed`. */
export function parseLease(statement: Uint8Array): LeaseStatement {
  if (statement.length > STATEMENT_BYTES_MAX) throw malformed(`${statement.length} bytes, more than ${STATEMENT_BYTES_MAX}`);
  try {
    const message = parseSign1(statement);
    return { lease: decodeClaims(decodeCbor(message.payload)), signingKey: signingKeyOf(message.header), message };
  } catch (cause) {
    if (cause instanceof TenzroError && cause.code === 'lease.malformed') throw cause;
    throw malformed(messageOf(cause), cause);
  }
}

/** By its own key, and that key is the one whose SHA-256 is given. */
export const isSignedBy = ({ signingKey, message }: LeaseStatement, keyDigest: Uint8Array): boolean =>
  Buffer.compare(sha256(signingKey), keyDigest) === 0 && verifySign1(message, signingKey);

/** For a lease that travels alone. */
export const wrapLease = (statement: Uint8Array): Buffer => encodeCmw({ type: LEASE_MEDIA_TYPE, value: statement, indicator: CONCEPTUAL_MESSAGE.attestationResults });

/** Throws `lease.malformed` for a wrapper of anything else. */
export function unwrapLease(bytes: Uint8Array): Uint8Array {
  try {
    const { type, value, indicator } = decodeCmw(bytes);
    if (type !== LEASE_MEDIA_TYPE || indicator !== CONCEPTUAL_MESSAGE.attestationResults) throw malformed(`the wrapper holds '${type}'`);
    return value;
  } catch (cause) {
    if (cause instanceof TenzroError && cause.code === 'lease.malformed') throw cause;
    throw malformed(messageOf(cause), cause);
  }
}

/** Exactly these claims: a verifier's further word would go unheard. */
function decodeClaims(value: Cbor): Lease {
  if (!(value instanceof Map)) throw malformed('the claims are not a map');
  const claims = value as ReadonlyMap<number, Cbor>;
  const known = new Set<number>(Object.values(CLAIM));
  for (const key of claims.keys()) if (!known.has(key)) throw malformed(`unknown claim ${key}`);
  if (claims.get(CLAIM.profile) !== LEASE_PROFILE) throw malformed(`its profile is not ${LEASE_PROFILE}`);
  const identity = bytesOf(claims.get(CLAIM.identity), 'identity', HASH_BYTES);
  if (Buffer.compare(bytesOf(claims.get(CLAIM.ueid), 'ueid', 1 + HASH_BYTES), Buffer.of(UEID_RAND, ...identity)) !== 0) throw malformed('ueid is not made of the identity');
  const sub = claims.get(CLAIM.sub);
  if (typeof sub !== 'string' || !/^[0-9a-f]{64}$/.test(sub)) throw malformed('sub is not a chain id in hex');
  const [issuedAt, expiresAt] = [countOf(claims.get(CLAIM.iat), 'iat'), countOf(claims.get(CLAIM.exp), 'exp')];
  if (claims.get(CLAIM.nbf) !== issuedAt || expiresAt <= issuedAt) throw malformed('nbf is not iat, or exp does not come after it');
  if (claims.has(CLAIM.resetCount) !== claims.has(CLAIM.tpmClock)) throw malformed('one of reset count and TPM clock stands alone');
  return {
    issuer: textOf(claims.get(CLAIM.iss), 'iss'), chainId: Buffer.from(sub, 'hex'), id: bytesOf(claims.get(CLAIM.cti), 'cti', ID_BYTES), issuedAt, expiresAt, nonce: nonceOf(claims.get(CLAIM.nonce)), identity,
    bootEpoch: countOf(claims.get(CLAIM.bootEpoch), 'boot epoch'), sequence: countOf(claims.get(CLAIM.sequence), 'sequence'), blockHash: bytesOf(claims.get(CLAIM.blockHash), 'block hash', HASH_BYTES),
    policy: bytesOf(claims.get(CLAIM.policy), 'policy', HASH_BYTES), trust: textOf(claims.get(CLAIM.trust), 'trust level'),
    measurements: decodeMeasurements(claims.get(CLAIM.measurements)), verdicts: decodeVerdicts(claims.get(CLAIM.verdicts)),
    ...(claims.has(CLAIM.resetCount) ? { tpm: { resetCount: countOf(claims.get(CLAIM.resetCount), 'reset count'), clock: countOf(claims.get(CLAIM.tpmClock), 'TPM clock') } } : {}),
  };
}

function decodeMeasurements(value: Cbor | undefined): readonly Verdict[] {
  const [group, ...others] = listOf(value, 'measres');
  const [system, results, ...rest] = listOf(group, 'measres');
  if (others.length > 0 || rest.length > 0 || system !== MEASUREMENT_SYSTEM) throw malformed(`measres is not one group of ${MEASUREMENT_SYSTEM}`);
  return decodeVerdicts(results);
}

function decodeVerdicts(value: Cbor | undefined): readonly Verdict[] {
  const items = listOf(value, 'verdicts');
  if (items.length > VERDICTS_MAX) throw malformed(`more than ${VERDICTS_MAX} verdicts`);
  return items.map((item) => {
    const [check, number, ...rest] = listOf(item, 'a verdict');
    const result = typeof number === 'number' ? RESULT_NAMES.get(number) : undefined;
    if (result === undefined || rest.length > 0) throw malformed('a verdict is not a pair of check and result');
    return [textOf(check, 'a check'), result];
  });
}

function listOf(value: Cbor | undefined, name: string): readonly Cbor[] {
  if (!Array.isArray(value)) throw malformed(`${name} is not a list`);
  return value as readonly Cbor[];
}
function bytesOf(value: Cbor | undefined, name: string, length: number): Uint8Array {
  if (!(value instanceof Uint8Array) || value.length !== length) throw malformed(`${name} is not ${length} bytes`);
  return value;
}
function nonceOf(value: Cbor | undefined): Uint8Array {
  if (!(value instanceof Uint8Array) || value.length < NONCE_BYTES.min || value.length > NONCE_BYTES.max) throw malformed(`eat_nonce is not ${NONCE_BYTES.min} to ${NONCE_BYTES.max} bytes`);
  return value;
}
function textOf(value: Cbor | undefined, name: string): string {
  if (typeof value !== 'string' || value === '' || value.length > NAME_CHARACTERS_MAX) throw malformed(`${name} is not text of at most ${NAME_CHARACTERS_MAX} characters`);
  return value;
}
function countOf(value: Cbor | undefined, name: string): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw malformed(`${name} is not a non-negative integer`);
  return value;
}

const malformed = (why: string, cause?: unknown): TenzroError => new TenzroError('lease.malformed', `lease: ${why}`, cause === undefined ? {} : { cause });
