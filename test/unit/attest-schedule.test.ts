import assert from 'node:assert/strict';
import { isDue, nextLookMicros } from '#runtime/attest/schedule.ts';

const CADENCE = { intervalMs: 10_000, idleIntervalMs: 600_000 };
const S = 1_000_000;

describe('attest: when a block is due', () => {
  for (const [name, size, seconds, due] of [
    ['a growing log, before the interval', 6, 9, false], ['a growing log, at the interval', 6, 10, true],
    ['an idle log, after the interval', 5, 599, false], ['an idle log, after the idle interval', 5, 600, true],
  ] as const) {
    it(`${name}: ${due ? 'due' : 'not due'}`, () => assert.equal(isDue({ sealedMicros: 7 * S, sealedSize: 5, size }, CADENCE, (7 + seconds) * S), due));
  }

  it('looks at multiples of the interval after the last block, always in the future', () => {
    for (const [now, look] of [[7, 17], [16.9, 17], [17, 27], [100, 107], [6, 7]] as const) assert.equal(nextLookMicros({ sealedMicros: 7 * S }, CADENCE, now * S), look * S);
  });

  it('looks at the idle interval where that is the shorter one', () => {
    assert.equal(nextLookMicros({ sealedMicros: 0 }, { intervalMs: 10_000, idleIntervalMs: 2_000 }, 0), 2 * S);
  });
});
