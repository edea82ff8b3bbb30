/**
 * When a system on trial has proved itself. Pure: looks at the gateway come in, what is to be done goes out. Healthy: the gateway takes entries, nothing in it is
 * stalled, a block was sealed since it started, and its fleet is reached or nobody asks for that; and it stays so, in one process.
 */

/** What the gateway says of itself. */
export interface Look {
  readonly pid: number;
  /** It listens, and the disk takes its writes. */
  readonly isReady: boolean;
  /** Followers that have work and do not move. */
  readonly stalled: readonly string[];
  /** Sealed since it started. */
  readonly blocks: number;
  readonly fleet: 'none' | 'reached' | 'offline';
}

export interface GateLimits {
  /** Healthy for so long without a break. */
  readonly steadyMs: number;
  /** Not healthy within that: it failed. */
  readonly withinMs: number;
  /** An unreachable fleet is no fault of the new system. */
  readonly isOfflineFine: boolean;
}

export interface GateState {
  readonly startMs: number;
  /** Since when it is healthy, and in which process. */
  readonly healthy: { readonly sinceMs: number; readonly pid: number } | undefined;
  /** As of the last look, for people. */
  readonly missing: readonly string[];
}

/** `look`: undefined with the reason where the gateway does not answer. */
export type GateInput = { readonly nowMs: number; readonly look: Look | { readonly unanswered: string } };
export type GateEffect = { readonly do: 'commit' } | { readonly do: 'fail'; readonly missing: readonly string[] } | { readonly do: 'wait' };

export const beginGate = (nowMs: number): GateState => ({ startMs: nowMs, healthy: undefined, missing: ['the gateway was not asked yet'] });

export function step({ startMs, healthy }: GateState, { nowMs, look }: GateInput, limits: GateLimits): { readonly state: GateState; readonly effect: GateEffect } {
  const missing = missingIn(look, limits);
  if (missing.length > 0 || 'unanswered' in look) {
    const state = { startMs, healthy: undefined, missing };
    return { state, effect: nowMs - startMs >= limits.withinMs ? { do: 'fail', missing } : { do: 'wait' } };
  }
  const since = healthy?.pid === look.pid ? healthy : { sinceMs: nowMs, pid: look.pid };
  if (nowMs - since.sinceMs >= limits.steadyMs) return { state: { startMs, healthy: since, missing }, effect: { do: 'commit' } };
  // A process that ends again and again is healthy for a moment each time.
  const isLate = nowMs - startMs >= limits.withinMs + limits.steadyMs;
  const unsteady = [`it has not stayed healthy for ${limits.steadyMs / 1_000} s in one process`];
  return { state: { startMs, healthy: since, missing: unsteady }, effect: isLate ? { do: 'fail', missing: unsteady } : { do: 'wait' } };
}

function missingIn(look: GateInput['look'], { isOfflineFine }: GateLimits): readonly string[] {
  if ('unanswered' in look) return [`the gateway does not answer: ${look.unanswered}`];
  const { isReady, stalled, blocks, fleet } = look;
  return [
    ...(isReady ? [] : ['the disk does not take entries']),
    ...(stalled.length > 0 ? [`no progress in ${stalled.join(', ')}`] : []),
    ...(blocks > 0 ? [] : ['no block was sealed since the start']),
    ...(fleet === 'offline' && !isOfflineFine ? ["no fleet's broker was reached"] : []),
  ];
}
