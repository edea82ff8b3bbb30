/**
 * Twins at the controller: what is desired of each gateway and what it reports, merged by version. Pure.
 *
 * Rules: the fleet alone gives versions, and gives each once · a report is newer by its revision · the same revision with another content is a conflict: two
 * gateways under one name, or a restored disk · a change whose version is not the next one was not made on the newest, and is refused.
 */
import { TenzroError } from '#runtime/core/errors.ts';
import { canonicalJson, type JsonObject } from '#runtime/core/json.ts';
import type { Confirmation, Desired, Reported } from '#runtime/core/twin.ts';
import type { GatewayView } from './query.ts';

export interface Twin {
  readonly desired?: Desired;
  readonly reported?: Reported;
}

/** Twins of one gateway by name. */
export type Twins = ReadonlyMap<string, Twin>;

/** What the next change is to be signed as: above everything desired and reported, so that no version that a gateway knows is used twice. */
export const nextVersion = ({ desired, reported }: Twin): number => Math.max(desired?.version ?? 0, reported?.version ?? 0) + 1;

/** Throws `twin.conflict`. */
export function desire(twin: Twin, desired: Desired): Twin {
  const next = nextVersion(twin);
  if (desired.version !== next) throw new TenzroError('twin.conflict', `the next version is ${next}, and the change was made as ${desired.version}`);
  return { ...twin, desired };
}

export type Merge =
  | { readonly kind: 'merged'; readonly twin: Twin }
  /** Told again, or overtaken on its way. */
  | { readonly kind: 'stale' }
  /** Freeze the gateway and tell the operator. */
  | { readonly kind: 'conflict'; readonly reason: string };

export function mergeReported(twin: Twin, reported: Reported): Merge {
  const { reported: known, desired } = twin;
  const newest = desired?.version ?? known?.version ?? Infinity; // what a gateway tells first, before anything was desired of it here, is where it begins
  if (reported.version > newest) return { kind: 'conflict', reason: `reports version ${reported.version}, and the newest that was desired is ${newest}` };
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
