import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { systemClock } from '#runtime/core/clock.ts';
import type { CommandClaims, CommandHandler } from '#runtime/core/command.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { KeyValueStore, Log } from '#runtime/core/ports.ts';
import { untilMaintenance } from '#runtime/fleet/maintenance.ts';
import { logUpload } from '#runtime/fleet/types/logUpload.ts';
import { release, Releaser, type KnownOwner } from '#runtime/fleet/types/release.ts';
import { shell } from '#runtime/fleet/types/shell.ts';
import { update } from '#runtime/fleet/types/upkeep.ts';
import { createLog } from '#runtime/observe/log.ts';
import { LogRing } from '#runtime/observe/logRing.ts';
import { CommandWorld, SECOND, moves, settle } from '#test/support/commandHarness.ts';
import { until } from '#test/support/until.ts';

const NOBODY = { kind: 'nobody' } as const;
const OWNER = { kind: 'owner', claimId: '0a1b' } as const;
const claims = (parameters: Readonly<Record<string, unknown>> = {}, over: Partial<CommandClaims> = {}): CommandClaims =>
  ({ gateway: 'gw1', target: 'device/main//', type: 'x', id: '1', issued: 0, ttlSeconds: 60, isDryRun: false, parameters, ...over });
const run = (handler: CommandHandler, parameters: Readonly<Record<string, unknown>> = {}, signal = new AbortController().signal): Promise<Readonly<Record<string, unknown>>> => handler.run(claims(parameters), signal);

describe('fleet: shell', () => {
  it('runs one line without terminal, input or environment of ours', async () => {
    process.env['TENZRO_TEST_SECRET'] = 'do not tell';
    const result = await run(shell(true), { command: 'echo out; echo err >&2; env; read x || echo no input; test -t 1 || echo no tty; exit 3' });
    delete process.env['TENZRO_TEST_SECRET'];
    assert.equal(result['exit_code'], 3);
    assert.match(String(result['stdout']), /^out\n[^]*no input\nno tty\n$/);
    assert.equal(result['stderr'], 'err\n');
    assert.ok(!JSON.stringify(result).includes('do not tell'));
  });

  it('keeps the end of too much output, in a result that fits', async () => {
    for (const filling of ['x', '\\001', 'ü', '"']) {
      const result = await run(shell(true), { command: `i=0; while [ $i -lt 3000 ]; do printf '${filling.repeat(20)}'; i=$((i+1)); done | tee /dev/stderr; printf END; printf END >&2` });
      assert.ok(Number(result['stdout_bytes']) > 60_000);
      assert.ok(String(result['stdout']).endsWith('END') && String(result['stderr']).endsWith('END'));
      assert.ok(Buffer.byteLength(JSON.stringify(result)) <= LIMITS.commandResultBytesMax, filling);
    }
  });

  it('is killed with all that it started, at its time, when it is cancelled, and when it leaves something behind', async () => {
    const pidIn = (text: unknown): number => Number(/pid (\d+)/.exec(String(text))?.[1]);
    const background = await run(shell(true), { command: 'sleep 600 & echo pid $!' });
    await until('the background to end', () => !isAlive(pidIn(background['stdout'])));
    const late = await run(shell(true), { command: 'sleep 600 & echo pid $! >&2; wait', timeout_s: 1 }).then(String, (error: Error) => error.message);
    assert.match(late, /killed after 1 s; it had said: pid \d+/);
    await until('what it started to end', () => !isAlive(pidIn(late)));
    await assert.rejects(run(shell(true), { command: 'sleep 600' }, AbortSignal.timeout(50)), { code: 'command.cancelled' });
  });

  it('does nothing without consent, in a dry run, or for parameters that it does not know', async () => {
    assert.equal(shell(false).support.kind, 'none');
    await assert.rejects(run(shell(false), { command: 'true' }), { code: 'command.consent' });
    assert.deepEqual(await shell(true).run(claims({ command: 'exit 1' }, { isDryRun: true }), new AbortController().signal), { dry_run: true });
    for (const parameters of [{}, { command: '' }, { command: 7 }, { command: 'true', timeout_s: 600 }, { command: 'true', user: 'root' }]) await assert.rejects(run(shell(true), parameters), { code: 'command.parameters' });
  });
});

