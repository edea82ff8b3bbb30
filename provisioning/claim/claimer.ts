/**
 * The operator's side of a claim: data, without clock, disk or network.
 *
 *   greeting ─offer▶ challenging ─▶ proving ─proof▶ judging ─▶ recording ─▶ handing ─owned▶ ended
 *       ╰─────────────── anything wrong: ended, nothing was handed over ──╯      ╰─silence▶ unknown ⇄ asking ─▶ ended
 *
 * Before the hand-over leaves, the claim is on disk as pending: from then on only the device's signed word ends it, and `unknown` is a state in which the
 * operator asks again, as often as it takes.
 */
import { timingSafeEqual } from 'node:crypto';
import { equalBytes } from '#runtime/core/bytes.ts';
import { messageOf, TenzroError, type ErrorCode } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { ClaimCode } from './code.ts';
import type { ClaimMessage, Hello, Offer, Standing } from './messages.ts';
import type { ClaimerSuite, SessionKeys } from './suite.ts';

/** What is on disk, by claim. */
export interface ClaimRecord {
  readonly claimId: Uint8Array;
  /** Of the device: its word alone ends a pending claim. */
  readonly signingKey: Uint8Array;
  readonly outcome: 'pending' | 'owned' | 'failed';
  readonly words: string;
}

interface Timed { readonly deadlineMicros: number }
/** What a claim begins with. Without a digest the gateway scanned the operator's code: who it is, the operator must compare by the six words. */
export interface ClaimSecret extends Pick<ClaimCode, 'secret'> {
  readonly keyDigest?: Uint8Array;
}
type Code = ClaimSecret;

export type ClaimerState =
  | { readonly kind: 'idle' }
  | { readonly kind: 'greeting'; readonly hello: Hello; readonly code: Code } & Timed
  | { readonly kind: 'challenging'; readonly hello: Hello; readonly code: Code; readonly offer: Offer } & Timed
  | { readonly kind: 'proving' | 'judging'; readonly hello: Hello; readonly offer: Offer; readonly challenge: Uint8Array | undefined; readonly keys: SessionKeys } & Timed
  | { readonly kind: 'recording'; readonly record: ClaimRecord; readonly keys: SessionKeys; readonly handOver: Uint8Array } & Timed
  | { readonly kind: 'handing'; readonly record: ClaimRecord; readonly transcript: Uint8Array } & Timed
  | { readonly kind: 'unknown'; readonly record: ClaimRecord }
  | { readonly kind: 'asking'; readonly record: ClaimRecord; readonly nonce: Uint8Array } & Timed
  | { readonly kind: 'ended'; readonly outcome: 'owned' }
  | { readonly kind: 'ended'; readonly outcome: 'failed'; readonly code: string; readonly detail: string };

/** `nowMicros`: monotonic. */
export type ClaimerInput = { readonly nowMicros: number } & (
  /** `claimId`, `nonce`: random, never used before. */
  | { readonly kind: 'start'; readonly code: Code; readonly claimId: Uint8Array; readonly nonce: Uint8Array }
  /** After a restart. */
  | { readonly kind: 'resume'; readonly record: ClaimRecord }
  | { readonly kind: 'received'; readonly message: ClaimMessage }
  /** Enrolment's challenge for the offer's request; undefined where it has none. */
  | { readonly kind: 'challenged'; readonly challenge: Uint8Array | undefined }
  /** The evidence is accepted; `handOver` as `signHandOver` made it. */
  | { readonly kind: 'judged'; readonly handOver: Uint8Array }
  /** Of `challenge` or `judge`. */
  | { readonly kind: 'rejected'; readonly code: ErrorCode; readonly detail: string }
  | { readonly kind: 'written' }
  | { readonly kind: 'unwritten' }
  | { readonly kind: 'ask'; readonly nonce: Uint8Array }
  | { readonly kind: 'abandon' }
  | { readonly kind: 'tick' }
);

export type ClaimerEffect =
  | { readonly kind: 'send'; readonly message: ClaimMessage }
  | { readonly kind: 'challenge'; readonly request: Uint8Array | undefined }
  /** Both sides hold the secret. Judge what the device is and what booted; let the operator look where policy asks for it. */
  | { readonly kind: 'judge'; readonly offer: Offer; readonly claimId: Uint8Array; readonly challenge: Uint8Array | undefined; readonly evidence: Uint8Array; readonly transcript: Uint8Array; readonly words: string }
  | { readonly kind: 'write'; readonly record: ClaimRecord }
  /** They have served: zero them. */
  | { readonly kind: 'forget'; readonly keys: SessionKeys }
  /** It is not known whether the device is ours: ask. */
  | { readonly kind: 'doubt' }
  | { readonly kind: 'end'; readonly outcome: 'owned' | 'failed'; readonly code: string; readonly detail: string };

export interface ClaimerStep {
  readonly state: ClaimerState;
  readonly effects: readonly ClaimerEffect[];
}

