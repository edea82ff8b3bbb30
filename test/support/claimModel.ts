/**
 * The claim as a world that can be explored: the device, claimers, what is on their disks, and an attacker who is the network. Every message that was ever
 * sent stays in the attacker's hands, who delivers any of them to anybody, never, once or often, in any order, and adds messages of their own: dropping,
 * duplicating, re-ordering, relaying and injecting are all cases of that. Claimers and device may crash at every step and time out at every step.
 */
import assert from 'node:assert/strict';
import { stepClaimer, type ClaimerEffect, type ClaimerInput, type ClaimerState, type ClaimRecord } from '#provisioning/claim/claimer.ts';
import { startDevice, stepDevice, type DeviceEffect, type DeviceInput, type DeviceRecord, type DeviceState } from '#provisioning/claim/device.ts';
import type { HandOver } from '#provisioning/claim/handOver.ts';
import type { ClaimMessage } from '#provisioning/claim/messages.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { acceptance, handOverOf, idealClaimer, idealDevice, KEY_DIGEST, ownerKeysOf, partsOf, sealed, term } from './claimTerms.ts';

const LATER = Number.MAX_SAFE_INTEGER;
export const SECRET = term('secret');
/** Of the code that a released device shows. */
export const NEXT_SECRET = term('next secret');
/** A code that was printed stays where it is: nobody removes it. */
const codesOn = ({ isReleased }: World): DeviceInput => ({ kind: 'secrets', secrets: [SECRET, term('another secret'), ...(isReleased ? [NEXT_SECRET] : [])].map((secret) => ({ secret, untilMicros: LATER })), nowMicros: 0 });
const EVIDENCE = term('evidence');

export interface Claimer {
  readonly name: string;
  readonly secret: Uint8Array;
  readonly state: ClaimerState;
  readonly disk?: ClaimRecord;
  readonly toWrite?: ClaimRecord;
  readonly toJudge?: { readonly claimId: Uint8Array; readonly transcript: Uint8Array };
  /** Attempts begun, questions asked. */
  readonly attempts: number;
  readonly asked: number;
  /** Claims of theirs that ended, as they believe, by hex id. */
  readonly believed: Readonly<Record<string, 'owned' | 'failed'>>;
}

type Work =
  | { readonly kind: 'prove' | 'apply'; readonly number: number; readonly handOver?: HandOver }
  | { readonly kind: 'write'; readonly record: DeviceRecord }
  | { readonly kind: 'read'; readonly number: number };

export interface World {
  readonly device: DeviceState;
  readonly disk: DeviceRecord;
  readonly work: readonly Work[];
  /** Whose settings are in force: on trial, or kept. */
  readonly settings: { readonly kind: 'none' } | { readonly kind: 'trial' | 'kept'; readonly claimId: string };
  readonly offers: number;
  readonly crashes: number;
  /** Wrong secrets that the device has answered in this boot of the machine. */
  readonly wrong: number;
  readonly powerCycles: number;
  readonly claimers: readonly Claimer[];
  readonly known: readonly ClaimMessage[];
  /** The owner's order was carried out; a new code is shown. */
  readonly isReleased: boolean;
  /** Hex id of the claim that its owner ended by a signed command: on the device's disk until it is carried out, and perhaps long after. */
  readonly commanded?: string;
}

/** How far the exploration goes. */
export interface Bounds {
  readonly attempts: number;
  readonly offers: number;
  readonly crashes: number;
  readonly powerCycles: number;
  readonly releases: boolean;
  /** Also: the owner commands a release over the fleet, which the device carries out at any moments, more than once. */
  readonly commands: boolean;
  /** Also: the owner puts an heir's keys in the place of the first, and either order with the keys of both. */
  readonly rotates: boolean;
  /** Which messages of their own the attacker also makes. */
  readonly forges: 'nothing' | 'questions' | 'everything';
}

export interface Step {
  readonly label: string;
  readonly world: World;
}