describe('fleet: log_upload', () => {
  const ring = new LogRing();
  const log = createLog({ level: 'debug', form: 'json', color: false, write: () => undefined, ring });
  const upload = logUpload(() => ring.lines(), systemClock);

  it('sends what fits the question, newest last, and no secret', async () => {
    log.child({ room: 'broker' }).warn({ password: 'hunter2', user: { passwordHash: 'hunter2' } }, 'mqtts://edge:hunter2@broker:8883 refused');
    log.info({}, 'all is well');
    log.debug({}, 'a detail');
    const all = await run(upload);
    assert.equal(all['encoding'], 'text');
    assert.deepEqual(String(all['log']).split('\n').map((line) => (JSON.parse(line) as { msg: string }).msg), ['mqtts://edge:(secret)@broker:8883 refused', 'all is well', 'a detail']);
    assert.ok(!JSON.stringify(all).includes('hunter2'));
    assert.equal((await run(upload, { level: 'warn' }))['lines_found'], 1);
    assert.equal((await run(upload, { search: 'WELL' }))['lines_found'], 1);
    assert.equal((await run(upload, { since: '1h' }))['lines_found'], 3);
    assert.equal((await run(upload, { since: '2999-01-01T00:00Z' }))['lines_found'], 0);
    assert.deepEqual([(await run(upload, { lines: 1 }))['lines_sent'], (await run(upload, { lines: 1 }))['cut']], [1, true]);
    assert.deepEqual(await upload.run(claims({}, { isDryRun: true }), new AbortController().signal), { dry_run: true, lines_found: 3 });
    for (const parameters of [{ lines: 0 }, { level: 'trace' }, { since: 'yesterday' }, { search: '' }, { path: '/etc/shadow' }]) await assert.rejects(run(upload, parameters), { code: 'command.parameters' });
  });

  it('packs what is too much, and keeps the newest of what is too much even so', async () => {
    for (let at = 0; at < 2_000; at++) log.info({ at, noise: Math.random().toString(36) }, 'a line of many');
    log.info({ long: 'y'.repeat(10_000) }, 'a long line');
    const result = await run(upload, { lines: 10_000 });
    assert.equal(result['encoding'], 'gzip+base64');
    assert.ok(Buffer.byteLength(JSON.stringify(result)) <= LIMITS.commandResultBytesMax);
    const lines = gunzipSync(Buffer.from(String(result['log']), 'base64')).toString().split('\n');
    assert.equal(lines.length, result['lines_sent']);
    assert.ok(lines.length > 400, `${lines.length} lines`);
    assert.match(lines.at(-1) ?? '', /"a long line","cut":10\d{3}/);
    assert.match(lines.at(-2) ?? '', /"at":1999/);
  });

  it('holds bounded memory', () => {
    for (let at = 0; at < 5_000; at++) log.info({ filling: 'z'.repeat(500) }, 'more');
    assert.ok(ring.lines().reduce((sum, line) => sum + line.length, 0) <= LIMITS.logRingBytesMax);
  });
});

describe('fleet: maintenance windows', () => {
  const nights = [{ days: [], from: '23:00', to: '01:00' }] as const;
  const sunday = [{ days: ['sun'], from: '02:00', to: '04:00' }] as const;
  const at = (iso: string): number => Date.parse(iso) * 1_000;
  const hours = (windows: Parameters<typeof untilMaintenance>[0], iso: string): number => untilMaintenance(windows, at(iso)) / 3_600 / SECOND;

  it('open by weekday and time, over midnight, and always where there are none', () => {
    assert.equal(hours([], '2026-11-23T12:00Z'), 0);
    assert.equal(hours(nights, '2026-11-23T12:00Z'), 11);
    assert.equal(hours(nights, '2026-11-23T23:30Z'), 0);
    assert.equal(hours(nights, '2026-11-24T00:59Z'), 0);
    assert.equal(hours(nights, '2026-11-24T01:00Z'), 22);
    assert.equal(hours(sunday, '2026-11-22T03:59Z'), 0); // a Sunday
    assert.equal(hours(sunday, '2026-11-22T04:00Z'), 7 * 24 - 2);
    assert.equal(hours([{ days: ['sat'], from: '22:00', to: '22:00' }], '2026-11-22T21:00Z'), 0); // a whole day, begun on Saturday
    assert.equal(hours([...sunday, ...nights], '2026-11-23T12:00Z'), 11);
  });

  it('hold disturbing commands back until one opens, by provable time; urgent ones and dry runs go on', async () => {
    const world = new CommandWorld();
    world.clock.wall = at('2026-11-23T12:00Z');
    world.maintenance = nights;
    const done: string[] = [];
    const able: CommandHandler = { support: { kind: 'value', value: true }, run: async ({ id }) => { done.push(id); return {}; } };
    world.handlers = { restart: able, model_install: able, diagnostics: able };
    const day = 86_400;
    const commander = world.start();
    await settle(commander, () => {
      for (const [type, id, over] of [['restart', 'held', {}], ['diagnostics', 'free', {}], ['model_install', 'urgent', { isUrgent: true }], ['restart', 'dry', { isDryRun: true }], ['restart', 'short', { ttlSeconds: 60 }]] as const) {
        world.publish(commander, world.sign({ type, id, ttlSeconds: day, ...over }));
      }
    });
    assert.deepEqual(done.toSorted(), ['dry', 'free', 'urgent']);
    assert.equal(world.retained.get('restart/held')?.['status'], 'scheduled');
    world.clock.pass(10 * 3_600);
    await settle(world.start());
    assert.equal(world.reasonOf('restart/short').split(':')[0], 'command.timeout');
    assert.ok(!done.includes('held'), 'ten hours later it is 22:00');
    world.clock.wall = at('2020-01-01T23:30Z'); // the clock is lost; what was proved is 22:00 and goes on from there
    await settle(world.start());
    assert.ok(!done.includes('held'), 'a clock that fell back opens no window');
    const timed = world.start();
    timed.raiseTime(at('2026-11-23T23:00Z'), false);
    await settle(timed);
    assert.deepEqual(world.states('restart/held'), ['command', 'scheduled', 'executing', 'successful']);
  });

  it('counts urgent only where it is signed', async () => {
    const world = new CommandWorld();
    world.clock.wall = at('2026-11-23T12:00Z');
    world.maintenance = nights;
    world.handlers = { restart: { support: { kind: 'value', value: true }, run: async () => ({}) } };
    const commander = world.start();
    await settle(commander, () => world.publish(commander, { ...world.sign({ type: 'restart', ttlSeconds: 86_400 }), urgent: true }));
    assert.equal(world.reasonOf('restart/1').split(':')[0], 'command.signature');
  });
});

