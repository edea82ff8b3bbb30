/** The twin on the gateway: every order of messages, results, kills and lapses of time, explored to the end. */
import assert from 'node:assert/strict';
import { canonicalJson, type Json } from '#runtime/core/json.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Confirmation, Desired } from '#runtime/core/twin.ts';
import { encodeCbor } from '#runtime/crypto/cbor.ts';
import { durableOf, firstState, step, type Effect, type Input, type TwinMachine } from '#runtime/fleet/twin.ts';
import { decodeTwinState, encodeTwinState } from '#runtime/fleet/twinState.ts';
import { randomOf } from '#test/support/random.ts';

type Apply = Extract<Effect, { kind: 'apply' }>;

/** `cut` is a configuration under which no fleet can be reached; `bad` fits no schema. */
const FIRST = 'first';
const CONFIRM_KEY = '5'.repeat(64);
const DESIRED: readonly Desired[] = ['good', 'cut', 'bad', 'better'].map((value, at) => ({ version: at + 1, value, confirmSeconds: 60, confirmKey: CONFIRM_KEY }));
/** Put there by somebody at the machine. */
const BY_HAND = 'by hand';
const faultOf = ({ value }: Desired): { readonly fault?: string } => (value === 'bad' ? { fault: 'fits no schema' } : {});
/** Far beyond what there are: a machine that counts without bound would be explored for ever. */
const STATES_MAX = 100_000;
const LATER = Number.MAX_SAFE_INTEGER;

/** Machine, disk, what is still to be carried out, and what the fleet has sent. */
interface World {
  readonly machine: TwinMachine;
  readonly disk: Json;
  readonly queue: readonly { readonly apply: Apply; readonly isDone: boolean }[];
  readonly confirmations: readonly Confirmation[];
}

const isReachable = ({ disk }: World): boolean => disk !== 'cut';

function feed(world: World, input: Input): World {
  const { state, effects } = step(world.machine, input);
  const applies = effects.filter((effect) => effect.kind === 'apply').map((apply) => ({ apply, isDone: false }));
  return { ...world, machine: state, queue: [...world.queue, ...applies] };
}

/** What can happen next; a kill loses the queue and what is not durable. */
function next(world: World): readonly World[] {
  const [head, ...rest] = world.queue;
  const worlds: World[] = [{ ...feed({ ...world, queue: [], machine: decodeTwinState(encodeTwinState(durableOf(world.machine))) }, { kind: 'started', nowMicros: 0 }) }];
  worlds.push(feed(world, { kind: 'tick', nowMicros: LATER }), feed(world, { kind: 'tick', nowMicros: 0 }));
  if (head && !head.isDone) {
    worlds.push({ ...world, disk: head.apply.value, queue: [{ ...head, isDone: true }, ...rest] });
    worlds.push(feed({ ...world, queue: rest }, resultOf(head.apply, 'disk full')));
  }
  if (!head && world.machine.phase === 'settled' && world.machine.value !== BY_HAND) worlds.push(feed({ ...world, disk: BY_HAND }, { kind: 'found', value: BY_HAND }));
  if (world.machine.phase === 'applying' || world.machine.phase === 'probation') worlds.push(feed({ ...world, disk: world.machine.value, queue: [] }, { kind: 'withdrawn', reason: 'the gateway could not start with it' }));
  if (head?.isDone) worlds.push(feed({ ...world, queue: rest }, resultOf(head.apply)));
  if (!isReachable(world)) return worlds;
  for (const desired of DESIRED) worlds.push(feed(world, { kind: 'desired', desired, ...faultOf(desired) }));
  for (const confirmation of world.confirmations) worlds.push(feed(world, { kind: 'confirmed', confirmation }));
  const { state, version, revision } = world.machine.report;
  if (state === 'probation' && !world.confirmations.some((sent) => sent.revision === revision)) worlds.push({ ...world, confirmations: [...world.confirmations, { version, revision }] });
  return worlds;
}

