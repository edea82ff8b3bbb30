import assert from 'node:assert/strict';
import { Refused } from '#runtime/controller/refusals.ts';
import type { Act } from '#runtime/controller/acts.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';

describe('what the controller refuses', () => {
  it('is an act with its reason; who asks again and again is told of once an hour, with how often; strangers without end in bounds', () => {
    let monoMicros = 0;
    const acts: Act[] = [];
    const refused = new Refused({ note: (act) => { acts.push(act); }, record: async () => undefined }, { monoMicros: () => monoMicros, wallMicros: () => 0 });
    const error = new TenzroError('controller.revoked', 'edge-1 was revoked: stolen');
    for (let i = 0; i < 50; i++) refused.add('edge-1', error);
    assert.deepEqual(acts, [{ who: 'controller', what: 'refused', about: 'edge-1', detail: 'controller.revoked: edge-1 was revoked: stolen' }]);
    monoMicros += 3_600_000_000;
    refused.add('edge-1', error);
    assert.match(acts[1]?.detail ?? '', /; 49 times before, untold$/);
    for (let i = 0; i < 10_000; i++) refused.add(`nobody-${i}`, error);
    assert.equal(acts.length, LIMITS.refusalBurst + 1);
    monoMicros += 60_000_000;
    for (let i = 0; i < 10_000; i++) refused.add(`nobody-${i}`, error);
    assert.equal(acts.length, LIMITS.refusalBurst + 2);
  });
});
