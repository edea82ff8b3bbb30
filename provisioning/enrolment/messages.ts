/**
 * The three messages of enrolment, deterministic CBOR with integer keys; docs/reference/enrolment.md is their reference. Whoever reads one holds it to be
 * hostile: lengths are bounded before anything is decoded, unknown keys are refused.
 */
import { TenzroError, messageOf, type ErrorCode } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { MLDSA65 } from '#runtime/crypto/mldsa.ts';

const VERSION = 1;
export const NONCE_BYTES = 32;
const HASH_BYTES = 32;
const NAME_CHARACTERS_MAX = 128;
/** TPMT_PUBLIC, TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET of our algorithms are far smaller. */
const TPM_STRUCTURE_BYTES_MAX = 1_024;
/** X-Wing public key. */
const EXCHANGE_KEY_BYTES = 1_216;
const ANSWER_DOMAIN = Buffer.from('tenzro/enrolment/answer/1', 'utf8');

/** Who asks to be enrolled: the identity of its genesis, whole. */
export interface EnrolmentRequest {
  /** Gateway id, as the genesis' signed header names it. */
  readonly device: string;
  /** SHA-256 of the genesis payload. */
  readonly chainId: Uint8Array;
  /** TPMT_PUBLIC. */
  readonly ekPublic: Uint8Array;
  /** TPMT_PUBLIC. */
  readonly akPublic: Uint8Array;
  /** ML-DSA-65, 1952 bytes. */
  readonly signingKey: Uint8Array;
  /** X-Wing, 1216 bytes. */
  readonly exchangeKey?: Uint8Array;
  /** X.509 DER: the EK's first, then issuers in any order. Empty: the TPM has none. */
  readonly certificates: readonly Uint8Array[];
}

export interface EnrolmentChallenge {
  readonly nonce: Uint8Array;
  /** Contents of the TPM2B_ID_OBJECT. */
  readonly blob: Uint8Array;
  /** Contents of the TPM2B_ENCRYPTED_SECRET. */
  readonly secret: Uint8Array;
}

export interface EnrolmentAnswer {
  readonly nonce: Uint8Array;
  /** HMAC-SHA256 with the activated secret over `answerDigest`. */
  readonly proof: Uint8Array;
  /** ML-DSA-65 over `answerDigest`. */
  readonly signature: Uint8Array;
}

const REQUEST = { version: 1, device: 2, chainId: 3, ekPublic: 4, akPublic: 5, signingKey: 6, exchangeKey: 7, certificates: 8 } as const;
const CHALLENGE = { version: 1, nonce: 2, blob: 3, secret: 4 } as const;
const ANSWER = { version: 1, nonce: 2, proof: 3, signature: 4 } as const;

/**
 * What both proofs of an answer are about: this request and this challenge, whole. A secret that another gateway's TPM opened is thereby worth nothing for
 * a request with other keys.
 */
export const answerDigest = (request: Uint8Array, challenge: Uint8Array): Buffer => sha256(ANSWER_DOMAIN, sha256(request), sha256(challenge));
/** What the identity key signs: never a bare digest, so that the signature can mean nothing else. */
export const answerMessage = (digest: Uint8Array): Buffer => Buffer.concat([ANSWER_DOMAIN, digest]);

export function encodeRequest(request: EnrolmentRequest): Buffer {
  const map = new Map<number, Cbor>([
    [REQUEST.version, VERSION], [REQUEST.device, request.device], [REQUEST.chainId, request.chainId], [REQUEST.ekPublic, request.ekPublic], [REQUEST.akPublic, request.akPublic],
    [REQUEST.signingKey, request.signingKey], [REQUEST.certificates, [...request.certificates]],
  ]);
  if (request.exchangeKey) map.set(REQUEST.exchangeKey, request.exchangeKey);
  return encodeCbor(map);
}