export function firstWorld(claimers: readonly { readonly name: string; readonly secret: Uint8Array }[], change: Partial<DeviceRecord> = {}): World {
  const record: DeviceRecord = { generation: 0, burnt: [], failures: { boot: 'boot 0', count: 0 }, ...change };
  const { state } = startDevice('boot 0', 0);
  assert.ok(state.phase.kind === 'reading');
  const world: World = {
    device: state, disk: record, work: [{ kind: 'read', number: state.phase.number }], settings: { kind: 'none' }, offers: 0, crashes: 0, wrong: 0, powerCycles: 0, known: [], isReleased: false,
    claimers: claimers.map(({ name, secret }) => ({ name, secret, state: { kind: 'idle' }, attempts: 0, asked: 0, believed: {} })),
  };
  return finishWork(world, 0, 'done');
}

/** Everything that can happen next. */
export function nextSteps(world: World, bounds: Bounds): Step[] {
  const steps: Step[] = [];
  const add = (label: string, next: World): void => { if (next !== world) steps.push({ label, world: next }); };
  const messages = [...world.known, ...forged(world).filter(({ kind }) => bounds.forges === 'everything' || (bounds.forges === 'questions' && kind === 'ask'))];
  for (const message of messages) {
    if (message.kind === 'hello' && world.offers >= bounds.offers) continue;
    add(`device gets ${message.kind}`, toDevice(world, { kind: 'received', message, nowMicros: 0 }));
    for (const [at, { name }] of world.claimers.entries()) add(`${name} gets ${message.kind}`, toClaimer(world, at, { kind: 'received', message, nowMicros: 0 }));
  }
  for (const [at, { kind }] of world.work.entries()) {
    const isBlocked = (kind === 'read' || kind === 'write') && world.work.slice(0, at).some((earlier) => earlier.kind === 'write');
    if (!isBlocked) for (const outcome of OUTCOMES[kind]) add(`device's ${kind} ${outcome}`, finishWork(world, at, outcome));
  }
  add('device loses its claimer', toDevice(world, { kind: 'gone', nowMicros: 0 }));
  add('device times out', toDevice(world, { kind: 'tick', nowMicros: LATER }));
  if (world.crashes < bounds.crashes) for (const landed of [false, true]) add('device crashes', crashDevice(world, landed));
  if (world.powerCycles < bounds.powerCycles) add('power is cycled', crashDevice(world, false, `boot ${world.powerCycles + 1}`));
  for (const at of world.claimers.keys()) for (const step of claimerSteps(world, at, bounds)) add(step.label, step.world);
  if (bounds.releases || bounds.rotates) for (const at of world.claimers.keys()) for (const step of orders(world, at, bounds)) add(step.label, step.world);
  if (bounds.commands) for (const step of commandSteps(world)) add(step.label, step.world);
  return steps;
}

/** What runtime/claiming.ts does at the command `release`: it ends that claim, and no other. */
function commandSteps(world: World): Step[] {
  const owner = world.disk.owner && toHex(world.disk.owner.claimId);
  const commands = world.claimers.flatMap(({ name, state }): Step[] => (state.kind === 'ended' && state.outcome === 'owned' && world.disk.owner && makerOf(world.disk.owner.handOver).name === name && owner !== undefined ? [{ label: `${name} commands a release`, world: { ...world, commanded: owner } }] : []));
  const { phase, record } = world.device;
  const isDue = world.commanded !== undefined && phase.kind !== 'reading' && record.owner !== undefined && toHex(record.owner.claimId) === world.commanded;
  return isDue ? [...commands, { label: 'device carries the command out', world: toDevice(world, { kind: 'release', nowMicros: 0 }) }] : commands;
}

/** The owner's orders, signed with the second key; where keys rotate, also the heir's, and those of the keys that were rotated out. */
function orders(world: World, at: number, { releases, rotates }: Bounds): Step[] {
  const { name = '', state } = world.claimers[at] ?? {};
  const { owner, generation } = world.disk;
  if (state?.kind !== 'ended' || state.outcome !== 'owned' || !owner || makerOf(owner.handOver).name !== name) return [];
  const heir = `${name}'s heir`;
  return (rotates ? [name, heir] : [name]).flatMap((signer) => {
    const signed = (verb: string, ...to: readonly string[]): Step => {
      const body = term(verb, owner.claimId, String(generation), ...to);
      return { label: `${signer} orders a ${verb}`, world: learn(world, { kind: 'order', body, signature: term('signed order', ownerKeysOf(signer)[1], body) }) };
    };
    return [...(releases ? [signed('release')] : []), ...(rotates ? [signed('rotate', signer === name ? heir : name)] : [])];
  });
}

