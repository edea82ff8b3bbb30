/** The follower around the sealer: who asks, what is shared, what a failure costs. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { Attester } from '#runtime/attest/attester.ts';
import { Sealer } from '#runtime/attest/sealer.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { decodeBlock } from '#runtime/ledger/block.ts';
import { MemoryChain, testReading } from '#test/support/memoryChain.ts';
import { sealerOptions, silentLog, TestCounters } from '#test/support/sealHarness.ts';
import { until } from '#test/support/until.ts';

describe('attest: the attester', () => {
  let chain: MemoryChain;
  let counters: TestCounters;
  const stop: { controller: AbortController; ended: Promise<void> }[] = [];
  beforeEach(() => { chain = new MemoryChain(); counters = new TestCounters(); });
  afterEach(async () => {
    for (const { controller, ended } of stop.splice(0)) { controller.abort(); await ended; }
  });

  function attester(cadence = { intervalMs: 3_600_000, idleIntervalMs: 3_600_000 }): Attester {
    return new Attester({ sealer: new Sealer(sealerOptions(chain, randomBytes(32))), store: chain, cadence, clock: systemClock, counters, log: silentLog });
  }
  function follow(follower: Attester): void {
    const controller = new AbortController();
    stop.push({ controller, ended: follower.follow(controller.signal) });
  }
  const grow = (): void => { chain.append(testReading(chain.entries.length)); };
  const sizes = (): number[] => chain.blocks.map(({ payload }) => decodeBlock(payload).treeSize);

  it('seals a genesis and a first block at start, then as the log grows, and not while it is idle', async () => {
    grow();
    const follower = attester({ intervalMs: 30, idleIntervalMs: 3_600_000 });
    follow(follower);
    await until('the first block', () => chain.blocks.length === 2);
    grow();
    await until('the next', () => chain.blocks.length === 3);
    assert.equal(follower.processed(), 2);
    let looks = 0;
    const head = chain.head.bind(chain);
    chain.head = () => { looks += 1; return head(); };
    await until('several looks', () => looks >= 4);
    assert.deepEqual(sizes(), [0, 1, 2]);
  });

  it('seals an idle log now and then', async () => {
    follow(attester({ intervalMs: 10, idleIntervalMs: 40 }));
    await until('four blocks over nothing', () => chain.blocks.length >= 4);
    assert.ok(sizes().every((size) => size === 0));
  });

  it('seals on request without following, and requests that wait share a block', async () => {
    const follower = attester();
    grow();
    const sequences = await Promise.all(['request', 'request', 'shutdown'].map((reason) => follower.sealNow(reason as 'request')));
    assert.deepEqual(sequences, [1, 1, 1]);
    const first = follower.sealNow('request');
    await Promise.resolve();
    await Promise.resolve();
    grow();
    const second = follower.sealNow('request');
    assert.ok((await second) >= (await first));
    assert.equal(sizes().at(-1), 2, 'the one that was asked for last covers the last entry');
  });

  it('gives a storm of alarms few blocks, and a shutdown in it its own at once', async () => {
    const follower = attester();
    await follower.sealNow('request');
    const asked = performance.now();
    const alarms = Array.from({ length: 50 }, () => follower.sealNow('alarm'));
    const last = await follower.sealNow('shutdown');
    assert.ok(performance.now() - asked < LIMITS.alarmBlockIntervalMs / 2, 'it does not wait for the alarms\' interval');
    assert.deepEqual([...new Set(await Promise.all(alarms))], [last]);
  });

  it('a block that fails rejects for who asked, is counted, and the next look tries again', async () => {
    const commit = chain.commitBlock.bind(chain);
    chain.commitBlock = () => Promise.reject(new TenzroError('ledger.disk_full', 'no space'));
    const follower = attester({ intervalMs: 20, idleIntervalMs: 20 });
    await assert.rejects(follower.sealNow('request'), { code: 'ledger.disk_full' });
    follow(follower);
    await until('failures', () => (counters.snapshot()['attest.error.ledger.disk_full'] ?? 0) >= 2);
    chain.commitBlock = commit;
    await until('the first block', () => chain.blocks.length >= 2);
  });

  it('a defect of ours ends it', async () => {
    chain.head = () => Promise.reject(new TypeError('a defect'));
    await assert.rejects(attester().follow(new AbortController().signal), TypeError);
  });
});
