import assert from 'node:assert/strict';
import type { ModelPlan } from '#runtime/infer/plan.ts';
import { Windows, type Reading, type ReadyWindow, type WindowCount } from '#runtime/infer/windows.ts';

const plan = (window: ModelPlan['window']): ModelPlan => ({
  name: 'm', source: { entity: '+/+//', type: { kind: 'none', reason: 'any' } }, threshold: 1, window,
  channels: [{ channel: 'a', unit: 'V' }, { channel: 'b', unit: 'A' }],
});
const reading = (index: number, seconds: number, more: Partial<Reading> = {}): Reading =>
  ({ index, source: 'device/x//', bootEpoch: 1, monoMicros: seconds * 1e6, duplicate: false, values: [['b', index + 0.5, ''], ['a', index, 'V'], ['other', 9, '']], ...more });

describe('infer: windows', () => {
  let counts: Map<WindowCount, number>;
  const open = (readings: number, stride: number) => new Windows(plan({ readings, stride, maxGapMs: 2_000 }), (what) => counts.set(what, (counts.get(what) ?? 0) + 1));
  const feed = (windows: Windows, readings: readonly Reading[]): ReadyWindow[] => readings.flatMap((item) => windows.push(item) ?? []);
  beforeEach(() => { counts = new Map(); });

  it('takes consecutive readings, channels in the order of the plan', () => {
    const [window, ...rest] = feed(open(2, 2), [reading(4, 1), reading(7, 2), reading(9, 3)]);
    assert.deepEqual(rest, []);
    assert.deepEqual(window, { source: 'device/x//', inputs: [4, 7], row: Float32Array.of(4, 4.5, 7, 7.5) });
  });

  it('overlaps by the stride', () => {
    const windows = feed(open(3, 1), [1, 2, 3, 4, 5].map((i) => reading(i, i)));
    assert.deepEqual(windows.map(({ inputs }) => inputs), [[1, 2, 3], [2, 3, 4], [3, 4, 5]]);
    assert.deepEqual([...(windows[2]?.row ?? [])], [3, 3.5, 4, 4.5, 5, 5.5]);
  });

  it('keeps sources apart', () => {
    const windows = feed(open(2, 2), [reading(1, 1), reading(2, 1, { source: 'device/y//' }), reading(3, 2), reading(4, 2, { source: 'device/y//' })]);
    assert.deepEqual(windows.map(({ source, inputs }) => [source, inputs]), [['device/x//', [1, 3]], ['device/y//', [2, 4]]]);
  });

  it('is broken by silence, and by a restart of the gateway', () => {
    assert.deepEqual(feed(open(2, 2), [reading(1, 1), reading(2, 3.1), reading(3, 5)]).map(({ inputs }) => inputs), [[2, 3]]);
    assert.deepEqual(feed(open(2, 2), [reading(5, 6), reading(6, 6.5, { bootEpoch: 2 }), reading(7, 7, { bootEpoch: 2 })]).map(({ inputs }) => inputs), [[6, 7]]);
    assert.equal(counts.get('gap'), 2);
  });

  it('ignores what MQTT delivered twice', () => {
    assert.deepEqual(feed(open(2, 2), [reading(1, 1), reading(2, 1, { duplicate: true }), reading(3, 2)]).map(({ inputs }) => inputs), [[1, 3]]);
    assert.equal(counts.get('duplicate'), 1);
  });

  it('starts again at a reading that lacks a channel, states another unit, or does not fit a float32', () => {
    for (const values of [[['a', 1, 'V']], [['a', 1, 'mV'], ['b', 1, 'A']], [['a', 1e300, 'V'], ['b', 1, 'A']]] as const) {
      assert.deepEqual(feed(open(2, 2), [reading(1, 1), reading(2, 2, { values }), reading(3, 3), reading(4, 4)]).map(({ inputs }) => inputs), [[3, 4]]);
    }
    assert.equal(counts.get('missing_channel'), 3);
  });

  it('lets a silent source go, so that the cursor moves on', () => {
    const windows = open(2, 2);
    windows.push(reading(1, 1));
    windows.push(reading(2, 1, { source: 'device/y//' }));
    assert.equal(windows.firstNeeded(), 1);
    windows.push(reading(3, 9, { source: 'device/y//' }));
    windows.expire(1, 9e6);
    assert.equal(windows.firstNeeded(), 3);
  });

  it('goes on after a restart with what was not judged', () => {
    for (const [stride, resumed] of [[3, [[4, 5, 6]]], [1, [[2, 3, 4], [3, 4, 5], [4, 5, 6]]]] as const) {
      const windows = open(3, stride);
      windows.resume('device/x//', [1, 2, 3]);
      assert.deepEqual(feed(windows, [1, 2, 3, 4, 5, 6].map((i) => reading(i, i))).map(({ inputs }) => inputs), resumed, `stride ${stride}`);
    }
  });

  it('bounds the number of sources', () => {
    const windows = open(2, 2);
    for (let i = 0; i < 2_000; i++) windows.push(reading(i, 1, { source: `device/${i}//` }));
    assert.equal(counts.get('too_many_sources'), 2_000 - 1_024);
  });
});
