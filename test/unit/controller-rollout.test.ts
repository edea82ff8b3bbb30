/** Roll-outs, held against many worlds that go wrong. */
import assert from 'node:assert/strict';
import { parseRollout, type RolloutPlan } from '#runtime/controller/rolloutPlan.ts';
import { dueMicros, SILENT, step, UNHEALTHY, UNHEARD, type RolloutEffect, type RolloutEvent } from '#runtime/controller/rollout.ts';
import { decodeEvent, decodeRollout, encodeEvent, encodeRollout, replay } from '#runtime/controller/rolloutCodec.ts';
import { progressOf, reportOf } from '#runtime/controller/rolloutReport.ts';
import { beginRollout, commandIdOf, type RolloutState } from '#runtime/controller/rolloutState.ts';
import { randomOf } from '#test/support/random.ts';
import { HABITS, RolloutWorld, type Habit } from '#test/support/rolloutWorld.ts';

const SECOND = 1_000_000;
const CALM = { kill: 0, lose: 0, repeat: 0 };
const WILD = { kill: 60, lose: 200, repeat: 200 };

const ORDERS: readonly RolloutEvent[] = [{ kind: 'pause' }, { kind: 'abort', why: 'test' }, { kind: 'rollBack', why: 'test' }];

const planOf = (changes: Readonly<Record<string, unknown>> = {}): RolloutPlan => parseRollout({
  version: 1,
  rollout: {
    id: 'r1', group: 'all', command: { type: 'firmware_update', parameters: { version: '1.4.0' }, ttlSeconds: 60 }, rollback: { type: 'firmware_update', parameters: { version: '1.3.0' }, ttlSeconds: 60 },
    stages: [{ name: 'canary', count: 2, soakSeconds: 100 }, { percent: 50, soakSeconds: 100 }, { percent: 100, soakSeconds: 10 }],
    failures: { percent: 20 }, concurrency: 5, ...changes,
  },
});
const names = (count: number): readonly string[] => Array.from({ length: count }, (_, at) => `gw-${at}`);
const begun = (plan: RolloutPlan, count = 10): { state: RolloutState; effects: readonly RolloutEffect[] } => step(beginRollout(plan, names(count), SECOND), { kind: 'started' }, SECOND);
const habits = (count: number, of: (at: number) => Habit): readonly Habit[] => Array.from({ length: count }, (_, at) => of(at));

/** Feeds events at one time; the state and the effects of all. */
function feed(state: RolloutState, nowSeconds: number, ...events: readonly RolloutEvent[]): { state: RolloutState; effects: readonly RolloutEffect[] } {
  const effects: RolloutEffect[] = [];
  for (const event of events) {
    const next = step(state, event, nowSeconds * SECOND);
    state = next.state;
    effects.push(...next.effects);
  }
  return { state, effects };
}
const issuedTo = (effects: readonly RolloutEffect[]): readonly string[] => effects.flatMap((effect) => (effect.kind === 'issue' ? [effect.gateway] : []));
const results = (effects: readonly RolloutEffect[], isSuccess = true, reason = ''): readonly RolloutEvent[] =>
  effects.flatMap((effect) => (effect.kind === 'issue' ? [{ kind: 'result' as const, gateway: effect.gateway, commandId: effect.commandId, isSuccess, reason }] : []));

