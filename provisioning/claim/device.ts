/**
 * The device's side of a claim: data, without clock, disk, network or TPM. What it decides is done by its effects; what came of them are its inputs.
 *
 *   reading ─▶ open ─hello▶ offered ─accept▶ proving ─▶ awaiting ─hand-over▶ applying ─▶ writing ─▶ open, owned
 *                ╰────── a wrong secret: writing (counted) ──▶ open; at any deadline ──▶ open, as before
 *
 * The commit point is one: the atomic write of the record that names the owner and burns the secrets. Before it nothing of a claim survives a
 * crash; after it everything does. Whenever a write is in doubt, the record is read again, as after a crash.
 */
import { timingSafeEqual } from 'node:crypto';
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError, messageOf, type ErrorCode } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { HandOver } from './handOver.ts';
import type { Accept, ClaimMessage, Hello, Offer, Order, Standing, StandingName } from './messages.ts';
import type { DeviceSuite, Ephemeral, SessionKeys } from './suite.ts';

export interface Ownership {
  readonly claimId: Uint8Array;
  /** ML-DSA-65; either may order. */
  readonly ownerKeys: readonly Uint8Array[];
  /** As the owner signed it: what the device joins with. */
  readonly handOver: Uint8Array;
  readonly words: string;
}

/** What is on disk. */
export interface DeviceRecord {
  /** Rises with every claim and every order: an order names the one that it ends. */
  readonly generation: number;
  readonly owner?: Ownership;
  /** SHA-256 of the secrets that an owner's claim burnt, the latest last: they work never again, wherever they are still written down. */
  readonly burnt: readonly Uint8Array[];
  /** Wrong secrets since power was cycled. `boot`: names the machine's boot. */
  readonly failures: { readonly boot: string; readonly count: number };
  /** The order that was carried out last: when it comes again it gets the same answer. */
  readonly lastOrder?: { readonly digest: Uint8Array; readonly claimId: Uint8Array; readonly standing: 'released' | 'rotated' };
}

/** A code that can be used, shown or printed. */
export interface WaitingSecret {
  readonly secret: Uint8Array;
  /** Monotonic; Infinity for a printed one. */
  readonly untilMicros: number;
}

interface Timed { readonly deadlineMicros: number }
interface Session extends Timed {
  readonly number: number;
  readonly claimId: Uint8Array;
  readonly keys: SessionKeys;
}
type Written =
  | { readonly kind: 'owned'; readonly session: Session; readonly owner: Ownership }
  | { readonly kind: 'counted' }
  | { readonly kind: 'ordered' };

type Phase =
  | { readonly kind: 'reading'; readonly number: number } & Timed
  | { readonly kind: 'open' }
  | { readonly kind: 'offered'; readonly hello: Hello; readonly offer: Offer; readonly digest: Uint8Array; readonly ephemeral: Ephemeral } & Timed
  | { readonly kind: 'proving' | 'awaiting' } & Session
  | { readonly kind: 'applying'; readonly owner: Ownership } & Session
  | { readonly kind: 'writing'; readonly record: DeviceRecord; readonly next: Written } & Timed;

export interface DeviceState {
  readonly boot: string;
  readonly record: DeviceRecord;
  readonly secrets: readonly WaitingSecret[];
  /** Of the last session or read: results of an older one are nobody's. */
  readonly number: number;
  readonly phase: Phase;
}

/** `nowMicros`: monotonic. */
export type DeviceInput = { readonly nowMicros: number } & (
  | { readonly kind: 'read'; readonly number: number; readonly record: DeviceRecord }
  /** Those that wait to be used now, in the place of all before. */
  | { readonly kind: 'secrets'; readonly secrets: readonly WaitingSecret[] }
  | { readonly kind: 'received'; readonly message: ClaimMessage }
  /** As `encodeDeviceEvidence` made it. */
  | { readonly kind: 'proven'; readonly number: number; readonly evidence: Uint8Array }
  | { readonly kind: 'applied'; readonly number: number }
  /** Of `prove` or `apply`. */
  | { readonly kind: 'failed'; readonly number: number; readonly code: ErrorCode; readonly detail: string }
  | { readonly kind: 'written' }
  | { readonly kind: 'unwritten' }
  /** An owner's command that was judged elsewhere. Without effect while anything is under way: MUST be repeated until the record names nobody. */
  | { readonly kind: 'release' }
  /** The connection of the claimer who holds the session ended: nothing more comes, so that the next one need not wait. */
  | { readonly kind: 'gone' }
  | { readonly kind: 'tick' }
);

