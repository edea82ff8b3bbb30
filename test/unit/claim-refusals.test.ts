import assert from 'node:assert/strict';
import { ClaimRefusals } from '#runtime/claimRefusals.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { TestCounters } from '#test/support/sealHarness.ts';

describe('claims that are refused', () => {
  it('are counted each, and recorded with their reason: a flood in few entries that say how many', () => {
    let monoMicros = 0;
    const [counters, entries] = [new TestCounters(), [] as string[]];
    const refusals = new ClaimRefusals({ clock: { monoMicros: () => monoMicros, wallMicros: () => 0 }, counters, record: (code, reason) => { entries.push(`${code}: ${reason}`); } });
    refusals.add('claim.claimed');
    assert.deepEqual(entries, ['claim.claimed: somebody was refused']);
    for (let i = 0; i < 1_000; i++) refusals.add('claim.busy');
    assert.equal(entries.length, LIMITS.refusalBurst);
    refusals.due();
    assert.equal(entries.length, LIMITS.refusalBurst, 'not before its time');
    monoMicros += LIMITS.refusalIntervalMs * 1_000;
    refusals.due();
    refusals.due();
    assert.deepEqual(entries.slice(LIMITS.refusalBurst), [`claim.busy: ${1_000 - LIMITS.refusalBurst + 1} were refused, this is the reason of the last`]);
    assert.equal(counters.snapshot()['claim.refused.claim.busy'], 1_000);
  });

  it('for the secret have entries of their own, which no flood can use up', () => {
    const entries: string[] = [];
    const refusals = new ClaimRefusals({ clock: { monoMicros: () => 0, wallMicros: () => 0 }, counters: new TestCounters(), record: (code) => { entries.push(code); } });
    refusals.add('claim.secret_wrong');
    refusals.add('claim.locked');
    assert.deepEqual(entries, []);
  });
});