/** Throws `enrol.request`. */
export function decodeRequest(bytes: Uint8Array): EnrolmentRequest {
  return reading('enrol.request', 'enrolment request', () => {
    const fields = open(bytes, REQUEST);
    const device = fields.get(REQUEST.device);
    if (typeof device !== 'string' || device === '' || device.length > NAME_CHARACTERS_MAX) throw odd(`the device is not text of 1 to ${NAME_CHARACTERS_MAX} characters`);
    return {
      device, chainId: exactly(fields.get(REQUEST.chainId), HASH_BYTES, 'the chain id'),
      ekPublic: atMost(fields.get(REQUEST.ekPublic), TPM_STRUCTURE_BYTES_MAX, 'the EK'), akPublic: atMost(fields.get(REQUEST.akPublic), TPM_STRUCTURE_BYTES_MAX, 'the AK'),
      signingKey: exactly(fields.get(REQUEST.signingKey), MLDSA65.publicKeyBytes, 'the signing key'),
      ...(fields.has(REQUEST.exchangeKey) ? { exchangeKey: exactly(fields.get(REQUEST.exchangeKey), EXCHANGE_KEY_BYTES, 'the exchange key') } : {}),
      certificates: certificatesOf(fields.get(REQUEST.certificates)),
    };
  });
}

export const encodeChallenge = ({ nonce, blob, secret }: EnrolmentChallenge): Buffer =>
  encodeCbor(new Map<number, Cbor>([[CHALLENGE.version, VERSION], [CHALLENGE.nonce, nonce], [CHALLENGE.blob, blob], [CHALLENGE.secret, secret]]));

/** Throws `enrol.challenge`. */
export function decodeChallenge(bytes: Uint8Array): EnrolmentChallenge {
  return reading('enrol.challenge', 'enrolment challenge', () => {
    const fields = open(bytes, CHALLENGE);
    return {
      nonce: exactly(fields.get(CHALLENGE.nonce), NONCE_BYTES, 'the nonce'),
      blob: atMost(fields.get(CHALLENGE.blob), TPM_STRUCTURE_BYTES_MAX, 'the credential'), secret: atMost(fields.get(CHALLENGE.secret), TPM_STRUCTURE_BYTES_MAX, 'the secret'),
    };
  });
}

export const encodeAnswer = ({ nonce, proof, signature }: EnrolmentAnswer): Buffer =>
  encodeCbor(new Map<number, Cbor>([[ANSWER.version, VERSION], [ANSWER.nonce, nonce], [ANSWER.proof, proof], [ANSWER.signature, signature]]));

/** Throws `enrol.answer`. */
export function decodeAnswer(bytes: Uint8Array): EnrolmentAnswer {
  return reading('enrol.answer', 'enrolment answer', () => {
    const fields = open(bytes, ANSWER);
    return {
      nonce: exactly(fields.get(ANSWER.nonce), NONCE_BYTES, 'the nonce'), proof: exactly(fields.get(ANSWER.proof), HASH_BYTES, 'the proof'),
      signature: exactly(fields.get(ANSWER.signature), MLDSA65.signatureBytes, 'the signature'),
    };
  });
}

function open(bytes: Uint8Array, keys: Readonly<Record<string, number>>): ReadonlyMap<number, Cbor> {
  if (bytes.length > LIMITS.enrolmentMessageBytesMax) throw odd(`${bytes.length} bytes, more than ${LIMITS.enrolmentMessageBytesMax}`);
  const map = decodeCbor(bytes);
  if (!(map instanceof Map)) throw odd('not a map');
  const fields = map as ReadonlyMap<number, Cbor>;
  const known = new Set(Object.values(keys));
  for (const key of fields.keys()) if (!known.has(key)) throw odd(`unknown key ${key}`);
  if (fields.get(REQUEST.version) !== VERSION) throw odd(`not of version ${VERSION}`);
  return fields;
}

function certificatesOf(value: Cbor | undefined): readonly Uint8Array[] {
  if (!Array.isArray(value) || value.length > LIMITS.ekCertificatesMax) throw odd(`the certificates are not a list of at most ${LIMITS.ekCertificatesMax}`);
  return (value as readonly Cbor[]).map((certificate) => atMost(certificate, LIMITS.certificateBytesMax, 'a certificate'));
}

function exactly(value: Cbor | undefined, bytes: number, name: string): Uint8Array {
  if (!(value instanceof Uint8Array) || value.length !== bytes) throw odd(`${name} is not ${bytes} bytes`);
  return value;
}

function atMost(value: Cbor | undefined, bytes: number, name: string): Uint8Array {
  if (!(value instanceof Uint8Array) || value.length === 0 || value.length > bytes) throw odd(`${name} is not 1 to ${bytes} bytes`);
  return value;
}

function reading<T>(code: ErrorCode, name: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw new TenzroError(code, `${name}: ${messageOf(cause)}`, { cause });
  }
}

/** `reading` gives it the code of the message. */
const odd = (why: string): TenzroError => new TenzroError('cbor.malformed', why);