describe('controller: roll-outs', () => {
  it('goes by stages, canaries first, and watches each before the next', () => {
    const canary = begun(planOf());
    assert.deepEqual(issuedTo(canary.effects), canary.state.gateways.slice(0, 2));
    const soaking = feed(canary.state, 5, ...results(canary.effects));
    assert.deepEqual([soaking.state.phase, issuedTo(soaking.effects), dueMicros(soaking.state)], ['soaking', [], 105 * SECOND]);
    assert.deepEqual(issuedTo(feed(soaking.state, 104, { kind: 'tick' }).effects), []);
    const second = feed(soaking.state, 105, { kind: 'tick' });
    assert.deepEqual(issuedTo(second.effects), second.state.gateways.slice(2, 5));
    assert.ok(second.effects.some(({ kind }) => kind === 'report'));
    const { phase, stageName, succeeded, inFlight, waiting, fraction } = progressOf(second.state);
    assert.deepEqual([phase, stageName, succeeded, inFlight, waiting, fraction], ['running', 'stage 2', 2, 3, 5, 0.2]);
  });

  it('stops the rest when a stage fails, and says why by reason', () => {
    const canary = begun(planOf());
    const stopped = feed(canary.state, 5, ...results(canary.effects, false, 'disk full'));
    const report = reportOf(stopped.state);
    assert.deepEqual([report.outcome, report.why, report.untouched.length], ['stopped', '1 of 2 failed, 0 are borne', 8]);
    assert.deepEqual(report.failures.map(({ reason, gateways }) => [reason, gateways.length]), [['disk full', 2]]);
  });

  it('judges health at the end of a soak, as it then is', () => {
    const plan = planOf({ healthy: "health.status = 'up'", failures: { max: 1 } });
    const canary = begun(plan);
    const [first = '', second = ''] = canary.state.gateways;
    const soaking = feed(canary.state, 5, ...results(canary.effects), { kind: 'health', gateway: first, isHealthy: false }, { kind: 'health', gateway: first, isHealthy: true });
    const unheard = feed(soaking.state, 105, { kind: 'tick' });
    assert.deepEqual([unheard.state.phase, reportOf(unheard.state).failures], ['running', [{ reason: UNHEARD, gateways: [second] }]]);
    const sick = feed(soaking.state, 104, { kind: 'health', gateway: first, isHealthy: false }, { kind: 'health', gateway: second, isHealthy: false });
    const stopped = feed(sick.state, 105, { kind: 'tick' });
    assert.deepEqual([stopped.state.phase, reportOf(stopped.state).failures[0]?.reason, reportOf(stopped.state).changed.length], ['ended', UNHEALTHY, 2]);
  });

  it('tries again with another id, gives the silent up, and takes their commands back', () => {
    const canary = begun(planOf({ attempts: 2, failures: { max: 10 } }));
    const again = feed(canary.state, 61, { kind: 'tick' });
    assert.deepEqual(issuedTo(again.effects), issuedTo(canary.effects));
    assert.equal(again.effects.filter(({ kind }) => kind === 'cancel').length, 2);
    const ids = [...canary.effects, ...again.effects].flatMap((effect) => (effect.kind === 'issue' ? [effect.commandId] : []));
    assert.equal(new Set(ids).size, 4);
    assert.ok(ids.every((id) => /^[A-Za-z0-9_-]{1,64}$/.test(id)));
    const silent = feed(again.state, 121, { kind: 'tick' });
    assert.deepEqual([silent.state.phase, reportOf(silent.state).failures[0]?.reason], ['soaking', SILENT]);
  });

  it('sends nothing while it is paused, also over a restart, and goes on where it was', () => {
    const canary = begun(planOf());
    const paused = feed(canary.state, 3, { kind: 'pause' }, ...results(canary.effects), { kind: 'started' });
    assert.deepEqual([issuedTo(paused.effects), paused.state.phase], [[], 'soaking']);
    const later = feed(paused.state, 1_000, { kind: 'tick' });
    assert.deepEqual(issuedTo(later.effects), []);
    const resumed = feed(later.state, 2_000, { kind: 'resume' });
    assert.deepEqual([issuedTo(resumed.effects), dueMicros(resumed.state)], [[], 2_100 * SECOND]);
    assert.equal(issuedTo(feed(resumed.state, 2_100, { kind: 'tick' }).effects).length, 3);
  });

  it('aborts: asks what is in flight to end, and waits for it', () => {
    const canary = begun(planOf());
    const aborted = feed(canary.state, 3, { kind: 'abort', why: 'wrong image' });
    assert.deepEqual([aborted.state.phase, aborted.effects.filter(({ kind }) => kind === 'cancel').length], ['stopping', 2]);
    const ended = feed(aborted.state, 4, ...results(canary.effects, false, 'cancelled'));
    assert.deepEqual([reportOf(ended.state).outcome, reportOf(ended.state).why], ['aborted', 'wrong image']);
    assert.deepEqual(feed(ended.state, 5, { kind: 'pause' }, { kind: 'abort', why: '' }, { kind: 'resume' }).effects.map(({ kind }) => kind), ['refused', 'refused', 'refused']);
  });

  it('rolls back whoever changed, also who says so when all is over', () => {
    const canary = begun(planOf());
    const [one, other] = results(canary.effects);
    assert.ok(one && other);
    const stopping = feed(canary.state, 3, one, { kind: 'rollBack', why: 'they overheat' });
    const undoing = feed(stopping.state, 61, { kind: 'tick' });
    assert.deepEqual(issuedTo(undoing.effects), [canary.state.gateways[0]]);
    const ended = feed(undoing.state, 62, ...results(undoing.effects));
    assert.equal(ended.state.phase, 'ended');
    const late = feed(ended.state, 600, other);
    assert.deepEqual([late.state.phase, issuedTo(late.effects)], ['rollingBack', [canary.state.gateways[1]]]);
    assert.deepEqual(feed(late.state, 601, other).effects, [], 'told again, it is no other change');
    const over = feed(late.state, 602, ...results(late.effects));
    assert.deepEqual([reportOf(over.state).outcome, reportOf(over.state).undone.length, reportOf(over.state).changed], ['rolledBack', 2, []]);
    assert.equal(feed(begun(planOf({ rollback: undefined })).state, 3, { kind: 'rollBack', why: '' }).effects[0]?.kind, 'refused');
  });

  it('tells again after a restart what the broker may not have, under the same id, and nothing else', () => {
    const canary = begun(planOf());
    const [first, second] = canary.effects;
    assert.ok(first?.kind === 'issue' && second?.kind === 'issue');
    assert.deepEqual(feed(canary.state, 2, { kind: 'started' }).effects, [first, second]);
    const { gateway, commandId } = first;
    assert.deepEqual(feed(canary.state, 2, { kind: 'accepted', gateway, commandId }, { kind: 'started' }).effects, [second]);
    const stopping = feed(canary.state, 2, { kind: 'abort', why: '' });
    assert.deepEqual(feed(stopping.state, 3, { kind: 'started' }).effects, stopping.effects.filter(({ kind }) => kind === 'cancel'), 'after a stop nothing goes out, and the cancels do again');
    const paused = feed(canary.state, 2, { kind: 'pause' }, { kind: 'started' });
    assert.deepEqual([issuedTo(paused.effects), issuedTo(feed(paused.state, 3, { kind: 'resume' }).effects)], [[], [gateway, second.gateway]]);
  });

  it('stays paused when the threshold stops it, and rolls back at resume', () => {
    const canary = begun(planOf({ onFailure: 'rollBack' }));
    const [one, other] = [results(canary.effects)[0], results(canary.effects, false, 'disk full')[1]];
    assert.ok(one && other);
    const paused = feed(canary.state, 2, one, { kind: 'pause' }, other);
    assert.deepEqual([paused.state.phase, paused.state.isPaused, issuedTo(paused.effects)], ['rollingBack', true, []]);
    assert.deepEqual(issuedTo(feed(paused.state, 3, { kind: 'resume' }).effects), [canary.state.gateways[0]]);
  });

  it('counts as failed who would have been tried again when it stops', () => {
    const canary = begun(planOf({ attempts: 3 }));
    const paused = feed(canary.state, 2, { kind: 'pause' }, ...results(canary.effects, false, 'disk full'), { kind: 'abort', why: '' });
    assert.deepEqual(reportOf(paused.state).failures.map(({ reason, gateways }) => [reason, gateways.length]), [['disk full', 2]]);
  });

  it('undoes once more what changes once more, and believes an undo that answers late', () => {
    const canary = begun(planOf({ attempts: 2, failures: { max: 10 } }));
    const [lateFirst] = results(canary.effects);
    const again = feed(canary.state, 61, { kind: 'tick' });
    const undoing = feed(again.state, 62, ...results(again.effects), { kind: 'rollBack', why: '' });
    const undone = feed(undoing.state, 63, ...results(undoing.effects));
    assert.ok(lateFirst && undone.state.phase === 'ended');
    const more = feed(undone.state, 300, lateFirst);
    assert.deepEqual(issuedTo(more.effects), [canary.state.gateways[0]], 'the first attempt was carried out after the undo');
    const silent = feed(feed(more.state, 361, { kind: 'tick' }).state, 422, { kind: 'tick' });
    assert.deepEqual([silent.state.phase, reportOf(silent.state).undoFailures], ['ended', [{ reason: SILENT, gateways: [canary.state.gateways[0]] }]]);
    const believed = feed(silent.state, 500, ...results(more.effects));
    assert.deepEqual([reportOf(believed.state).undoFailures, reportOf(believed.state).undone.length], [[], 2]);
  });

  it('holds its time where the clock goes back', () => {
    const soaking = feed(begun(planOf()).state, 50, ...results(begun(planOf()).effects));
    const back = feed(soaking.state, 1, { kind: 'pause' }, { kind: 'resume' });
    assert.deepEqual([back.state.clockMicros, dueMicros(back.state)], [50 * SECOND, 150 * SECOND]);
  });

  it('ignores answers to commands that it did not send', () => {
    const canary = begun(planOf());
    const [gateway = '', stranger = ''] = [canary.state.gateways[0], canary.state.gateways[9]];
    const foreign = commandIdOf('r2', gateway, 'forward', 1);
    for (const [who, commandId] of [[gateway, foreign], [gateway, commandIdOf('r1', gateway, 'forward', 2)], [stranger, commandIdOf('r1', stranger, 'forward', 1)], ['gw-99', foreign]] as const) {
      const after = feed(canary.state, 2, { kind: 'result', gateway: who, commandId, isSuccess: true, reason: '' }, { kind: 'accepted', gateway: who, commandId });
      assert.deepEqual(after.state.records, canary.state.records);
    }
  });

  it('ends well where all goes well', () => {
    const world = new RolloutWorld(planOf({ healthy: "health.status = 'up'" }), habits(40, () => 'sound'), randomOf(1), CALM);
    world.run();
    const report = reportOf(world.state);
    assert.deepEqual([report.outcome, report.changed.length, report.failures, progressOf(world.state).fraction], ['completed', 40, [], 1]);
  });

  it('keeps its promises in 240 worlds of failures, silence, flapping, lost effects and kills of the controller at any point', function () {
    this.timeout(60_000);
    const outcomes = new Map<string, number>();
    let [restarts, events, gateways] = [0, 0, 0];
    for (let seed = 1; seed <= 240; seed++) {
      const random = randomOf(seed);
      const count = 5 + random(60);
      const bad = random(60);
      const plan = planOf({
        attempts: 1 + random(3), concurrency: 1 + random(20), onFailure: random(2) === 0 ? 'stop' : 'rollBack', failures: { percent: random(50), ...(random(3) === 0 ? { max: random(10) } : {}) },
        ...(random(2) === 0 ? { healthy: "health.status = 'up'" } : {}),
      });
      const world = new RolloutWorld(plan, habits(count, () => (random(100) < bad ? HABITS[random(HABITS.length)] ?? 'sound' : 'sound')), random, WILD);
      const operator = random(3) === 0;
      world.run(({ state }) => {
        if (state.isPaused && random(6) === 0) world.feed({ kind: 'resume' });
        if (operator && random(80) === 0) world.feed(ORDERS[random(ORDERS.length)] ?? { kind: 'pause' });
      });
      restarts += world.restarts;
      events += world.events;
      gateways += count;
      outcomes.set(world.state.outcome, (outcomes.get(world.state.outcome) ?? 0) + 1);
      const report = reportOf(world.state);
      if (world.state.outcome === 'rolledBack') assert.deepEqual([...world.undone].toSorted(), [...world.changed].toSorted(), `seed ${seed}: rolled back is exactly who changed`);
      assert.deepEqual([...report.changed, ...report.undone].toSorted(), [...world.changed].toSorted(), `seed ${seed}: the report names exactly who changed`);
    }
    assert.deepEqual([...outcomes.keys()].toSorted(), ['aborted', 'completed', 'rolledBack', 'stopped']);
    assert.ok(restarts > 500);
    console.log(`        ${gateways} gateways, ${events} events, ${restarts} restarts; ${[...outcomes].map(([outcome, count]) => `${outcome} ${count}`).join(', ')}`);
  });

  it('keeps them with 2,000 gateways in one roll-out', function () {
    this.timeout(60_000);
    const random = randomOf(2_000);
    const plan = planOf({ attempts: 2, concurrency: 200, failures: { percent: 40 }, onFailure: 'rollBack', healthy: "health.status = 'up'" });
    const world = new RolloutWorld(plan, habits(2_000, () => (random(100) < 15 ? HABITS[random(HABITS.length)] ?? 'sound' : 'sound')), random, { ...WILD, kill: 4 });
    world.run(({ state, events }) => { if (state.stage === 2 && events > 6_000 && state.outcome === 'completed') world.feed({ kind: 'rollBack', why: 'test' }); });
    assert.equal(world.state.outcome, 'rolledBack');
    assert.deepEqual([...world.undone].toSorted(), [...world.changed].toSorted());
    assert.ok(world.changed.size > 1_000 && world.restarts > 5);
    console.log(`        ${world.events} events, ${world.restarts} restarts, ${world.changed.size} changed and undone`);
  });

  it('plans 10,000 gateways in bounded time for each event', function () {
    this.timeout(60_000);
    const random = randomOf(5);
    const plan = planOf({ id: 'big', concurrency: 500, stages: [{ count: 50 }, { percent: 10 }, { percent: 100 }], failures: { percent: 20 } });
    let state = beginRollout(plan, names(10_000), SECOND);
    const open: RolloutEvent[] = [];
    const micros: number[] = [];
    for (let event: RolloutEvent | undefined = { kind: 'started' }, now = 1; event; event = open.pop(), now++) {
      const from = performance.now();
      const next = step(state, event, now * 1_000);
      micros.push((performance.now() - from) * 1_000);
      state = next.state;
      open.push(...results(next.effects, random(100) > 5, 'disk full'));
      if (open.length === 0 && state.phase !== 'ended') open.push({ kind: 'tick' });
    }
    const sorted = micros.toSorted((a, b) => a - b);
    const [median = 0, worst = 0] = [sorted[Math.floor(sorted.length / 2)], sorted.at(-1)];
    const from = performance.now();
    const bytes = encodeRollout(state);
    const encodeMs = performance.now() - from;
    assert.deepEqual([state.phase, state.outcome, decodeRollout(bytes).records.length], ['ended', 'completed', 10_000]);
    assert.ok(median < 20_000, `${median} µs for one event`);
    console.log(`        ${micros.length} events: median ${median.toFixed(0)} µs, worst ${(worst / 1_000).toFixed(1)} ms; snapshot ${(bytes.length / 1024).toFixed(0)} KiB in ${encodeMs.toFixed(0)} ms`);
  });

  it('can read whatever it wrote of a hostile gateway, and replays it', () => {
    const { state, effects } = begun(planOf());
    const [sent] = effects;
    assert.ok(sent?.kind === 'issue');
    const long = '\u{1f600}'.repeat(5_000);
    const events: readonly RolloutEvent[] = [
      { kind: 'result', gateway: long, commandId: long, isSuccess: true, reason: long }, { kind: 'accepted', gateway: sent.gateway, commandId: long }, { kind: 'health', gateway: '\ud800', isHealthy: true },
      { kind: 'result', gateway: sent.gateway, commandId: sent.commandId, isSuccess: false, reason: `x${long}` }, { kind: 'abort', why: `y${long}` },
    ];
    const journal = events.map((event) => encodeEvent({ event, nowMicros: 2 * SECOND }));
    assert.deepEqual(encodeRollout(replay(encodeRollout(state), journal)), encodeRollout(feed(state, 2, ...events).state));
  });

  it('refuses every damaged state and event with a typed error', () => {
    const canary = begun(planOf({ healthy: "health.status = 'up'" }));
    const state = feed(canary.state, 5, ...results(canary.effects, false, 'disk full')).state;
    const samples: readonly (readonly [Buffer, (bytes: Uint8Array) => unknown])[] = [
      [encodeRollout(state), decodeRollout], [encodeEvent({ event: { kind: 'result', gateway: 'gw-1', commandId: 'r-x', isSuccess: false, reason: 'disk full' }, nowMicros: 7 }), decodeEvent],
    ];
    assert.deepEqual(encodeRollout(decodeRollout(encodeRollout(state))), encodeRollout(state));
    const random = randomOf(9);
    for (const [sound, decode] of samples) {
      decode(sound);
      for (let round = 0; round < 1_000; round++) {
        const bent = Buffer.from(sound);
        bent[random(bent.length)] = random(256);
        try {
          decode(round % 3 === 0 ? bent.subarray(0, random(bent.length)) : bent);
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'rollout.malformed');
        }
      }
    }
  });
});
