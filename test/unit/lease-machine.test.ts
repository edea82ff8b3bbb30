import assert from 'node:assert/strict';
import { LIMITS } from '#runtime/core/limits.ts';
import { dueMicros, inForce, phaseOf, reasonOf, startState, step, type Fault, type Held, type Input, type LeaseState } from '#runtime/lease/machine.ts';

const SECOND = 1_000_000;
const held = (fromMicros: number, seconds = 100): Held => ({ digest: new Uint8Array(32), index: 7, level: 'enrolled', fromMicros, untilMicros: fromMicros + seconds * SECOND });
const REFUSED: Fault = { kind: 'refused', reason: 'boot.pcrs: PCR 7' };
const FAILED: Fault = { kind: 'failed', reason: 'ECONNREFUSED' };

/** Runs inputs one after another; the effects of each. */
function run(state: LeaseState, ...inputs: readonly Input[]): { readonly state: LeaseState; readonly effects: readonly (readonly string[])[] } {
  const effects: (readonly string[])[] = [];
  for (const input of inputs) {
    const next = step(state, input);
    state = next.state;
    effects.push(next.effects);
  }
  return { state, effects };
}
const tick = (nowMicros: number): Input => ({ kind: 'tick', nowMicros });
const failed = (fault: Fault, nowMicros: number, chance = 0.5): Input => ({ kind: 'failed', fault, nowMicros, chance });
const leased = run(startState(0), tick(0), { kind: 'enrolled' }, { kind: 'granted', held: held(0), chance: 0 }).state;

describe('lease state machine', () => {
  it('goes from none over enrolling and challenged to held', () => {
    const none = startState(5);
    assert.equal(phaseOf(none, 5), 'none');
    const asked = run(none, tick(5));
    assert.deepEqual([asked.effects, phaseOf(asked.state, 5)], [[['begin']], 'enrolling']);
    const challenged = run(asked.state, tick(6), { kind: 'enrolled' });
    assert.deepEqual([challenged.effects, phaseOf(challenged.state, 6)], [[[], []], 'challenged']);
    const granted = run(challenged.state, { kind: 'granted', held: held(6), chance: 0 });
    assert.deepEqual([granted.effects, phaseOf(granted.state, 7)], [[['tell']], 'held']);
  });

  it('renews at half life, at most a tenth of that earlier', () => {
    assert.equal(leased.nextMicros, 50 * SECOND);
    assert.equal(run(startState(0), { kind: 'granted', held: held(0), chance: 1 }).state.nextMicros, 45 * SECOND);
    assert.equal(phaseOf(leased, 50 * SECOND - 1), 'held');
    const due = run(leased, tick(50 * SECOND));
    assert.deepEqual([due.effects, phaseOf(due.state, 50 * SECOND)], [[['begin']], 'due']);
    assert.ok(inForce(due.state, 99 * SECOND), 'the old lease counts while it is renewed');
  });

  it('lapses at the end of its life to the microsecond, whether or not a tick came', () => {
    const last = 100 * SECOND;
    assert.ok(inForce(leased, last - 1));
    assert.equal(inForce(leased, last), undefined);
    assert.equal(phaseOf(leased, last), 'lapsed');
    const round = run(leased, tick(50 * SECOND), failed(FAILED, 51 * SECOND));
    const lapsed = run(round.state, tick(last));
    assert.deepEqual([lapsed.effects[0]?.includes('tell'), phaseOf(lapsed.state, last), reasonOf(lapsed.state)], [true, 'lapsed', 'ECONNREFUSED']);
  });

  it('keeps its lease when the verifier is not there, and loses it when it is refused', () => {
    const away = run(leased, tick(50 * SECOND), failed(FAILED, 51 * SECOND));
    assert.deepEqual([phaseOf(away.state, 52 * SECOND), away.effects[1]], ['due', []]);
    assert.ok(inForce(away.state, 52 * SECOND));
    const refused = run(leased, tick(50 * SECOND), failed(REFUSED, 51 * SECOND));
    assert.deepEqual([phaseOf(refused.state, 52 * SECOND), refused.effects[1], inForce(refused.state, 52 * SECOND)], ['refused', ['tell'], undefined]);
    assert.equal(reasonOf(refused.state), REFUSED.reason);
  });

  it('backs off with jitter up to a bound, waits as long as it is told, and tells the same reason once', () => {
    let state = startState(0);
    let [told, lastWait] = [0, 0];
    for (let round = 0; round < 20; round++) {
      const now = state.nextMicros;
      const { state: next, effects } = run(state, tick(now), failed(FAILED, now, 0.5));
      told += effects.flat().filter((effect) => effect === 'tell').length;
      lastWait = next.nextMicros - now;
      assert.ok(lastWait <= LIMITS.leaseRetryMaxMs * 1_000);
      state = next;
    }
    assert.deepEqual([told, lastWait], [1, LIMITS.leaseRetryMaxMs * 1_000]);
    const waits = [0, 0.5, 1].map((chance) => run(startState(0), tick(0), failed(FAILED, 0, chance)).state.nextMicros / 1_000);
    assert.deepEqual(waits, [750, 1_000, 1_250]);
    const told60 = run(startState(0), tick(0), { kind: 'failed', fault: FAILED, nowMicros: 0, chance: 0.5, retryAfterMs: 60_000 });
    assert.equal(told60.state.nextMicros, 60 * SECOND);
  });

  it('begins no second round while one is under way, and knows when it is due next', () => {
    const under = run(startState(0), tick(0)).state;
    assert.deepEqual(run(under, tick(1_000 * SECOND)).effects, [[]]);
    assert.equal(dueMicros(under), Infinity);
    assert.equal(dueMicros(leased), 50 * SECOND);
    assert.equal(dueMicros(run(leased, tick(50 * SECOND)).state), 100 * SECOND);
  });
});
