/** A gateway in the register: what the controller knows of it, and its durable form. Pure codec; these bytes are the controller's own. */
import { TenzroError } from '#runtime/core/errors.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { fieldReaders } from '#runtime/ledger/fields.ts';

/** `begun`: an operator judged it and is handing over; whether it took that is not known yet. `revoked` and `released` are not admitted. */
const GATEWAY_STATES = ['begun', 'claimed', 'revoked', 'released'] as const;
type GatewayState = (typeof GATEWAY_STATES)[number];

/** Digests are SHA-256, lower-case hexadecimal. */
export interface RegisteredGateway {
  /** Its id in topics and signed headers. */
  readonly name: string;
  /** Hexadecimal. */
  readonly claimId: string;
  /** Of the raw ML-DSA-65 identity key. */
  readonly identityKey: string;
  /** Of its SubjectPublicKeyInfo: what TLS shows. */
  readonly spki: string;
  /** The same of the key that its newest chain named as the next one: let in beside `spki`, until a chain of it arrives. */
  readonly next?: string;
  /** Of the TPMT_PUBLIC of AK and EK, proven at the claim; both or none. */
  readonly tpm?: { readonly ak: string; readonly ek: string };
  /** The enrolment statement that an owner signed at the claim. */
  readonly statement?: Uint8Array;
  /** JWK thumbprints. */
  readonly ownerKeys: readonly string[];
  readonly certificate?: IssuedCertificate;
  readonly state: GatewayState;
  /** When it came to be in this state, and why. */
  readonly sinceMicros: number;
  readonly why: string;
  /** Absent while it is only begun. */
  readonly claimedMicros?: number;
  /** It showed up twice: nothing is taken of it until an operator forgets that. */
  readonly frozen?: { readonly sinceMicros: number; readonly why: string };
  /** Ids of the chains that were taken of it, oldest first: the last one grows. */
  readonly chains: readonly string[];
}

/** The newest that was given to it. */
export interface IssuedCertificate {
  /** Hexadecimal. */
  readonly serial: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

const VERSION = 1;

export function encodeGateway(gateway: RegisteredGateway): Buffer {
  const { name, claimId, identityKey, spki, tpm, statement, ownerKeys, certificate, state, sinceMicros, why, claimedMicros, frozen, chains, next } = gateway;
  return encodeCbor([
    VERSION, name, claimId, identityKey, spki, tpm ? [tpm.ak, tpm.ek] : [], statement ?? null, [...ownerKeys], certificate ? [certificate.serial, certificate.notBeforeMs, certificate.notAfterMs] : [],
    state, sinceMicros, why, claimedMicros ?? null, frozen ? [frozen.sinceMicros, frozen.why] : [], [...chains], next ?? null,
  ]);
}

/** Throws `ledger.corrupt`. */
export function decodeGateway(bytes: Uint8Array): RegisteredGateway {
  const [version, name, claimId, identityKey, spki, tpm, statement, ownerKeys, certificate, state, sinceMicros, why, claimedMicros, frozen, chains, next = null] = listOf(decodeCbor(bytes)); // older records end before `next`
  const known = GATEWAY_STATES.find((candidate) => candidate === state);
  if (version !== VERSION || known === undefined || (statement !== null && !(statement instanceof Uint8Array))) throw corrupt();
  const [ak, ek] = listOf(tpm);
  const [serial, notBefore, notAfter] = listOf(certificate);
  const [frozenMicros, frozenWhy] = listOf(frozen);
  return {
    name: textOf(name), claimId: textOf(claimId), identityKey: textOf(identityKey), spki: textOf(spki), ownerKeys: listOf(ownerKeys).map(textOf), state: known, sinceMicros: countOf(sinceMicros), why: textOf(why),
    chains: listOf(chains).map(textOf),
    ...(ak === undefined ? {} : { tpm: { ak: textOf(ak), ek: textOf(ek) } }),
    ...(statement === null ? {} : { statement }),
    ...(serial === undefined ? {} : { certificate: { serial: textOf(serial), notBeforeMs: countOf(notBefore), notAfterMs: countOf(notAfter) } }),
    ...(claimedMicros === null ? {} : { claimedMicros: countOf(claimedMicros) }),
    ...(next === null ? {} : { next: textOf(next) }),
    ...(frozenMicros === undefined ? {} : { frozen: { sinceMicros: countOf(frozenMicros), why: textOf(frozenWhy) } }),
  };
}

const corrupt = (): TenzroError => new TenzroError('ledger.corrupt', 'a gateway of the controller\'s register does not decode');
const { listOf, countOf } = fieldReaders(corrupt);
function textOf(value: Cbor | undefined): string {
  if (typeof value !== 'string') throw corrupt();
  return value;
}