const resultOf = ({ version, undo }: Apply, fault?: string): Input => ({ kind: 'applied', version, undo, nowMicros: 0, ...(fault === undefined ? {} : { fault }) });
const keyOf = ({ machine, ...rest }: World): string => JSON.stringify([machine.dueMicros, encodeTwinState(durableOf(machine)).toString('latin1'), rest]);

/** What must hold wherever one looks. */
function judge(world: World): void {
  const { machine, disk, queue } = world;
  assert.notEqual(machine.value, 'cut', 'a configuration without a fleet was never confirmed');
  assert.ok(disk !== 'bad' && machine.value !== 'bad', 'what fits no schema is never in force');
  assert.ok(disk === machine.value || disk === machine.trial?.value, `disk holds ${JSON.stringify(disk)}, which is neither the old nor the new value`);
  assert.equal(machine.phase === 'settled', machine.trial === undefined);
  assert.ok(machine.starts <= LIMITS.twinProbationStartsMax + 1);
  if (machine.phase === 'settled') assert.deepEqual([queue.length, disk, machine.report.value], [0, machine.value, machine.value], 'settled: nothing is to be done, and what is said is in force');
  if (machine.phase !== 'settled' && queue.length === 0) assert.notEqual(machine.dueMicros, undefined, `${machine.phase} waits for nothing`);
}

/** Nothing but time and the end of what runs: nobody sends anything. */
function leftAlone(world: World): World {
  let now = world;
  for (let turn = 0; turn < 20 && now.machine.phase !== 'settled'; turn++) {
    const [head, ...rest] = now.queue;
    now = head ? feed({ ...now, disk: head.apply.value, queue: rest }, resultOf(head.apply)) : feed(now, { kind: 'tick', nowMicros: LATER });
  }
  return now;
}

