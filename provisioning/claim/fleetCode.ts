/**
 * The fleet's code TZF1, which an operator shows and a gateway with a camera scans: `TZF1:` and base-38 of deterministic CBOR `[version, one-time secret,
 * places]` and two bytes of checksum. It says where the operator waits; docs/reference/claim-code.md is its reference.
 */
import { randomBytes } from 'node:crypto';
import { isIPv4 } from 'node:net';
import { TenzroError, invariant } from '#runtime/core/errors.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { codeBody, codeText } from './code.ts';

const PREFIX = 'TZF1:';
/** For `claimCodeOn`. */
export const FLEET_CODE = /^TZF\d/i;
const VERSION = 1;
const SECRET_BYTES = 16;
const IPV4_BYTES = 4;
/** So that the code stays small enough to be scanned from a screen. */
export const PLACES_MAX = 4;

export interface FleetPlace {
  /** IPv4. */
  readonly host: string;
  readonly port: number;
}

export interface FleetCode {
  /** 16 bytes. Whoever is done with it zeroes it. */
  readonly secret: Uint8Array;
  /** Where the operator waits, 1 to 4. */
  readonly places: readonly FleetPlace[];
}

export const newFleetCode = (places: readonly FleetPlace[]): FleetCode => ({ secret: randomBytes(SECRET_BYTES), places: places.slice(0, PLACES_MAX) });

/** At most 100 characters. Throws `core.invariant` for fields beyond their bounds. */
export function encodeFleetCode({ secret, places }: FleetCode): string {
  invariant(secret.length === SECRET_BYTES && places.length > 0 && places.length <= PLACES_MAX && places.every(({ host }) => isIPv4(host)), 'a fleet code has a secret and one to four places');
  return codeText(PREFIX, encodeCbor([VERSION, secret, places.map(({ host, port }) => [Buffer.from(host.split('.').map(Number)), port])]));
}

/** Throws `claim.code_malformed`, `claim.code_mistyped`, `claim.code_newer_version`. No message holds a character of the code. */
export function decodeFleetCode(typed: string): FleetCode {
  const [version, secret, places] = asList(read(codeBody(PREFIX, typed)));
  if (version !== VERSION) throw new TenzroError('claim.code_newer_version', 'the code was made by a newer Tenzro Edge');
  const found = asList(places).map((place): FleetPlace => {
    const [address, port] = asList(place);
    if (!(address instanceof Uint8Array) || address.length !== IPV4_BYTES || typeof port !== 'number' || !Number.isInteger(port) || port < 1 || port > 65_535) throw malformed('a place has the wrong form');
    return { host: [...address].join('.'), port };
  });
  if (!(secret instanceof Uint8Array) || secret.length !== SECRET_BYTES || found.length === 0 || found.length > PLACES_MAX) throw malformed('its parts have the wrong form');
  return { secret, places: found };
}

function read(body: Uint8Array): Cbor {
  try {
    return decodeCbor(body);
  } catch {
    throw malformed('it holds no CBOR'); // without the cause, whose message might quote the secret
  }
}

function asList(value: Cbor | undefined): readonly Cbor[] {
  if (Array.isArray(value)) return value as readonly Cbor[];
  throw malformed('it is no list');
}

const malformed = (why: string): TenzroError => new TenzroError('claim.code_malformed', `this is no code of a fleet: ${why}`);