function claimerSteps(world: World, at: number, bounds: Bounds): Step[] {
  const claimer = world.claimers[at];
  assert.ok(claimer);
  const { name, state, attempts, asked, toWrite, toJudge } = claimer;
  const steps: Step[] = [{ label: `${name} times out`, world: toClaimer(world, at, { kind: 'tick', nowMicros: LATER }) }];
  if (state.kind === 'idle' && attempts < bounds.attempts) steps.push({ label: `${name} starts`, world: startClaim(world, at) });
  if (state.kind === 'challenging') steps.push({ label: `${name} challenges`, world: toClaimer(world, at, { kind: 'challenged', challenge: undefined, nowMicros: 0 }) });
  if (toJudge) {
    const { toJudge: _, ...rest } = claimer;
    const done = withClaimer(world, at, rest);
    steps.push({ label: `${name} accepts the device`, world: toClaimer(done, at, { kind: 'judged', handOver: handOverOf(name, toJudge.claimId, toJudge.transcript), nowMicros: 0 }) });
    steps.push({ label: `${name} refuses the device`, world: toClaimer(done, at, { kind: 'rejected', code: 'claim.evidence', detail: '', nowMicros: 0 }) });
  }
  if (toWrite) {
    const { toWrite: _, ...rest } = claimer;
    steps.push({ label: `${name} writes`, world: toClaimer(withClaimer(world, at, { ...rest, disk: toWrite }), at, { kind: 'written', nowMicros: 0 }) });
    steps.push({ label: `${name} cannot write`, world: toClaimer(withClaimer(world, at, rest), at, { kind: 'unwritten', nowMicros: 0 }) });
  }
  if (state.kind === 'unknown' && asked < bounds.attempts + 1) {
    steps.push({ label: `${name} asks`, world: toClaimer(withClaimer(world, at, { ...claimer, asked: asked + 1 }), at, { kind: 'ask', nonce: term('question', name, String(asked)), nowMicros: 0 }) });
  }
  steps.push({ label: `${name} gives up`, world: toClaimer(world, at, { kind: 'abandon', nowMicros: 0 }) });
  if (world.crashes < bounds.crashes && state.kind !== 'idle') steps.push({ label: `${name} crashes`, world: crashClaimer(world, at) });
  if (state.kind === 'ended' && claimer.attempts < bounds.attempts) steps.push({ label: `${name} may begin anew`, world: withClaimer(world, at, { ...claimer, state: { kind: 'idle' } }) });
  return steps;
}

export function startClaim(world: World, at: number): World {
  const claimer = world.claimers[at];
  assert.ok(claimer);
  const { name, secret, attempts } = claimer;
  const begun = withClaimer(world, at, { ...claimer, attempts: attempts + 1 });
  const [claimId, nonce] = [term('claim', name, String(attempts)), term('nonce', name, String(attempts))];
  return toClaimer(begun, at, { kind: 'start', code: { keyDigest: KEY_DIGEST, secret }, claimId, nonce, nowMicros: 0 });
}

export function toDevice(world: World, input: DeviceInput): World {
  let { offers } = world;
  const { state, effects } = stepDevice(world.device, input, idealDevice(() => String((offers += 1))));
  return effects.length === 0 && state === world.device ? world : plain(effects.reduce(deviceEffect, { ...world, offers, device: state }));
}

/** A deadline's value says nothing here, time passes at any moment; of numbers only whether they are the last. */
function plain(world: World): World {
  const { phase, number: last } = world.device;
  const renumber = <T extends object>(item: T): T => ('number' in item ? { ...item, number: item.number === last ? 1 : 0 } : item);
  const timeless = 'deadlineMicros' in phase ? { ...phase, deadlineMicros: 1 } : phase;
  const work = world.work.map(renumber).filter((item, at, all) => item.kind !== 'read' || all.slice(0, at).every((earlier) => keyOf(earlier) !== keyOf(item)));
  return { ...world, work, device: { ...world.device, number: 1, phase: renumber(timeless) } };
}

