import assert from 'node:assert/strict';
import { ACT_TEXT_MAX } from '#runtime/controller/actsCodec.ts';
import { submissionActs } from '#runtime/controller/submissions.ts';
import type { DeskRecord } from '#runtime/controller/deskRecord.ts';

const record = (gateway: string, over: Partial<DeskRecord> = {}): DeskRecord => ({ gateway, type: 'diagnostics', id: '1', kid: 'anna', endsMicros: 2, submittedMicros: 1, changedMicros: 1, state: 'queued', reason: '', ...over });

describe('acts of commands that were handed in together', () => {
  it('tells a command to one gateway by its name', () => {
    assert.deepEqual(submissionActs([record('gw1'), record('gw1', { id: '2' })]), [
      { who: 'anna', what: 'command.submitted', about: 'gw1/diagnostics/1' }, { who: 'anna', what: 'command.submitted', about: 'gw1/diagnostics/2' },
    ]);
  });

  it('tells one to many gateways once, apart for each signer', () => {
    assert.deepEqual(submissionActs([record('a'), record('b', { kid: 'ben' }), record('c')]), [
      { who: 'anna', what: 'command.submitted', about: 'diagnostics/1', detail: 'a c' }, { who: 'ben', what: 'command.submitted', about: 'b/diagnostics/1' },
    ]);
  });

  it('names every gateway, in as many acts as that takes, and breaks no name', () => {
    const names = Array.from({ length: 256 }, (_, at) => `${at}-`.padEnd(64, 'x'));
    const acts = submissionActs(names.map((name) => record(name)));
    assert.ok(acts.length < 20);
    assert.ok(acts.every(({ detail = '' }) => detail.length <= ACT_TEXT_MAX.detail));
    assert.deepEqual(acts.flatMap(({ detail = '' }) => detail.split(' ')), names);
  });
});
