import assert from 'node:assert/strict';
import { confirmationOf, deltaOf, desire, mergeReported, nextVersion, viewOf, type Twin } from '#runtime/controller/twins.ts';
import { parseQuery } from '#runtime/controller/queryParser.ts';
import { matches } from '#runtime/controller/query.ts';
import type { Json } from '#runtime/core/json.ts';
import type { Desired, Reported } from '#runtime/core/twin.ts';
import { firstState, step, type Input, type TwinMachine } from '#runtime/fleet/twin.ts';
import { randomOf } from '#test/support/random.ts';

const reported = (revision: number, version: number, changes: Partial<Reported> = {}): Reported => ({ revision, version, state: 'confirmed', value: 1, ...changes });

const asDesired = (twin: Twin, value: Json): Desired => ({ version: nextVersion(twin), value, confirmSeconds: 60, confirmKey: '5'.repeat(64) });
const desiring = (twin: Twin, value: Json): Twin => desire(twin, asDesired(twin, value));

describe('controller: twins', () => {
  it('gives each version once, and only to a change that knows the newest', () => {
    const first = desiring({}, { site: 'yard' });
    const second = desiring(first, { site: 'hall' });
    assert.deepEqual([first.desired?.version, second.desired?.version], [1, 2]);
    assert.throws(() => desire(second, asDesired(first, null)), { code: 'twin.conflict' });
    assert.equal(nextVersion({ reported: reported(9, 7) }), 8, 'a version that a gateway knows is never used again');
  });

  it('merges by revision, and tells a second gateway of that name', () => {
    const twin: Twin = { ...desiring({}, 1), reported: reported(5, 1) };
    const outcomes = [reported(6, 1), reported(5, 1), reported(4, 0), reported(5, 1, { value: 2 }), reported(6, 0), reported(6, 2)].map((report) => mergeReported(twin, report));
    assert.deepEqual(outcomes.map(({ kind }) => kind), ['merged', 'stale', 'stale', 'conflict', 'conflict', 'conflict']);
    assert.deepEqual([mergeReported({}, reported(9, 7)).kind, mergeReported({ reported: reported(9, 7) }, reported(10, 8)).kind], ['merged', 'conflict'], 'a gateway that comes from another fleet begins where it is');
  });

  it('sends what is not taken up, and no more', () => {
    const open = desiring({}, 1);
    const twins = new Map<string, Twin>([['new', open], ['known', { ...open, reported: reported(3, 1) }], ['failed', { ...open, reported: reported(3, 1, { state: 'reverted' }) }], ['never', {}]]);
    assert.deepEqual([...deltaOf(twins).keys()], ['new']);
    assert.ok(matches(parseQuery("id = 'gw' and twin.known = 1 and not exists twin.new and health.status = 'up'"), viewOf('gw', twins, { status: 'up' })));
  });

  it('agrees with the gateway whatever a link drops, repeats and re-orders', () => {
    for (let seed = 1; seed <= 200; seed++) {
      const random = randomOf(seed);
      let machine: TwinMachine = firstState(0);
      let twin: Twin = {};
      let toController: Reported[] = [];
      let disk: unknown = 0;
      const feed = (input: Input): void => {
        const { state, effects } = step(machine, input);
        machine = state;
        for (const effect of effects) {
          if (effect.kind === 'report') toController.push(machine.report);
          if (effect.kind !== 'apply') continue;
          disk = effect.value;
          feed({ kind: 'applied', version: effect.version, undo: effect.undo, nowMicros: 0 });
        }
      };
      const exchange = (isSound: boolean): void => {
        const arriving = isSound ? [machine.report] : toController.splice(0).flatMap((report) => Array.from({ length: random(3) }, () => report)).toSorted(() => random(3) - 1);
        for (const report of arriving) {
          const merge = mergeReported(twin, report);
          assert.notEqual(merge.kind, 'conflict', `seed ${seed}`);
          if (merge.kind === 'merged') twin = merge.twin;
        }
        for (const [, desired] of deltaOf(new Map([['config', twin]]))) if (isSound || random(3) > 0) feed({ kind: 'desired', desired });
        const confirmation = confirmationOf(twin);
        if (confirmation && (isSound || random(3) > 0)) feed({ kind: 'confirmed', confirmation });
      };
      for (let round = 0; round < 30; round++) {
        if (random(4) === 0) twin = desiring(twin, 1 + random(5));
        if (random(6) === 0) feed({ kind: 'tick', nowMicros: 61_000_000 });
        exchange(false);
      }
      toController = [];
      for (let round = 0; round < 6; round++) exchange(true);
      assert.equal(machine.phase, 'settled', `seed ${seed}`);
      assert.deepEqual([twin.reported, twin.reported?.version, machine.value], [machine.report, twin.desired?.version ?? 0, disk], `seed ${seed}`);
    }
  });
});
