/** Whether a message is a command that this gateway obeys. Pure; cheap checks come first, and the signature before anything is believed. */
import { mayCommand, type CommandClaims, type Operator } from '#runtime/core/command.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { claimsOf, parseMessage, signatureOf, signedBytesOf, type CommandMessage } from './message.ts';

export interface Judging {
  readonly gateway: string;
  readonly operators: readonly Operator[];
  /** The newest time that can be proved, µs since 1970. */
  readonly nowMicros: number;
  /** A time that has passed for sure, µs since 1970: all that speaks against a `sync_time` that comes later than any command may, for it mends a clock that is ahead. */
  readonly passedMicros: number;
  /** Commands of this key that were issued by then may be replays, seconds since 1970. */
  readonly horizonOf: (kid: string) => number;
}

export interface Place { readonly target: string; readonly type: string; readonly id: string }

export interface Accepted {
  readonly claims: CommandClaims;
  readonly message: CommandMessage;
  readonly operator: Operator;
  /** By provable time. */
  readonly expiresMicros: number;
}

const MICROS = 1_000_000;

/** Throws the reason for a refusal: `command.*` or `jws.malformed`. */
export function judge(payload: Uint8Array, place: Place, judging: Judging): Accepted {
  const message = parseMessage(payload);
  if (judging.operators.length === 0) throw new TenzroError('command.no_operators', 'no operators are configured');
  const jws = signatureOf(message);
  const claims = claimsOf(message);
  checkPlace(claims, place, judging.gateway);
  const operator = judging.operators.find(({ kid }) => kid === jws.kid);
  if (!operator) throw new TenzroError('command.operator', `nobody here has key ${jws.kid.slice(0, 43)}`);
  if (!jws.isSignedBy(operator.publicKey, signedBytesOf(message))) throw new TenzroError('command.signature', `not by the key of ${operator.name}`);
  if (!mayCommand(operator, claims.type)) throw new TenzroError('command.forbidden', `${operator.name} may not ${claims.type}`);
  return { claims, message, operator, expiresMicros: expiryOf(claims, operator, judging) };
}

function checkPlace(claims: CommandClaims, place: Place, gateway: string): void {
  if (claims.gateway !== gateway) throw new TenzroError('command.target', `signed for gateway ${claims.gateway.slice(0, 64)}, this is ${gateway}`);
  for (const field of ['target', 'type', 'id'] as const) {
    if (claims[field] !== place[field]) throw new TenzroError('command.target', `signed for ${field} ${claims[field].slice(0, 64)}, published for ${place[field]}`);
  }
}

/** Counted from the signature; by a gateway whose clock is behind, from now on: validity is relative. */
function expiryOf({ type, issued, ttlSeconds, notBefore }: CommandClaims, { kid }: Operator, { nowMicros, passedMicros, horizonOf }: Judging): number {
  const endMicros = (issued + ttlSeconds) * MICROS;
  const isMending = type === 'sync_time' && nowMicros - endMicros > LIMITS.commandSecondsMax * MICROS;
  if (endMicros <= (isMending ? passedMicros : nowMicros)) throw new TenzroError('command.expired', `it was valid until ${isoOf(endMicros)}, here it is ${isoOf(nowMicros)}`);
  if (notBefore !== undefined && notBefore >= issued + ttlSeconds) throw new TenzroError('command.malformed', 'command: not_before is after the end of its validity');
  if (issued <= horizonOf(kid)) throw new TenzroError('command.stale', `issued at ${isoOf(issued * MICROS)}; only newer ones are remembered`);
  return (isMending ? nowMicros : Math.min(issued * MICROS, nowMicros)) + ttlSeconds * MICROS;
}

const isoOf = (micros: number): string => new Date(Math.floor(micros / 1_000)).toISOString();