function deviceEffect(world: World, effect: DeviceEffect): World {
  switch (effect.kind) {
    case 'send': return learn(effect.message.kind === 'refused' && ['claim.secret_wrong', 'claim.locked'].includes(effect.message.reason) && world.device.phase.kind === 'open' ? countWrong(world) : world, effect.message);
    case 'prove': return { ...world, work: [...world.work, { kind: 'prove', number: effect.number }] };
    case 'apply': return { ...world, settings: { kind: 'trial', claimId: toHex(effect.handOver.claimId) }, work: [...world.work, { kind: 'apply', number: effect.number, handOver: effect.handOver }] };
    case 'revert': return { ...world, settings: { kind: 'none' } };
    case 'write': return { ...world, work: [...world.work, { kind: 'write', record: effect.record }] };
    case 'read': return { ...world, work: [...world.work, { kind: 'read', number: effect.number }] };
    case 'own': return { ...world, settings: { kind: 'kept', claimId: toHex(effect.owner.claimId) } };
    case 'disown': return showCodes({ ...world, settings: { kind: 'none' }, isReleased: true });
    case 'words': case 'note': case 'forget': return world;
  }
}

/** The device gets to know the codes that there are. */
export const showCodes = (world: World): World => toDevice(world, codesOn(world));

const countWrong = (world: World): World => ({ ...world, wrong: world.device.record.failures.count });

type Outcome = 'done' | 'fails' | 'fails but landed';
const OUTCOMES: Readonly<Record<Work['kind'], readonly Outcome[]>> = { prove: ['done', 'fails'], apply: ['done', 'fails'], write: ['done', 'fails', 'fails but landed'], read: ['done'] };

export function finishWork(world: World, at: number, outcome: Outcome): World {
  const work = world.work[at];
  assert.ok(work);
  const rest: World = { ...world, work: world.work.filter((_, place) => place !== at) };
  if (work.kind === 'read') return toDevice(toDevice(rest, codesOn(rest)), { kind: 'read', number: work.number, record: rest.disk, nowMicros: 0 });
  if (work.kind === 'write') return toDevice(outcome === 'fails' ? rest : { ...rest, disk: work.record }, { kind: outcome === 'done' ? 'written' : 'unwritten', nowMicros: 0 });
  if (outcome !== 'done') return toDevice(rest, { kind: 'failed', number: work.number, code: 'claim.apply', detail: '', nowMicros: 0 });
  return toDevice(rest, work.kind === 'prove' ? { kind: 'proven', number: work.number, evidence: EVIDENCE, nowMicros: 0 } : { kind: 'applied', number: work.number, nowMicros: 0 });
}

/** `landed`: what was being written reached the disk. Settings on trial do not outlive it. */
function crashDevice(world: World, landed: boolean, boot = world.device.boot): World {
  const written = world.work.find((work) => work.kind === 'write');
  if (landed && !written) return world;
  const disk = landed && written?.kind === 'write' ? written.record : world.disk;
  const { state, effects } = startDevice(boot, 0);
  const isCycled = boot !== world.device.boot;
  const settings = world.settings.kind === 'trial' ? { kind: 'none' } as const : world.settings;
  const crashed: World = { ...world, disk, settings, work: [], device: state, crashes: world.crashes + (isCycled ? 0 : 1), powerCycles: world.powerCycles + (isCycled ? 1 : 0), wrong: isCycled ? 0 : world.wrong };
  return plain(effects.reduce(deviceEffect, crashed));
}

function crashClaimer(world: World, at: number): World {
  const claimer = world.claimers[at];
  assert.ok(claimer);
  const { toWrite: _, toJudge: __, ...rest } = claimer;
  const crashed: World = { ...withClaimer(world, at, { ...rest, state: { kind: 'idle' } }), crashes: world.crashes + 1 };
  return rest.disk?.outcome === 'pending' ? toClaimer(crashed, at, { kind: 'resume', record: rest.disk, nowMicros: 0 }) : crashed;
}

export function toClaimer(world: World, at: number, input: ClaimerInput): World {
  const claimer = world.claimers[at];
  assert.ok(claimer);
  const { state, effects } = stepClaimer(claimer.state, input, idealClaimer(`${claimer.name} ${claimer.attempts}`));
  if (state === claimer.state && effects.length === 0) return world;
  const moved = withClaimer(world, at, { ...claimer, state: 'deadlineMicros' in state ? { ...state, deadlineMicros: 1 } : state });
  return effects.reduce((next, effect) => claimerEffect(next, at, claimer.state, effect), moved);
}

