import assert from 'node:assert/strict';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { CounterTable } from '#runtime/observe/counters.ts';
import { createLog } from '#runtime/observe/log.ts';
import { ProgressWatch } from '#runtime/observe/progress.ts';

const capture = (form: 'json' | 'people'): { readonly lines: string[]; readonly log: ReturnType<typeof createLog> } => {
  const lines: string[] = [];
  return { lines, log: createLog({ level: 'info', form, color: false, write: (line) => { lines.push(line); } }) };
};

describe('observe: log', () => {
  it('writes JSON lines with room, code and cause, and no secret', () => {
    const { lines, log } = capture('json');
    const error = new TenzroError('ledger.io', 'write failed', { cause: new Error('EIO') });
    log.child({ room: 'ledger' }).error({ error, password: 'hunter2', user: { name: 'a', passwordHash: 'scrypt' } }, 'stopping');
    log.debug({}, 'below the level');
    assert.equal(lines.length, 1);
    const line = JSON.parse(lines[0] ?? '') as Record<string, unknown>;
    assert.deepEqual([line['level'], line['room'], line['msg']], [50, 'ledger', 'stopping']);
    assert.deepEqual(line['error'], { code: 'ledger.io', message: 'write failed', hint: error.hint, cause: 'EIO' });
    assert.ok(!/hunter2|scrypt/.test(lines.join('')));
  });

  it('writes one compact line for people, and lets nobody steer their terminal', () => {
    const { lines, log } = capture('people');
    log.child({ room: 'broker' }).warn({ topic: 'a\u001b[2Jb', clients: 3, error: new TenzroError('queue.full', 'no room') }, 'slow\ndown');
    assert.match(lines[0] ?? '', /^\d\d:\d\d:\d\d warn {2}broker {2}slow\\u000adown {2}topic=\S+ clients=3 error="queue\.full: no room"\n$/);
    assert.ok(!(lines[0] ?? '').includes('\u001b'));
  });
});

describe('observe: counters', () => {
  it('adds, sets, and lists by name', () => {
    const counters = new CounterTable();
    counters.add('b.in');
    counters.add('b.in', 4);
    counters.set('a.size', 7);
    assert.deepEqual(Object.entries(counters.snapshot()), [['a.size', 7], ['b.in', 5]]);
  });
});

describe('observe: progress', () => {
  it('calls stalled what has work and does not move, and nothing else', () => {
    let nowMs = 0;
    const clock: Clock = { wallMicros: () => 0, monoMicros: () => nowMs * 1000 };
    const watch = new ProgressWatch(clock, 1_000);
    const note = (atMs: number): void => {
      nowMs = atMs;
      watch.note('idle', 5, 0);
      watch.note('busy', atMs, 10);
      watch.note('stuck', 3, 9);
    };
    note(0);
    note(900);
    assert.deepEqual(watch.stalled(), []);
    note(1_500);
    assert.deepEqual(watch.stalled(), [{ name: 'stuck', behind: 9, stalledMs: 1_500 }]);
    watch.note('stuck', 4, 8);
    assert.deepEqual(watch.stalled(), []);
  });

  it('counts from when work came, not from when the worker went idle', () => {
    let nowMs = 0;
    const watch = new ProgressWatch({ wallMicros: () => 0, monoMicros: () => nowMs * 1000 }, 1_000);
    watch.note('f', 5, 0);
    nowMs = 60_000;
    watch.note('f', 5, 2);
    assert.deepEqual(watch.stalled(), []);
    nowMs = 61_000;
    watch.note('f', 5, 2);
    assert.equal(watch.stalled().length, 1);
  });
});