describe('fleet: the twin on the gateway', () => {
  it('is sound in every state that messages, failures, kills and time can bring it to', function () {
    this.timeout(60_000);
    const first: World = { machine: firstState(FIRST), disk: FIRST, queue: [], confirmations: [] };
    const seen = new Map([[keyOf(first), first]]);
    const outcomes = new Set<string>();
    let steps = 0;
    for (const world of seen.values()) {
      judge(world);
      outcomes.add(world.machine.report.state);
      const end = leftAlone(world);
      assert.equal(end.machine.phase, 'settled', 'a trial always ends by itself');
      assert.ok(isReachable(end) && end.disk === end.machine.value, 'and leaves a gateway that its fleet can reach');
      for (const after of next(world)) {
        steps++;
        assert.ok(after.machine.report.revision >= world.machine.report.revision && after.machine.report.version >= world.machine.report.version, 'reports never go back');
        if (!seen.has(keyOf(after))) seen.set(keyOf(after), after);
        assert.ok(seen.size < STATES_MAX, 'the states have no end: something counts up');
      }
    }
    assert.deepEqual([...outcomes].toSorted((a, b) => (a < b ? -1 : 1)), ['applying', 'confirmed', 'local', 'probation', 'refused', 'reverted', 'reverting', 'unset']);
    assert.ok(seen.size > 1_000, `${seen.size} states`);
    console.log(`        ${seen.size} states, ${steps} steps`);
  });

  const good: Desired = { version: 1, value: { wifi: 'yard' }, confirmSeconds: 60, confirmKey: CONFIRM_KEY };
  const tried = (): TwinMachine => step(step(firstState(null), { kind: 'desired', desired: good }).state, { kind: 'applied', version: 1, undo: false, nowMicros: 5 }).state;

  it('confirms only what the fleet heard in this trial', () => {
    const state = tried();
    assert.deepEqual([state.phase, state.dueMicros], ['probation', 60_000_005]);
    for (const confirmation of [{ version: 1, revision: state.probationRevision - 1 }, { version: 2, revision: state.probationRevision }, { version: 1, revision: state.probationRevision + 1 }]) {
      assert.equal(step(state, { kind: 'confirmed', confirmation }).state, state);
    }
    const confirmed = step(state, { kind: 'confirmed', confirmation: { version: 1, revision: state.probationRevision } });
    assert.deepEqual([confirmed.state.report.state, confirmed.state.value, confirmed.effects], ['confirmed', good.value, [{ kind: 'report' }]]);
  });

  it('goes back at the end of its time to the microsecond, and says why', () => {
    const state = tried();
    assert.equal(step(state, { kind: 'tick', nowMicros: 60_000_004 }).state.phase, 'probation');
    const late = step(state, { kind: 'tick', nowMicros: 60_000_005 });
    assert.deepEqual(late.effects, [{ kind: 'apply', value: null, version: 1, undo: true }, { kind: 'report' }]);
    const back = step(late.state, { kind: 'applied', version: 1, undo: true, nowMicros: 60_000_009 });
    assert.deepEqual([back.state.report.state, back.state.report.reason], ['reverted', 'the fleet did not confirm it within 60 s']);
    assert.equal(step(back.state, { kind: 'desired', desired: good }).state, back.state, 'the same version is not tried again');
  });

  it('ignores the end of an apply that it does not wait for', () => {
    const applying = step(firstState(null), { kind: 'desired', desired: good }).state;
    const reverting = step(tried(), { kind: 'tick', nowMicros: 60_000_005 }).state;
    for (const [state, version, undo] of [[applying, 1, true], [applying, 2, false], [tried(), 1, false], [reverting, 1, false], [reverting, 0, true], [firstState(null), 1, false]] as const) {
      assert.equal(step(state, { kind: 'applied', version, undo, nowMicros: 9 }).state, state);
    }
  });

  it('ends a configuration under which the gateway starts over and over', () => {
    let state = tried();
    for (let start = 0; start < LIMITS.twinProbationStartsMax; start++) {
      state = step(decodeTwinState(encodeTwinState(durableOf(state))), { kind: 'started', nowMicros: 0 }).state;
      assert.equal(state.phase, 'probation');
    }
    state = step(decodeTwinState(encodeTwinState(durableOf(state))), { kind: 'started', nowMicros: 0 }).state;
    assert.equal(state.phase, 'reverting');
  });

  it('goes back at once where the value is in force no more, and says why', () => {
    const back = step(tried(), { kind: 'withdrawn', reason: 'broker.listener: no such address' });
    assert.deepEqual([back.state.phase, back.state.report.reason], ['reverting', 'broker.listener: no such address']);
    assert.equal(step(firstState(null), { kind: 'withdrawn', reason: 'nothing is on trial' }).effects.length, 0);
  });

  it('reports what somebody at the machine has changed, and lets it be', () => {
    const found = step(firstState({ a: 1 }), { kind: 'found', value: { a: 2 } });
    assert.deepEqual([found.state.report.state, found.state.report.value, found.effects], ['local', { a: 2 }, [{ kind: 'report' }]]);
    assert.equal(step(found.state, { kind: 'found', value: { a: 2 } }).state, found.state);
    assert.deepEqual(step(tried(), { kind: 'found', value: 'other' }).effects, [], 'not during a trial');
  });

  it('refuses every damaged state with a typed error', () => {
    const sound = encodeTwinState(durableOf({ ...tried(), waiting: { ...good, version: 2 } }));
    assert.deepEqual(encodeTwinState(decodeTwinState(sound)), sound);
    const random = randomOf(7);
    for (let round = 0; round < 3_000; round++) {
      const bent = Buffer.from(sound);
      bent[random(bent.length)] = random(256);
      let decoded;
      try {
        decoded = decodeTwinState(round % 3 === 0 ? bent.subarray(0, random(bent.length)) : bent);
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'twin.state');
        continue;
      }
      assert.ok(canonicalJson(decoded.value).length > 0 && encodeTwinState(decoded).length > 0);
    }
    assert.throws(() => decodeTwinState(encodeCbor([])), { code: 'twin.state' });
  });
});
