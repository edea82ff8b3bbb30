/**
 * JSON Web Signature (RFC 7515), compact and with detached content (appendix F), by ML-DSA-65 with an empty context as RFC 9964 has it for JOSE. The
 * protected header is exactly `{"alg":"ML-DSA-65","kid":…,"typ":…}`; the key is named by its JWK thumbprint (RFC 7638).
 */
import { asBuffer } from '#runtime/core/bytes.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { sha256 } from './hash.ts';
import { MLDSA65, verifyMlDsa65, type Signer } from './mldsa.ts';

/** Name of the algorithm, and key type "Algorithm Key Pair": RFC 9964, "JSON Web Signature and Encryption Algorithms" and "JSON Web Key Types". */
const ALG = 'ML-DSA-65';
const KTY = 'AKP';
/** A header takes 110 bytes and a signature 4,412 characters. */
const JWS_CHARS_MAX = 6_144;

export interface DetachedJws {
  /** Thumbprint of the key that the header names, base64url. */
  readonly kid: string;
  /** Over `payload`, by the raw public key. Costs an ML-DSA verification. */
  isSignedBy(publicKey: Uint8Array, payload: Uint8Array): boolean;
}

const base64url = (bytes: Uint8Array): string => asBuffer(bytes).toString('base64url');

/** RFC 7638 over the members that RFC 9964 requires of an AKP key: alg, kty, pub. */
export const thumbprintOf = (publicKey: Uint8Array): string => base64url(sha256(Buffer.from(`{"alg":"${ALG}","kty":"${KTY}","pub":"${base64url(publicKey)}"}`)));

/** `header..signature`. `typ` (RFC 7515 §4.1.9) keeps signatures of one purpose from passing for another. */
export function signDetached(signer: Signer, payload: Uint8Array, typ: string): string {
  const header = base64url(Buffer.from(JSON.stringify({ alg: ALG, kid: thumbprintOf(signer.publicKey), typ })));
  return `${header}..${base64url(signer.sign(signingInput(header, payload)))}`;
}

/** Parses without judging the signature. Throws `jws.malformed`; header members beyond ours are refused, `crit` among them. */
export function parseDetached(jws: string, typ: string): DetachedJws {
  if (jws.length > JWS_CHARS_MAX) throw malformed(`${jws.length} characters, more than ${JWS_CHARS_MAX}`);
  const [, header, encoded] = /^([\w-]+)\.\.([\w-]+)$/.exec(jws) ?? [];
  if (header === undefined || encoded === undefined) throw malformed('not compact with detached content');
  const members = headerOf(header);
  const { alg, kid, ...others } = members;
  if (alg !== ALG) throw malformed(`its algorithm is not ${ALG}`);
  if (others['typ'] !== typ || Object.keys(others).length !== 1) throw malformed(`its header is not of type ${typ}, or says more than it may`);
  if (typeof kid !== 'string') throw malformed('it names no key');
  const signature = Buffer.from(encoded, 'base64url');
  if (signature.length !== MLDSA65.signatureBytes || base64url(signature) !== encoded) throw malformed(`its signature is not ${MLDSA65.signatureBytes} bytes of base64url`);
  return { kid, isSignedBy: (publicKey, payload) => thumbprintOf(publicKey) === kid && verifyMlDsa65(publicKey, signingInput(header, payload), signature) };
}

const signingInput = (header: string, payload: Uint8Array): Buffer => Buffer.from(`${header}.${base64url(payload)}`, 'ascii');

function headerOf(encoded: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(Buffer.from(encoded, 'base64url').toString('utf8'));
    if (typeof value === 'object' && value !== null) return value as Readonly<Record<string, unknown>>;
  } catch (cause) {
    throw malformed(`its header is not JSON: ${messageOf(cause)}`);
  }
  throw malformed('its header is not an object');
}

const malformed = (why: string): TenzroError => new TenzroError('jws.malformed', `JWS: ${why}`);