export type DeviceEffect =
  /** `refusal`: somebody is refused by it, and that is to be recorded; it may come as often as messages do. */
  | { readonly kind: 'send'; readonly message: ClaimMessage; readonly refusal?: ErrorCode }
  /** Both sides hold the secret: show these words. */
  | { readonly kind: 'words'; readonly words: string }
  | { readonly kind: 'prove'; readonly number: number; readonly challenge: Uint8Array | undefined; readonly transcript: Uint8Array }
  /** Try the settings; nothing of them may outlive a restart until `own`. Also the statement is judged here. */
  | { readonly kind: 'apply'; readonly number: number; readonly handOver: HandOver }
  | { readonly kind: 'revert' }
  /** Atomic and flushed; a later `read` MUST see it or come after it failed. */
  | { readonly kind: 'write'; readonly record: DeviceRecord }
  | { readonly kind: 'read'; readonly number: number }
  /** It is owned, or has other owner keys now: keep the settings, record it in the chain. Comes again at every start: MUST be idempotent by the claim's id and those keys. */
  | { readonly kind: 'own'; readonly owner: Ownership }
  /** It is released: settings and keys of the owner go, then a new code may be shown. */
  | { readonly kind: 'disown' }
  /** The session is over: zero them. */
  | { readonly kind: 'forget'; readonly keys: SessionKeys }
  /** A failure, to be recorded. */
  | { readonly kind: 'note'; readonly code: ErrorCode; readonly detail: string };

export interface DeviceStep {
  readonly state: DeviceState;
  readonly effects: readonly DeviceEffect[];
}

/** `boot`: names the machine's boot, not the process's. */
export function startDevice(boot: string, nowMicros: number): DeviceStep {
  return read({ boot, record: { generation: 0, burnt: [], failures: { boot, count: 0 } }, secrets: [], number: 0, phase: { kind: 'open' } }, nowMicros);
}

export const isLocked = ({ boot, record }: DeviceState): boolean => record.failures.boot === boot && record.failures.count >= LIMITS.claimFailuresMax;

export function stepDevice(state: DeviceState, input: DeviceInput, suite: DeviceSuite): DeviceStep {
  switch (input.kind) {
    case 'read': return onRead(state, input);
    case 'secrets': return { state: { ...state, secrets: input.secrets }, effects: [] };
    case 'received': return onMessage(state, input.message, input.nowMicros, suite);
    case 'proven': return onProven(state, input, suite);
    case 'applied': return onApplied(state, input, suite);
    case 'failed': return onFailed(state, input, suite);
    case 'written': return onWritten(state, suite);
    case 'unwritten': return state.phase.kind === 'writing' ? inDoubt(state, input.nowMicros) : same(state);
    case 'release': return onRelease(state, input.nowMicros);
    case 'gone': return onGone(state, suite);
    case 'tick': return onTick(state, input.nowMicros, suite);
  }
}

/** The oldest are forgotten: their codes were removed long before. */
export const BURNT_MAX = 16;

const same = (state: DeviceState): DeviceStep => ({ state, effects: [] });
const after = (nowMicros: number, milliseconds: number): number => nowMicros + milliseconds * 1_000;
const refuse = (reason: ErrorCode): DeviceEffect => ({ kind: 'send', message: { kind: 'refused', reason }, refusal: reason });
const note = (code: ErrorCode, detail: string): DeviceEffect => ({ kind: 'note', code, detail });
const forget = (keys: SessionKeys): DeviceEffect => ({ kind: 'forget', keys });

/** The answer to an older question may be older than the last write. */
function read(state: DeviceState, nowMicros: number): DeviceStep {
  const number = state.number + 1;
  return { state: { ...state, number, phase: { kind: 'reading', number, deadlineMicros: after(nowMicros, LIMITS.claimWriteMs) } }, effects: [{ kind: 'read', number }] };
}

function onRead(state: DeviceState, { number, record }: Extract<DeviceInput, { kind: 'read' }>): DeviceStep {
  if (state.phase.kind !== 'reading' || state.phase.number !== number) return same(state);
  return { state: { ...state, record, phase: { kind: 'open' } }, effects: [record.owner ? { kind: 'own', owner: record.owner } : { kind: 'revert' }] };
}

function onMessage(state: DeviceState, message: ClaimMessage, nowMicros: number, suite: DeviceSuite): DeviceStep {
  switch (message.kind) {
    case 'hello': return onHello(state, message, nowMicros, suite);
    case 'accept': return onAccept(state, message, nowMicros, suite);
    case 'handOver': return onHandOver(state, message.sealed, nowMicros, suite);
    case 'ask': return onAsk(state, message, suite);
    case 'order': return onOrder(state, message, nowMicros, suite);
    default: return same(state); // a claimer sends no others
  }
}

