import assert from 'node:assert/strict';
import { median, paired, ratePerSecond } from '#test/bench/figure.ts';

describe('bench figures', () => {
  it('takes the middle, or the mean of the two in the middle', () => {
    assert.equal(median([9, 1, 5]), 5);
    assert.equal(median([9, 1, 5, 7]), 6);
    assert.throws(() => median([]));
  });

  it('compares round by round: a slow round slows both and leaves the ratio alone', () => {
    const { value, peerValue, ratio } = paired('x', 'y', [100, 10, 90], 'peer', [200, 20, 180], '');
    assert.deepEqual([value, peerValue, ratio], [90, 180, 0.5]);
  });

  it('counts what the steps did over the time that they took', async () => {
    const rate = await ratePerSecond(20, () => {
      const end = performance.now() + 2;
      while (performance.now() < end) continue;
      return 10;
    });
    assert.ok(rate > 0 && rate <= 5_000, `${rate}`); // a busy machine makes it slower, nothing makes it faster
  });
});