export function stepClaimer(state: ClaimerState, input: ClaimerInput, suite: ClaimerSuite): ClaimerStep {
  switch (input.kind) {
    case 'start': return onStart(state, input);
    case 'resume': return onResume(state, input.record);
    case 'received': return onMessage(state, input.message, input.nowMicros, suite);
    case 'challenged': return onChallenged(state, input, suite);
    case 'judged': return onJudged(state, input);
    case 'rejected': return state.kind === 'challenging' || state.kind === 'judging' ? fail(state, input.code, input.detail) : same(state);
    case 'written': return onWritten(state, input.nowMicros, suite);
    case 'unwritten': return state.kind === 'recording' ? fail(state, 'claim.store', 'the claim could not be recorded, so nothing was handed over') : same(state);
    case 'ask': return onAsk(state, input);
    case 'abandon': return beforeHandOver(state) ? fail(state, 'claim.abandoned', 'given up by the operator') : same(state);
    case 'tick': return onTick(state, input.nowMicros);
  }
}

const same = (state: ClaimerState): ClaimerStep => ({ state, effects: [] });
const after = (nowMicros: number, milliseconds: number): number => nowMicros + milliseconds * 1_000;

type Early = Extract<ClaimerState, { kind: 'greeting' | 'challenging' | 'proving' | 'judging' | 'recording' }>;
const EARLY: readonly ClaimerState['kind'][] = ['greeting', 'challenging', 'proving', 'judging', 'recording'];
const beforeHandOver = (state: ClaimerState): state is Early => EARLY.includes(state.kind);

function onStart(state: ClaimerState, { code, claimId, nonce, nowMicros }: Extract<ClaimerInput, { kind: 'start' }>): ClaimerStep {
  if (state.kind !== 'idle') return same(state);
  const hello: Hello = { kind: 'hello', claimId, nonce };
  return { state: { kind: 'greeting', hello, code, deadlineMicros: after(nowMicros, LIMITS.claimSessionMs) }, effects: [{ kind: 'send', message: hello }] };
}

function onResume(state: ClaimerState, record: ClaimRecord): ClaimerStep {
  if (state.kind !== 'idle') return same(state);
  if (record.outcome === 'pending') return { state: { kind: 'unknown', record }, effects: [{ kind: 'doubt' }] };
  if (record.outcome === 'owned') return { state: { kind: 'ended', outcome: 'owned' }, effects: [] };
  return { state: { kind: 'ended', outcome: 'failed', code: 'claim.not_committed', detail: 'it had failed before' }, effects: [] };
}

function onMessage(state: ClaimerState, message: ClaimMessage, nowMicros: number, suite: ClaimerSuite): ClaimerStep {
  switch (message.kind) {
    case 'offer': return onOffer(state, message, nowMicros, suite);
    case 'proof': return onProof(state, message, nowMicros, suite);
    case 'standing': return onStanding(state, message, suite);
    case 'refused': return beforeHandOver(state) ? fail(state, message.reason, 'the device refused') : same(state); // unsigned: says nothing about what was handed over
    default: return same(state); // a device sends no others
  }
}

/** An offer by somebody else ends the attempt: somebody stands between, and the operator must hear it. */
function onOffer(state: ClaimerState, offer: Offer, nowMicros: number, suite: ClaimerSuite): ClaimerStep {
  if (state.kind !== 'greeting') return same(state);
  try {
    suite.examine(state.hello, offer, state.code.keyDigest);
  } catch (error) {
    return fail(state, codeOf(error), messageOf(error));
  }
  return { state: { ...state, kind: 'challenging', offer, deadlineMicros: after(nowMicros, LIMITS.claimSessionMs) }, effects: [{ kind: 'challenge', request: offer.request }] };
}

function onChallenged(state: ClaimerState, { challenge, nowMicros }: Extract<ClaimerInput, { kind: 'challenged' }>, suite: ClaimerSuite): ClaimerStep {
  if (state.kind !== 'challenging') return same(state);
  const { hello, offer, code } = state;
  try {
    const { accept, keys } = suite.accept(hello, offer, code.secret, challenge);
    return { state: { kind: 'proving', hello, offer, challenge, keys, deadlineMicros: after(nowMicros, LIMITS.claimSessionMs) }, effects: [{ kind: 'send', message: accept }] };
  } catch (error) {
    return fail(state, codeOf(error), messageOf(error));
  }
}

function onProof(state: ClaimerState, { confirmation, sealed }: Extract<ClaimMessage, { kind: 'proof' }>, nowMicros: number, suite: ClaimerSuite): ClaimerStep {
  if (state.kind !== 'proving') return same(state);
  const { keys, offer, hello, challenge } = state;
  if (!timingSafeEqual(keys.deviceProof, confirmation)) return fail(state, 'claim.confirmation', 'the device did not confirm the secret');
  try {
    const evidence = suite.openEvidence(keys, sealed);
    const effect: ClaimerEffect = { kind: 'judge', offer, claimId: hello.claimId, challenge, evidence, transcript: keys.transcript, words: keys.words };
    return { state: { ...state, kind: 'judging', deadlineMicros: after(nowMicros, LIMITS.claimJudgeMs) }, effects: [effect] };
  } catch (error) {
    return fail(state, codeOf(error), messageOf(error));
  }
}