/** Whoever has not shown the secret yet gives way to who comes next; whoever has keeps the device until the session's end. */
function onHello(state: DeviceState, hello: Hello, nowMicros: number, suite: DeviceSuite): DeviceStep {
  const { phase } = state;
  if (phase.kind !== 'open' && phase.kind !== 'offered') return { state, effects: [refuse('claim.busy')] };
  if (phase.kind === 'offered' && isSame(phase.hello, hello)) return { state, effects: [{ kind: 'send', message: phase.offer }] };
  const why = whyNot(state, nowMicros, suite);
  if (why) return { state, effects: [refuse(why)] };
  const { offer, digest, ephemeral } = suite.offer(hello);
  const next: Phase = { kind: 'offered', hello, offer, digest, ephemeral, deadlineMicros: after(nowMicros, LIMITS.claimSessionMs) };
  return { state: { ...state, phase: next }, effects: [{ kind: 'send', message: offer }] };
}

const isSame = (a: Hello, b: Hello): boolean => equalBytes(a.claimId, b.claimId) && equalBytes(a.nonce, b.nonce);

function whyNot(state: DeviceState, nowMicros: number, suite: DeviceSuite): ErrorCode | undefined {
  if (state.record.owner) return 'claim.claimed';
  if (isLocked(state)) return 'claim.locked';
  const unused = unburnt(state, suite);
  if (unused.length === 0) return 'claim.secret_none';
  return unused.some(({ untilMicros }) => nowMicros < untilMicros) ? undefined : 'claim.secret_expired';
}

const unburnt = ({ secrets, record }: DeviceState, suite: DeviceSuite): readonly WaitingSecret[] =>
  secrets.filter(({ secret }) => !record.burnt.some((digest) => equalBytes(digest, suite.secretDigest(secret))));

function onAccept(state: DeviceState, accept: Accept, nowMicros: number, suite: DeviceSuite): DeviceStep {
  const { phase } = state;
  if (phase.kind !== 'offered' || !equalBytes(phase.digest, accept.offer)) return same(state);
  const closed: DeviceState = { ...state, phase: { kind: 'open' } };
  const why = whyNot(state, nowMicros, suite);
  if (why) return { state: closed, effects: [refuse(why)] };
  let tried: readonly SessionKeys[];
  try {
    tried = unburnt(state, suite).filter(({ untilMicros }) => nowMicros < untilMicros).map(({ secret }) => suite.agree(phase, accept, secret));
  } catch (error) {
    return { state: closed, effects: [refuse('claim.malformed'), noteOf(error)] };
  }
  const keys = tried.find(({ claimerProof }) => timingSafeEqual(claimerProof, accept.confirmation));
  const others = tried.filter((other) => other !== keys).map(forget);
  if (!keys) {
    const count = state.record.failures.boot === state.boot ? state.record.failures.count + 1 : 1;
    const counting = write(closed, { ...state.record, failures: { boot: state.boot, count } }, { kind: 'counted' }, nowMicros);
    return { ...counting, effects: [...others, ...counting.effects] };
  }
  const number = state.number + 1;
  const proving: Phase = { kind: 'proving', number, claimId: phase.hello.claimId, keys, deadlineMicros: after(nowMicros, LIMITS.claimSessionMs) };
  return { state: { ...state, number, phase: proving }, effects: [...others, { kind: 'words', words: keys.words }, { kind: 'prove', number, challenge: accept.challenge, transcript: keys.transcript }] };
}

function onProven(state: DeviceState, { number, evidence, nowMicros }: Extract<DeviceInput, { kind: 'proven' }>, suite: DeviceSuite): DeviceStep {
  const { phase } = state;
  if (phase.kind !== 'proving' || phase.number !== number) return same(state);
  const message: ClaimMessage = { kind: 'proof', confirmation: phase.keys.deviceProof, sealed: suite.sealEvidence(phase.keys, evidence) };
  return { state: { ...state, phase: { ...phase, kind: 'awaiting', deadlineMicros: after(nowMicros, LIMITS.claimJudgeMs) } }, effects: [{ kind: 'send', message }] };
}

