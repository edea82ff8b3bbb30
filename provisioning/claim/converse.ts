/**
 * One claim from its first word to its end, over connections that may break: an attempt, and where that leaves the operator in doubt, questions, as often as
 * it takes. An order goes the same way. The caller dials; nothing here knows a network.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '#runtime/core/clock.ts';
import { ERRORS, TenzroError, type ErrorCode } from '#runtime/core/errors.ts';
import type { ClaimRecord, ClaimSecret } from './claimer.ts';
import { Claim, type ClaimerPorts } from './claimerRun.ts';
import type { ClaimChannel, Dial } from './lan/dial.ts';
import type { ClaimerSuite } from './suite.ts';

export type ClaimOutcome =
  | { readonly kind: 'owned' }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly detail: string }
  /** The hand-over left, and the device has not said what became of it. */
  | { readonly kind: 'unknown'; readonly record: ClaimRecord };

export interface ConversationOptions {
  readonly suite: ClaimerSuite;
  readonly clock: Clock;
  readonly dial: Dial;
  readonly challenge: ClaimerPorts['challenge'];
  readonly judge: (candidate: Parameters<ClaimerPorts['judge']>[0], channel: ClaimChannel, signal: AbortSignal) => Promise<Uint8Array>;
  readonly write: ClaimerPorts['write'];
  readonly note: ClaimerPorts['note'];
  readonly known?: () => void;
  /** Connected; messages go over this from now on. */
  readonly connected?: (channel: ClaimChannel) => void;
}

const TICK_MS = 500;
const ANSWER_MS = 5_000;
const PAUSE_MS = 1_000;

/** Rejects with `claim.link` where nobody could be reached, and with what `write` rejected with. `signal`: the operator gives up, which ends nothing that was handed over. */
export async function attemptClaim(code: ClaimSecret, options: ConversationOptions, signal: AbortSignal): Promise<ClaimOutcome> {
  return converse(options, signal, (claim) => { claim.start(code); });
}

/** Asks what became of a claim, until the device has said it or `signal` aborts. */
export async function inquireClaim(record: ClaimRecord, options: ConversationOptions, signal: AbortSignal): Promise<ClaimOutcome> {
  while (!signal.aborted) {
    const turn = new AbortController();
    const timer = setTimeout(() => { turn.abort(); }, ANSWER_MS);
    try {
      const outcome = await converse(options, AbortSignal.any([signal, turn.signal]), (claim) => { claim.resume({ ...record, outcome: 'pending' }); claim.ask(); });
      if (outcome.kind !== 'unknown') return outcome;
    } catch (error) {
      if (!(error instanceof TenzroError) || error.code !== 'claim.link') throw error;
      options.note(error.code, error.message);
    } finally {
      clearTimeout(timer);
    }
    await sleep(PAUSE_MS, undefined, { signal }).catch(() => undefined); // aborted: the loop ends
  }
  return { kind: 'unknown', record };
}

/** One connection, used until the claim has ended, is in doubt, or the connection has. */
async function converse(options: ConversationOptions, signal: AbortSignal, begin: (claim: Claim) => void): Promise<ClaimOutcome> {
  const { promise, resolve } = Promise.withResolvers<ClaimOutcome>();
  const live: { channel?: ClaimChannel; broken?: string } = {};
  const writes: Promise<void>[] = [];
  /** Where a claim stands that goes on no more here. */
  const leave = (code: ErrorCode, detail: string): void => {
    const { state } = claim;
    if (state.kind === 'handing' || state.kind === 'unknown' || state.kind === 'asking') resolve({ kind: 'unknown', record: state.record });
    else resolve({ kind: 'failed', code, detail });
    claim.abandon();
  };
  using claim = new Claim(options.suite, {
    clock: options.clock,
    send: (message) => { live.channel?.send(message); },
    known: () => { options.known?.(); },
    challenge: options.challenge,
    judge: (candidate, judging) => (live.channel ? options.judge(candidate, live.channel, judging) : Promise.reject(new TenzroError('claim.link', live.broken ?? 'not connected'))),
    write: (record) => {
      const written = options.write(record);
      writes.push(written);
      return written;
    },
    doubt: () => { queueMicrotask(() => { if (claim.state.kind === 'unknown') resolve(claim.state); }); }, // unless a question follows at once
    end: (outcome, code, detail) => { resolve(outcome === 'owned' ? { kind: 'owned' } : { kind: 'failed', ...knownFault(code, detail) }); },
    note: options.note,
  });
  using channel = await options.dial({ message: (bytes) => { claim.receive(bytes); }, closed: (why) => { live.broken = why; leave('claim.link', why); } }, signal);
  live.channel = channel;
  options.connected?.(channel);
  const given = (): void => { leave('claim.abandoned', 'given up by the operator'); };
  signal.addEventListener('abort', given, { once: true });
  const ticking = setInterval(() => { claim.tick(); }, TICK_MS);
  try {
    begin(claim);
    if (signal.aborted) given();
    const outcome = await promise;
    await Promise.all(writes);
    return outcome;
  } finally {
    clearInterval(ticking);
    signal.removeEventListener('abort', given);
  }
}

/** The reason may be the device's, which may be newer. */
const knownFault = (code: string, detail: string): { readonly code: ErrorCode; readonly detail: string } =>
  (Object.hasOwn(ERRORS, code) ? { code: code as ErrorCode, detail } : { code: 'claim.not_committed', detail: `${detail}: ${code}` });