function claimerEffect(world: World, at: number, before: ClaimerState, effect: ClaimerEffect): World {
  const claimer = world.claimers[at];
  assert.ok(claimer);
  switch (effect.kind) {
    case 'send': return learn(world, effect.message);
    case 'judge': return withClaimer(world, at, { ...claimer, toJudge: { claimId: effect.claimId, transcript: effect.transcript } });
    case 'write': return withClaimer(world, at, effect.record.outcome === 'pending' ? { ...claimer, toWrite: effect.record } : { ...claimer, disk: effect.record });
    case 'end': {
      const { toJudge: _, ...rest } = claimer;
      const claimId = 'record' in before ? before.record.claimId : 'hello' in before ? before.hello.claimId : assert.fail('nothing was under way');
      return withClaimer(world, at, { ...rest, believed: { ...claimer.believed, [toHex(claimId)]: effect.outcome } });
    }
    case 'challenge': case 'doubt': case 'forget': return world;
  }
}

const withClaimer = (world: World, at: number, claimer: Claimer): World => ({ ...world, claimers: world.claimers.with(at, claimer) });

const keys = new WeakMap<object, string>();
/** One text for one value: states that mean the same are the same. */
export function keyOf(value: unknown): string {
  if (typeof value === 'function') return 'f';
  if (typeof value !== 'object' || value === null) return String(value);
  const known = keys.get(value);
  if (known !== undefined) return known;
  const key = value instanceof Uint8Array ? toHex(value) : Array.isArray(value) ? `[${value.map(keyOf).join()}]` : `{${Object.entries(value).filter(([, item]) => item !== undefined).toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([name, item]) => `${name}:${keyOf(item)}`).join()}}`;
  keys.set(value, key);
  return key;
}

function learn(world: World, message: ClaimMessage): World {
  const key = keyOf(message);
  if (world.known.some((known) => keyOf(known) === key)) return world;
  return { ...world, known: [...world.known, message].toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1)) };
}

/** What somebody without the secret and without the device's key can make of what they saw: themselves as claimer, as device, and lies. */
function forged(world: World): ClaimMessage[] {
  const lie = term('lie');
  const made: ClaimMessage[] = [{ kind: 'hello', claimId: term('claim', 'attacker'), nonce: lie }, { kind: 'refused', reason: 'claim.busy' }, { kind: 'proof', confirmation: lie, sealed: lie }, { kind: 'handOver', sealed: lie }];
  const hellos = world.known.filter((message) => message.kind === 'hello');
  for (const hello of hellos) {
    made.push({ kind: 'offer', signingKey: term('identity', 'attacker'), request: undefined, ephemeral: lie, signature: lie });
    made.push({ kind: 'ask', claimId: hello.claimId, nonce: lie });
  }
  for (const message of world.known) {
    if (message.kind === 'offer') {
      made.push({ ...message, ephemeral: lie });
      for (const hello of [...hellos, { kind: 'hello', claimId: term('claim', 'attacker'), nonce: lie } as const]) {
        const { accept, keys: { toDevice: key, transcript } } = acceptance('attacker', { hello, offer: message, secret: term('guess') });
        made.push(accept, { kind: 'handOver', sealed: sealed(key, handOverOf('attacker', hello.claimId, transcript)) });
      }
    }
    if (message.kind === 'standing') made.push({ ...message, standing: message.standing === 'owned' ? 'none' : 'owned' });
    if (message.kind === 'accept') made.push({ ...message, confirmation: lie });
  }
  for (const { state } of world.claimers) {
    if (state.kind === 'handing') for (const standing of ['owned', 'none'] as const) made.push({ kind: 'standing', claimId: state.record.claimId, nonce: state.transcript, standing, reason: '', generation: 0, signature: lie });
    if (state.kind === 'handing') made.push({ kind: 'ask', claimId: state.record.claimId, nonce: state.transcript });
    if (state.kind === 'proving') made.push({ kind: 'ask', claimId: state.hello.claimId, nonce: state.keys.transcript });
  }
  return made;
}

/** Who made a hand-over, and for which claim and session. */
export function makerOf(handOver: Uint8Array): { readonly name: string; readonly claimId: Uint8Array } {
  const [, name, claimId] = partsOf(handOver);
  assert.ok(typeof name === 'string' && claimId instanceof Uint8Array);
  return { name, claimId };
}