/** What does not open is not the claimer's, and changes nothing; what opens and may not be obeyed ends the session. */
function onHandOver(state: DeviceState, sealed: Uint8Array, nowMicros: number, suite: DeviceSuite): DeviceStep {
  const { phase } = state;
  if (phase.kind !== 'awaiting') return same(state);
  try {
    const { bytes, handOver } = suite.openHandOver(phase.keys, sealed);
    if (!equalBytes(handOver.claimId, phase.claimId)) throw new TenzroError('claim.hand_over', 'the hand-over is for another claim');
    const owner: Ownership = { claimId: phase.claimId, ownerKeys: handOver.ownerKeys, handOver: bytes, words: phase.keys.words };
    const applying: Phase = { ...phase, kind: 'applying', owner, deadlineMicros: after(nowMicros, LIMITS.claimApplyMs) };
    return { state: { ...state, phase: applying }, effects: [{ kind: 'apply', number: phase.number, handOver }] };
  } catch (error) {
    if (error instanceof TenzroError && error.code === 'hpke.open') return { state, effects: [noteOf(error)] };
    return end(state, phase, { code: 'claim.hand_over', detail: messageOf(error) }, suite);
  }
}

/** All secrets burn, used or not: who read another code before may not claim after the next release. */
function onApplied(state: DeviceState, { number, nowMicros }: Extract<DeviceInput, { kind: 'applied' }>, suite: DeviceSuite): DeviceStep {
  const { phase, record } = state;
  if (phase.kind !== 'applying' || phase.number !== number) return same(state);
  const { lastOrder: _, ...without } = record;
  const burnt = [...record.burnt, ...unburnt(state, suite).map(({ secret }) => suite.secretDigest(secret))].slice(-BURNT_MAX);
  const owned: DeviceRecord = { ...without, generation: record.generation + 1, burnt, owner: phase.owner, failures: { boot: state.boot, count: 0 } };
  return write(state, owned, { kind: 'owned', session: phase, owner: phase.owner }, nowMicros);
}

function onFailed(state: DeviceState, { number, code, detail }: Extract<DeviceInput, { kind: 'failed' }>, suite: DeviceSuite): DeviceStep {
  const { phase } = state;
  if ((phase.kind !== 'proving' && phase.kind !== 'applying') || phase.number !== number) return same(state);
  return end(state, phase, { code, detail }, suite);
}

const write = (state: DeviceState, record: DeviceRecord, next: Written, nowMicros: number): DeviceStep =>
  ({ state: { ...state, phase: { kind: 'writing', record, next, deadlineMicros: after(nowMicros, LIMITS.claimWriteMs) } }, effects: [{ kind: 'write', record }] });

function onWritten(state: DeviceState, suite: DeviceSuite): DeviceStep {
  if (state.phase.kind !== 'writing') return same(state);
  const { record, next } = state.phase;
  const open: DeviceState = { ...state, record, phase: { kind: 'open' } };
  switch (next.kind) {
    case 'counted': {
      if (!isLocked(open)) return { state: open, effects: [refuse('claim.secret_wrong'), note('claim.secret_wrong', `wrong secret ${record.failures.count} of ${LIMITS.claimFailuresMax}`)] };
      return { state: open, effects: [refuse('claim.locked'), note('claim.locked', 'no secret is taken until power is cycled')] };
    }
    case 'owned': {
      const { claimId, keys } = next.session;
      const standing = suite.signStanding({ claimId, nonce: keys.transcript, standing: 'owned', reason: '', generation: record.generation });
      return { state: { ...open, secrets: [] }, effects: [{ kind: 'own', owner: next.owner }, { kind: 'send', message: standing }, forget(keys)] };
    }
    case 'ordered': return { state: open, effects: [record.owner ? { kind: 'own', owner: record.owner } : { kind: 'disown' }, ...answerToOrder(record, suite)] };
  }
}

function inDoubt(state: DeviceState, nowMicros: number): DeviceStep {
  const ended = state.phase.kind === 'writing' && state.phase.next.kind === 'owned' ? [forget(state.phase.next.session.keys)] : [];
  const { state: reading, effects } = read(state, nowMicros);
  return { state: reading, effects: [...ended, note('claim.store', 'it is not known what the record holds: it is read again'), ...effects] };
}

/** A session's end without an owner: the claimer is told what it may rely on, the settings are as before, the secret stays good. */
function end(state: DeviceState, session: Session & { readonly kind: Phase['kind'] }, { code, detail }: { readonly code: ErrorCode; readonly detail: string }, suite: DeviceSuite): DeviceStep {
  const standing = suite.signStanding({ claimId: session.claimId, nonce: session.keys.transcript, standing: 'none', reason: code, generation: state.record.generation });
  const reverted = session.kind === 'applying' ? [{ kind: 'revert' as const }] : [];
  return { state: { ...state, phase: { kind: 'open' } }, effects: [...reverted, { kind: 'send', message: standing }, note(code, detail), forget(session.keys)] };
}

