/**
 * A command on its topic: one JSON object as thin-edge's, `{"status":"init", …}`, with a detached JWS in `signature` over the RFC 8785 form of every other
 * member but `status`. Both sides: the gateway reads, `tenzro fleet sign` writes. Pure.
 */
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { boundedJson, canonicalJson, type Json } from '#runtime/core/json.ts';
import type { CommandClaims } from '#runtime/core/command.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { parseDetached, signDetached, type DetachedJws } from '#runtime/crypto/jws.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';

/** Version of the claims: a member that changes what a command means raises it. */
const VERSION = 1;
/** What the signature is for (RFC 7515 §4.1.9). */
const TYP = 'tenzro-command+json';
const NAME = /^[A-Za-z0-9_-]+$/;
const SECONDS_MAX = 253_402_300_799; // 9999-12-31T23:59:59Z
/** A value takes a byte at least. */
const SIGNED_BOUNDS = { depthMax: LIMITS.jsonDepthMax, valuesMax: LIMITS.commandBytesMax };

export type CommandMessage = Readonly<Record<string, Json>>;

/** Throws `command.malformed`. */
export function parseMessage(payload: Uint8Array): CommandMessage {
  if (payload.length > LIMITS.commandBytesMax) throw malformed(`${payload.length} bytes, more than ${LIMITS.commandBytesMax}`);
  try {
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(payload));
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as CommandMessage;
  } catch (cause) {
    throw malformed(messageOf(cause), cause);
  }
  throw malformed('not an object');
}

/** The claims, without judging who made them. Throws `command.malformed` and `command.version`. */
export function claimsOf(message: CommandMessage): CommandClaims {
  const { version, gateway, target, type, id, issued, ttl_s: ttlSeconds, not_before: notBefore, dry_run: isDryRun = false, urgent: isUrgent = false, parameters = {} } = message;
  if (typeof version === 'number' && version > VERSION) throw new TenzroError('command.version', `version ${version} is newer than ${VERSION}`);
  if (version !== VERSION) throw malformed(`version is not ${VERSION}`);
  if (typeof isDryRun !== 'boolean') throw malformed('dry_run is neither true nor false');
  if (typeof isUrgent !== 'boolean') throw malformed('urgent is neither true nor false');
  if (typeof parameters !== 'object' || parameters === null || Array.isArray(parameters)) throw malformed('parameters is not an object');
  const validity = secondsOf(ttlSeconds, 'ttl_s');
  if (validity < 1 || validity > LIMITS.commandSecondsMax) throw malformed(`ttl_s is not 1 to ${LIMITS.commandSecondsMax}`);
  return {
    gateway: textOf(gateway, 'gateway'), target: textOf(target, 'target'), type: nameOf(type, 'type'), id: nameOf(id, 'id'), issued: secondsOf(issued, 'issued'), ttlSeconds: validity,
    ...(notBefore === undefined ? {} : { notBefore: secondsOf(notBefore, 'not_before') }), isDryRun, ...(isUrgent ? { isUrgent } : {}), parameters: parameters as Readonly<Record<string, unknown>>,
  };
}

/** Throws `command.unsigned`, `jws.malformed`. */
export function signatureOf({ signature }: CommandMessage): DetachedJws {
  if (signature === undefined || signature === '') throw new TenzroError('command.unsigned', 'there is no signature');
  if (typeof signature !== 'string') throw new TenzroError('jws.malformed', 'JWS: signature is not text');
  return parseDetached(signature, TYP);
}

/** What the signature covers. Throws `jws.malformed`. */
export function signedBytesOf(message: CommandMessage): Buffer {
  const { status: _status, signature: _signature, ...members } = message;
  return Buffer.from(canonicalJson(boundedJson(members, SIGNED_BOUNDS, (why) => new TenzroError('jws.malformed', `what is signed: ${why}`))));
}

/** The message to publish. Throws `command.malformed` for claims that no gateway would read. */
export const signCommand = (signer: Signer, claims: CommandClaims): CommandMessage => signMessage(signer, unsignedMessage(claims));

/** The claims as members of a message. */
export function unsignedMessage(claims: CommandClaims): CommandMessage {
  const { gateway, target, type, id, issued, ttlSeconds, notBefore, isDryRun, isUrgent, parameters } = claims;
  return {
    status: 'init', version: VERSION, gateway, target, type, id, issued, ttl_s: ttlSeconds,
    ...(notBefore === undefined ? {} : { not_before: notBefore }), ...(isDryRun ? { dry_run: true } : {}), ...(isUrgent === true ? { urgent: true } : {}), parameters: parameters as Json,
  };
}

/** The same message with a signature over every member but `status`, those that we do not know too. Throws `command.malformed`, `command.version`, `jws.malformed`. */
export function signMessage(signer: Signer, message: CommandMessage): CommandMessage {
  claimsOf(message);
  const signed = { ...message, signature: signDetached(signer, signedBytesOf(message), TYP) };
  if (Buffer.byteLength(JSON.stringify(signed)) > LIMITS.commandBytesMax) throw malformed(`more than ${LIMITS.commandBytesMax} bytes`);
  return signed;
}

function textOf(value: Json | undefined, name: string): string {
  if (typeof value !== 'string' || value === '' || value.length > LIMITS.textBytesMax) throw malformed(`${name} is no text`);
  return value;
}
function nameOf(value: Json | undefined, name: string): string {
  if (typeof value !== 'string' || value.length > LIMITS.commandIdCharsMax || !NAME.test(value)) throw malformed(`${name} is not 1 to ${LIMITS.commandIdCharsMax} of A-Z, a-z, 0-9, _ and -`);
  return value;
}
function secondsOf(value: Json | undefined, name: string): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0 || value > SECONDS_MAX) throw malformed(`${name} is not whole seconds`);
  return value;
}

const malformed = (why: string, cause?: unknown): TenzroError => new TenzroError('command.malformed', `command: ${why}`, cause === undefined ? {} : { cause });
