/**
 * Conceptual message wrapper (RFC 9999): says what a message of remote attestation is where it travels alone, in a file or over HTTP. The record form
 * of §3.1 in CBOR: `[type, value, indicator]`. Pure codec.
 */
import { TenzroError } from '#runtime/core/errors.ts';
import { decodeCbor, encodeCbor } from './cbor.ts';

/** Media type of a wrapper itself: RFC 9999, IANA considerations. */
export const CMW_MEDIA_TYPE = 'application/cmw+cbor';
/** `cm-type`, the bits of the indicator: RFC 9999 §3.1.1. */
export const CONCEPTUAL_MESSAGE = { referenceValues: 1 << 0, endorsements: 1 << 1, evidence: 1 << 2, attestationResults: 1 << 3, appraisalPolicy: 1 << 4 } as const;

export interface ConceptualMessage {
  /** Media type of the value. */
  readonly type: string;
  readonly value: Uint8Array;
  /** Bits of CONCEPTUAL_MESSAGE; 0 where the type says it all. */
  readonly indicator: number;
}

const TYPE_CHARACTERS_MAX = 256;
const INDICATOR_MAX = 0b1_1111;

export const encodeCmw = ({ type, value, indicator }: ConceptualMessage): Buffer => encodeCbor(indicator === 0 ? [type, value] : [type, value, indicator]);

/** Throws `cbor.malformed`. The forms with a CoAP content-format or a tag, and collections, are not ours: refused. */
export function decodeCmw(bytes: Uint8Array): ConceptualMessage {
  const record = decodeCbor(bytes);
  if (!Array.isArray(record) || record.length < 2 || record.length > 3) throw malformed('not a record of two or three');
  const [type, value, indicator = 0] = record as readonly unknown[];
  if (typeof type !== 'string' || type.length > TYPE_CHARACTERS_MAX) throw malformed('its type is no media type');
  if (!(value instanceof Uint8Array)) throw malformed('its value is not a byte string');
  if (typeof indicator !== 'number' || !Number.isInteger(indicator) || indicator < 0 || indicator > INDICATOR_MAX) throw malformed('unknown bits in its indicator');
  return { type, value, indicator };
}

const malformed = (why: string): TenzroError => new TenzroError('cbor.malformed', `conceptual message wrapper: ${why}`);