function onJudged(state: ClaimerState, { handOver, nowMicros }: Extract<ClaimerInput, { kind: 'judged' }>): ClaimerStep {
  if (state.kind !== 'judging') return same(state);
  const { hello, offer, keys } = state;
  const record: ClaimRecord = { claimId: hello.claimId, signingKey: offer.signingKey, outcome: 'pending', words: keys.words };
  return { state: { kind: 'recording', record, keys, handOver, deadlineMicros: after(nowMicros, LIMITS.claimWriteMs) }, effects: [{ kind: 'write', record }] };
}

function onWritten(state: ClaimerState, nowMicros: number, suite: ClaimerSuite): ClaimerStep {
  if (state.kind !== 'recording') return same(state);
  const { record, keys, handOver } = state;
  const message: ClaimMessage = { kind: 'handOver', sealed: suite.sealHandOver(keys, handOver) };
  const deadlineMicros = after(nowMicros, LIMITS.claimApplyMs + 2 * LIMITS.claimWriteMs);
  return { state: { kind: 'handing', record, transcript: keys.transcript, deadlineMicros }, effects: [{ kind: 'send', message }, { kind: 'forget', keys }] };
}

/** What is not signed by the device over what was asked for is passed over. */
function onStanding(state: ClaimerState, standing: Standing, suite: ClaimerSuite): ClaimerStep {
  if (beforeHandOver(state)) return onEarlyEnd(state, standing, suite);
  if (state.kind !== 'handing' && state.kind !== 'asking') return same(state);
  const { record } = state;
  if (!equalBytes(standing.claimId, record.claimId) || !equalBytes(standing.nonce, state.kind === 'handing' ? state.transcript : state.nonce) || !suite.isSigned(standing, record.signingKey)) return same(state);
  if (standing.standing === 'owned') return { state: { kind: 'ended', outcome: 'owned' }, effects: [{ kind: 'write', record: { ...record, outcome: 'owned' } }, { kind: 'end', outcome: 'owned', code: '', detail: record.words }] };
  if (standing.standing === 'none') return notOurs(record, standing.reason);
  return state.kind === 'asking' ? { state: { kind: 'unknown', record }, effects: [{ kind: 'doubt' }] } : same(state);
}

function notOurs(record: ClaimRecord, reason: string): ClaimerStep {
  const code = reason === '' ? 'claim.not_committed' : reason;
  const detail = 'the device says that it did not become ours';
  return { state: { kind: 'ended', outcome: 'failed', code, detail }, effects: [{ kind: 'write', record: { ...record, outcome: 'failed' } }, { kind: 'end', outcome: 'failed', code, detail }] };
}

/** The device gave the session up, signed: why is worth knowing. */
function onEarlyEnd(state: Early, standing: Standing, suite: ClaimerSuite): ClaimerStep {
  if (state.kind !== 'proving' && state.kind !== 'judging') return same(state);
  const { keys, hello, offer } = state;
  const isOurs = standing.standing === 'none' && equalBytes(standing.claimId, hello.claimId) && equalBytes(standing.nonce, keys.transcript) && suite.isSigned(standing, offer.signingKey);
  return isOurs ? fail(state, standing.reason === '' ? 'claim.not_committed' : standing.reason, 'the device gave the claim up') : same(state);
}

function onAsk(state: ClaimerState, { nonce, nowMicros }: Extract<ClaimerInput, { kind: 'ask' }>): ClaimerStep {
  if (state.kind !== 'unknown') return same(state);
  const { record } = state;
  return { state: { kind: 'asking', record, nonce, deadlineMicros: after(nowMicros, LIMITS.claimSessionMs) }, effects: [{ kind: 'send', message: { kind: 'ask', claimId: record.claimId, nonce } }] };
}

function onTick(state: ClaimerState, nowMicros: number): ClaimerStep {
  if (!('deadlineMicros' in state) || nowMicros < state.deadlineMicros) return same(state);
  if (beforeHandOver(state)) return fail(state, 'claim.timeout', `nothing came while it was ${state.kind}`);
  return { state: { kind: 'unknown', record: state.record }, effects: [{ kind: 'doubt' }] };
}

/**
 * Nothing was handed over: the claim is over, and a new one may begin. A device that waits is asked, so that it ends its session now and not in ten minutes.
 * A record that is still being written stays pending and is asked for after a restart.
 */
function fail(state: Early, code: string, detail: string): ClaimerStep {
  const parting: readonly ClaimerEffect[] = 'keys' in state ? [{ kind: 'send', message: askOf(state) }, { kind: 'forget', keys: state.keys }] : [];
  return { state: { kind: 'ended', outcome: 'failed', code, detail }, effects: [...parting, { kind: 'end', outcome: 'failed', code, detail }] };
}

const askOf = (state: Extract<Early, { keys: SessionKeys }>): ClaimMessage =>
  ({ kind: 'ask', claimId: state.kind === 'recording' ? state.record.claimId : state.hello.claimId, nonce: state.keys.transcript });

function codeOf(error: unknown): ErrorCode {
  if (!(error instanceof TenzroError)) throw error;
  return error.code;
}