/** An answer of 'none' is final: the session of that claim, if there is one, ends with it. */
function onAsk(state: DeviceState, { claimId, nonce }: Extract<ClaimMessage, { kind: 'ask' }>, suite: DeviceSuite): DeviceStep {
  const { phase, record } = state;
  const say = (standing: StandingName): DeviceEffect => ({ kind: 'send', message: suite.signStanding({ claimId, nonce, standing, reason: '', generation: record.generation }) });
  if (phase.kind === 'reading') return same(state);
  if (record.owner && equalBytes(record.owner.claimId, claimId)) return { state, effects: [say('owned')] };
  const isUnderWay = (phase.kind === 'applying' && equalBytes(phase.claimId, claimId)) || (phase.kind === 'writing' && phase.next.kind === 'owned' && equalBytes(phase.next.session.claimId, claimId));
  if (isUnderWay) return { state, effects: [say('pending')] };
  if (phase.kind === 'offered' && equalBytes(phase.hello.claimId, claimId)) return { state: { ...state, phase: { kind: 'open' } }, effects: [say('none')] };
  if ((phase.kind !== 'proving' && phase.kind !== 'awaiting') || !equalBytes(phase.claimId, claimId)) return { state, effects: [say('none')] };
  return { state: { ...state, phase: { kind: 'open' } }, effects: [say('none'), forget(phase.keys)] };
}

function onOrder(state: DeviceState, order: Order, nowMicros: number, suite: DeviceSuite): DeviceStep {
  const { phase, record } = state;
  if (record.lastOrder && equalBytes(record.lastOrder.digest, suite.orderDigest(order))) return { state, effects: answerToOrder(record, suite) };
  if (phase.kind !== 'open') return { state, effects: [refuse('claim.busy')] };
  if (!record.owner) return { state, effects: [refuse('claim.order')] };
  try {
    const { verb, claimId, generation, ownerKeys } = suite.openOrder(order, record.owner.ownerKeys);
    if (generation !== record.generation || !equalBytes(claimId, record.owner.claimId)) throw new TenzroError('claim.order', `the order ends generation ${generation}, this is ${record.generation}`);
    const { owner, ...without } = record;
    const kept = verb === 'rotate' && ownerKeys ? { owner: { ...owner, ownerKeys } } : {};
    const standing = verb === 'rotate' ? 'rotated' : 'released';
    return write(state, { ...without, ...kept, generation: generation + 1, lastOrder: { digest: suite.orderDigest(order), claimId, standing } }, { kind: 'ordered' }, nowMicros);
  } catch (error) {
    return { state, effects: [refuse('claim.order'), noteOf(error)] };
  }
}

function onRelease(state: DeviceState, nowMicros: number): DeviceStep {
  const { owner, lastOrder: _, ...without } = state.record;
  return state.phase.kind === 'open' && owner ? write(state, { ...without, generation: without.generation + 1 }, { kind: 'ordered' }, nowMicros) : same(state);
}

function answerToOrder({ lastOrder, generation }: DeviceRecord, suite: DeviceSuite): readonly DeviceEffect[] {
  if (!lastOrder) return [];
  const { claimId, digest, standing } = lastOrder;
  const message: Standing = suite.signStanding({ claimId, nonce: digest, standing, reason: '', generation });
  return [{ kind: 'send', message }];
}

function onTick(state: DeviceState, nowMicros: number, suite: DeviceSuite): DeviceStep {
  const { phase } = state;
  if (phase.kind === 'open' || nowMicros < phase.deadlineMicros) return same(state);
  switch (phase.kind) {
    case 'reading':
    case 'writing': return inDoubt(state, nowMicros);
    case 'offered': return { state: { ...state, phase: { kind: 'open' } }, effects: [note('claim.timeout', 'the offer was not answered')] };
    default: return end(state, phase, { code: 'claim.timeout', detail: `the claim ended while it was ${phase.kind}` }, suite);
  }
}

function onGone(state: DeviceState, suite: DeviceSuite): DeviceStep {
  const { phase } = state;
  return phase.kind === 'proving' || phase.kind === 'awaiting' ? end(state, phase, { code: 'claim.link', detail: `the claimer went away while it was ${phase.kind}` }, suite) : same(state);
}

function noteOf(error: unknown): DeviceEffect {
  if (!(error instanceof TenzroError)) throw error;
  return note(error.code, messageOf(error));
}
