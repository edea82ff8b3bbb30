/**
 * Twins at the controller: what is desired of each gateway and what it reports, merged by version. Pure.
 *
 * Rules: the fleet alone gives versions, and gives each once · a report is newer by its revision · the same revision with another content is a conflict: two
 * gateways under one name, or a restored disk · a change that was not made on the newest desired version is refused.
 */
import { TenzroError } from '#runtime/core/errors.ts';
import { canonicalJson, type Json, type JsonObject } from '#runtime/core/json.ts';
import { checkedDesired, type Confirmation, type Desired, type Reported } from '#runtime/core/twin.ts';
import type { GatewayView } from './query.ts';

export interface Twin {
  readonly desired?: Desired;
  readonly reported?: Reported;
}

/** Twins of one gateway by name. */
export type Twins = ReadonlyMap<string, Twin>;

/** `expectedVersion`: of the desired value that the change was made on; 0: there is none. Throws `twin.conflict`, `twin.malformed`. */
export function desire(twin: Twin, value: Json, confirmSeconds: number, expectedVersion: number): Twin {
  const version = twin.desired?.version ?? 0;
  if (version !== expectedVersion) throw new TenzroError('twin.conflict', `the desired version is ${version}, and the change was made on ${expectedVersion}`);
  return { ...twin, desired: checkedDesired({ version: Math.max(version, twin.reported?.version ?? 0) + 1, value, confirmSeconds }) };
}

export type Merge =
  | { readonly kind: 'merged'; readonly twin: Twin }
  /** Told again, or overtaken on its way. */
  | { readonly kind: 'stale' }
  /** Freeze the gateway and tell the operator. */
  | { readonly kind: 'conflict'; readonly reason: string };

export function mergeReported(twin: Twin, reported: Reported): Merge {
  const { reported: known, desired } = twin;
  if (reported.version > (desired?.version ?? 0)) return { kind: 'conflict', reason: `reports version ${reported.version}, and the newest that was desired is ${desired?.version ?? 0}` };
  if (!known || reported.revision > known.revision) return known && reported.version < known.version ? { kind: 'conflict', reason: `went back from version ${known.version} to ${reported.version}` } : { kind: 'merged', twin: { ...twin, reported } };
  if (reported.revision < known.revision) return { kind: 'stale' };
  return canonicalJson({ ...reported }) === canonicalJson({ ...known }) ? { kind: 'stale' } : { kind: 'conflict', reason: `revision ${reported.revision} was reported with another content` };
}

/** What the gateway has not taken up yet: all that is to be sent when it connects. */
export const deltaOf = (twins: Twins): ReadonlyMap<string, Desired> =>
  new Map([...twins].flatMap(([name, { desired, reported }]) => (desired && desired.version > (reported?.version ?? 0) ? [[name, desired] as const] : [])));

/** What to answer to a gateway that tries a version, and was heard; a newer desired one follows only when this trial is over. */
export const confirmationOf = ({ reported }: Twin): Confirmation | undefined =>
  (reported?.state === 'probation' ? { version: reported.version, revision: reported.revision } : undefined);

/** For queries: `twin.<name>` is what is in force. */
export const viewOf = (id: string, twins: Twins, health: JsonObject): GatewayView => ({
  id, health, twin: Object.fromEntries([...twins].flatMap(([name, { reported }]) => (reported ? [[name, reported.value] as const] : []))),
});