describe('fleet: release and updates', () => {
  it('forgets the owner after its result is written and was given time to be receipted, once, over kills at every write', async () => {
    for (let appends = 0; appends <= 4; appends++) {
      const world = new CommandWorld();
      const store = mapStore();
      const order: string[] = [];
      let isOwned = true;
      const handler = (): CommandHandler => release({ kind: 'value', value: new Releaser({
        owner: () => (isOwned ? OWNER : NOBODY), delivered: async () => { order.push('delivered'); }, store, log: SILENT,
        release: async (claimId) => {
          assert.equal(claimId, OWNER.claimId);
          assert.equal(world.states('release/1').at(-1), 'successful');
          order.push('released');
          isOwned = false;
        },
      }) });
      world.operators = [{ ...world.owner.operator, may: ['release'] }];
      world.appendsLeft = appends;
      world.handlers = { release: handler() };
      const first = world.start();
      await settle(first, () => world.publish(first, world.sign({ type: 'release' })));
      if (appends < 3) assert.deepEqual(order, [], `killed after ${appends} writes`);
      world.appendsLeft = Number.POSITIVE_INFINITY;
      world.handlers = { release: handler() };
      await settle(world.start());
      if (appends === 2 || order.length > 0) assert.deepEqual([order, isOwned], [['delivered', 'released'], false], `killed after ${appends} writes`);
      isOwned = true; // claimed again: what was done is not done again
      world.handlers = { release: handler() };
      await settle(world.start());
      assert.ok(isOwned && order.length <= 2, `killed after ${appends} writes`);
    }
  });

  it('has to be named, and has no effect in a dry run or without an owner', async () => {
    const world = new CommandWorld();
    const commander = world.start();
    await settle(commander, () => world.publish(commander, world.sign({ type: 'release' })));
    assert.equal(world.reasonOf('release/1').split(':')[0], 'command.forbidden');
    let [isOwned, released] = [false, 0];
    const handler = release({ kind: 'value', value: new Releaser({ owner: () => (isOwned ? OWNER : NOBODY), delivered: async () => undefined, release: async () => { released += 1; }, store: mapStore(), log: SILENT }) });
    await assert.rejects(run(handler), { code: 'command.parameters' });
    isOwned = true;
    assert.deepEqual(await handler.run(claims({}, { isDryRun: true }), new AbortController().signal), { dry_run: true });
    handler.settled?.({ id: '1' });
    await moves();
    assert.equal(released, 0);
  });

  it('waits until it is known who owns the gateway, and ends that claim only', async () => {
    const store = mapStore();
    let owner: KnownOwner = { kind: 'unknown' };
    const ended = Promise.withResolvers<string>();
    const handler = release({ kind: 'value', value: new Releaser({ owner: () => owner, delivered: async () => { owner = { kind: 'owner', claimId: 'ff' }; }, release: async (claimId) => { ended.resolve(claimId); }, store, log: SILENT }) });
    const running = handler.run(claims({}), new AbortController().signal);
    owner = OWNER;
    assert.deepEqual(await running, { released: true });
    handler.settled?.({ id: '1' });
    assert.equal(await ended.promise, OWNER.claimId, 'not of who claimed it while the fleet was told');
    const stop = AbortSignal.abort();
    owner = { kind: 'unknown' };
    await assert.rejects(Promise.resolve(handler.run(claims({}), stop)), { name: 'AbortError' });
  });

  it('says what an update lacks', async () => {
    const handler = update('firmware', { kind: 'none', reason: 'no second slot' });
    assert.deepEqual(handler.support, { kind: 'none', reason: 'no second slot' });
    await assert.rejects(run(handler), { code: 'command.unsupported' });
  });
});

/** A zombie does not run any more. */
const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}/stat`) && !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));

const SILENT: Log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined, child: () => SILENT };

function mapStore(): KeyValueStore {
  const map = new Map<string, Uint8Array>();
  return {
    put: (key, value) => { map.set(key, value); }, remove: (key) => { map.delete(key); }, flushed: async () => undefined, [Symbol.asyncDispose]: async () => undefined,
    range: (prefix) => [...map].filter(([key]) => key.startsWith(prefix)).map(([key, value]) => ({ key, value })),
  };
}
