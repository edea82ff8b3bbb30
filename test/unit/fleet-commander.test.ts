import assert from 'node:assert/strict';
import type { CommandHandler } from '#runtime/core/command.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { until } from '#test/support/until.ts';
import { CommandWorld, SECOND, moves, newParty, placeOf, settle } from '#test/support/commandHarness.ts';

const ABLE = { kind: 'value', value: true } as const;

describe('fleet: the life of a command', () => {
  it('ends with its result, and says each state before it follows from it', async () => {
    const world = new CommandWorld();
    world.handlers = { diagnostics: { support: ABLE, run: async () => { assert.deepEqual(world.states('diagnostics/1'), ['command', 'executing']); return { fine: true }; } } };
    const commander = world.start();
    await settle(commander, () => world.publish(commander, world.sign()));
    assert.deepEqual(world.states('diagnostics/1'), ['command', 'executing', 'successful']);
    assert.equal(world.retained.get('diagnostics/1')?.['status'], 'successful');
    assert.deepEqual(world.retained.get('diagnostics/1')?.['result'], { fine: true });
  });

  it('survives an end at every write: the effect happens once at most, and the state is right', async () => {
    for (let appends = 0; appends <= 4; appends++) {
      for (const isDelivered of [true, false]) {
        const world = new CommandWorld();
        let effects = 0;
        world.handlers = { diagnostics: { support: ABLE, run: async () => ({ effects: ++effects }) } };
        world.appendsLeft = appends;
        const first = world.start();
        const message = world.sign();
        await settle(first, () => world.publish(first, message));
        const before = effects;
        world.appendsLeft = Number.POSITIVE_INFINITY;
        if (isDelivered) world.retained.set('diagnostics/1', message); // the broker delivers init again
        await settle(world.start());
        await settle(world.start());
        const states = world.states('diagnostics/1');
        const what = `after ${appends} writes: ${states.join(' ')}, ${effects} effects`;
        assert.ok(effects <= 1, what);
        assert.equal(states.filter((state) => state === 'command').length, 1, what);
        assert.equal(states.filter((state) => state === 'executing').length, 1, what);
        assert.equal(states.at(-1), before === 1 && appends < 3 ? 'failed' : appends === 2 ? 'failed' : 'successful', what);
        assert.equal(world.retained.get('diagnostics/1')?.['status'], states.at(-1), what);
      }
    }
  });

  for (const loss of ['loseMap', 'damageMap'] as const) it(`takes what had been read from the log for what is known when the map beside it is gone (${loss})`, async () => {
    const world = new CommandWorld();
    world.handlers = { diagnostics: { support: ABLE, run: async () => ({}) } };
    const message = world.sign();
    const first = world.start();
    await settle(first, () => world.publish(first, message));
    world[loss]();
    world.retained.set('diagnostics/1', message);
    await settle(world.start());
    assert.deepEqual(world.states('diagnostics/1'), ['command', 'executing', 'successful']);
  });

  it('lets a restart happen once, and calls it successful in the next run', async () => {
    const world = new CommandWorld();
    let restarts = 0;
    const restart: CommandHandler = {
      support: ABLE, resume: () => ({ restarted: true }),
      run: async (_claims, signal) => { restarts += 1; await new Promise((resolve) => { signal.addEventListener('abort', resolve); }); throw new TenzroError('command.timeout', 'late'); },
    };
    world.handlers = { restart };
    const message = world.sign({ type: 'restart' });
    const first = world.start();
    await settle(first, () => world.publish(first, message));
    for (let again = 0; again < 3; again++) {
      world.retained.set('restart/1', message);
      await settle(world.start());
    }
    assert.equal(restarts, 1);
    assert.deepEqual(world.states('restart/1'), ['command', 'executing', 'successful']);
    assert.equal(world.retained.get('restart/1')?.['status'], 'successful');
  });

  it('fails what does not end in time, cancels, and never lets one block the next', async () => {
    const world = new CommandWorld();
    const hang: CommandHandler = { support: ABLE, run: async () => new Promise(() => undefined) };
    world.handlers = { config_update: hang, diagnostics: { support: ABLE, run: async () => ({}) } };
    const commander = world.start();
    const stop = new AbortController();
    const following = commander.follow(stop.signal);
    for (const id of ['a', 'b', 'c']) world.publish(commander, world.sign({ type: 'config_update', id }));
    world.publish(commander, world.sign({ id: 'q' }));
    await moves();
    assert.deepEqual(world.states('diagnostics/q').at(-1), 'successful', 'who waits for an answer waits for no job');
    assert.deepEqual(['a', 'b'].map((id) => world.states(`config_update/${id}`).at(-1)), ['executing', 'command']);
    world.publish(commander, world.sign({ type: 'cancel', id: 'x', parameters: { type: 'config_update', id: 'a' } }));
    await moves();
    assert.deepEqual(['a', 'b'].map((id) => world.states(`config_update/${id}`).at(-1)), ['failed', 'executing']);
    assert.equal(world.states('cancel/x').at(-1), 'successful');
    world.clock.pass(61);
    world.publish(commander, world.sign({ id: 'w' }));
    await moves();
    assert.deepEqual(['b', 'c'].map((id) => world.states(`config_update/${id}`).at(-1)), ['failed', 'failed']);
    assert.match(world.reasonOf('config_update/c'), /^command\.timeout/);
    stop.abort();
    await Promise.race([following, moves()]);
  });

  it('waits for its time, and says so', async () => {
    const world = new CommandWorld();
    world.handlers = { diagnostics: { support: ABLE, run: async () => ({}) } };
    const message = world.sign({ ttlSeconds: 600, notBefore: world.clock.wall / SECOND + 300 });
    const first = world.start();
    await settle(first, () => world.publish(first, message));
    assert.deepEqual(world.states('diagnostics/1'), ['command', 'scheduled']);
    world.clock.pass(301);
    await settle(world.start());
    assert.deepEqual(world.states('diagnostics/1'), ['command', 'scheduled', 'executing', 'successful']);
  });

  it('waits at a start until it is known who may command: what came before, and what was taken before', async () => {
    const world = new CommandWorld();
    world.handlers = { diagnostics: { support: ABLE, run: async () => ({}) } };
    const earlier = world.start();
    const scheduled = world.sign({ id: 'before', notBefore: world.clock.wall / SECOND + 10 });
    await settle(earlier, () => world.publish(earlier, scheduled));
    world.clock.pass(11);
    Object.assign(world, { operators: [], areOperatorsKnown: false });
    const stranger = newParty('stranger');
    const start = world.start();
    const stop = new AbortController();
    const following = start.follow(stop.signal);
    world.publish(start, world.sign({ id: 'early' }));
    world.publish(start, world.sign({ id: 'strange' }, stranger));
    await moves();
    assert.deepEqual(['before', 'early', 'strange'].map((id) => world.states(`diagnostics/${id}`).at(-1)), ['scheduled', undefined, undefined]);
    Object.assign(world, { operators: [world.owner.operator], areOperatorsKnown: true });
    await until('both to end', () => ['before', 'early'].every((id) => world.states(`diagnostics/${id}`).at(-1) === 'successful'));
    assert.match(world.reasonOf('diagnostics/strange'), /^command\.operator/);
    stop.abort();
    await following;
  });

  it('answers what it cannot do, and keeps fields that it does not know', async () => {
    const world = new CommandWorld();
    const commander = world.start();
    await settle(commander, () => world.publish(commander, world.sign({ type: 'firmware_update' })));
    assert.deepEqual(world.states('firmware_update/1'), ['command', 'failed']);
    assert.match(world.reasonOf('firmware_update/1'), /^command\.unsupported/);
    assert.equal(world.retained.get('firmware_update/1')?.['gateway'], 'gw1');
  });
});

describe('fleet: commands that are refused', () => {
  it('does nothing for a flood of forgeries, and tells of it in few entries', async () => {
    const world = new CommandWorld();
    const commander = world.start();
    const forger = newParty('forger');
    const message = world.sign({}, forger);
    await settle(commander, () => { for (let at = 0; at < 2_000; at++) world.publish(commander, { ...message, id: String(at) }, placeOf({ type: 'diagnostics', id: String(at) })); });
    assert.ok(world.entries().length <= LIMITS.refusalBurst, `${world.entries().length} entries`);
    world.clock.pass(LIMITS.refusalIntervalMs / 1_000 + 1);
    const restarted = world.start();
    await settle(restarted);
    assert.ok(world.entries().every((body) => 'state' in body && body.state === 'refused'));
  });

  it('takes no more than may be open, but cancels still', async () => {
    const world = new CommandWorld();
    world.handlers = { config_update: { support: ABLE, run: async () => new Promise(() => undefined) } };
    const commander = world.start();
    await settle(commander, () => {
      for (let at = 0; at <= LIMITS.commandsOpenMax; at++) world.publish(commander, world.sign({ type: 'config_update', id: `n${at}` }));
      world.publish(commander, world.sign({ type: 'cancel', parameters: { type: 'config_update', id: 'n7' } }));
    });
    assert.match(world.reasonOf(`config_update/n${LIMITS.commandsOpenMax}`), /^command\.busy/);
    assert.match(world.reasonOf('config_update/n7'), /^command\.cancelled/);
  });

  it('forgets old ids only together with the right to use them', async () => {
    const world = new CommandWorld();
    let effects = 0;
    world.handlers = { diagnostics: { support: ABLE, run: async () => ({ effects: ++effects }) } };
    const first = world.sign({ id: 'first', ttlSeconds: LIMITS.commandSecondsMax });
    const commander = world.start();
    const stop = new AbortController();
    const following = commander.follow(stop.signal);
    world.publish(commander, first);
    for (let at = 0; at < LIMITS.commandsRememberedMax; at += 16) {
      await moves();
      world.clock.pass(1);
      for (let one = at; one < at + 16; one++) world.publish(commander, world.sign({ id: `n${one}` }));
    }
    await moves();
    stop.abort();
    await following;
    const before = effects;
    assert.equal(before, 1 + LIMITS.commandsRememberedMax);
    const restarted = world.start();
    await settle(restarted, () => world.publish(restarted, first));
    assert.equal(effects, before);
    assert.equal(world.counts['fleet.refused.command.stale'], 1);
  });
});

describe('fleet: commands over several brokers', () => {
  const counting = (world: CommandWorld): { effects: number } => {
    const count = { effects: 0 };
    world.handlers = { diagnostics: { support: ABLE, run: async () => ({ effects: ++count.effects }) } };
    return count;
  };

  it('are one command: done once, with its states on both', async () => {
    const world = new CommandWorld();
    const count = counting(world);
    const commander = world.start();
    const message = world.sign();
    await settle(commander, () => { world.own.publish(commander, message); world.fleet.publish(commander, message); });
    assert.equal(count.effects, 1);
    assert.deepEqual(world.states('diagnostics/1'), ['command', 'executing', 'successful']);
    assert.deepEqual([world.own, world.fleet].map(({ retained }) => retained.get('diagnostics/1')?.['status']), ['successful', 'successful']);
  });

  it('are answered where they came from, and nowhere else', async () => {
    const world = new CommandWorld();
    counting(world);
    const commander = world.start();
    await settle(commander, () => { world.own.publish(commander, world.sign()); world.fleet.publish(commander, world.sign({ id: '2' })); world.fleet.publish(commander, { ...world.sign({ id: '3' }), issued: 1 }); });
    assert.deepEqual([[...world.own.retained.keys()], [...world.fleet.retained.keys()]], [['diagnostics/1'], ['diagnostics/2', 'diagnostics/3']]);
    assert.match(world.fleet.reasonOf('diagnostics/3'), /^command\.signature/);
  });

  it('stay cleared where they were cleared, also while the connection was away', async () => {
    const world = new CommandWorld();
    counting(world);
    const commander = world.start();
    const late = world.sign({ notBefore: Math.floor(world.clock.wall / SECOND) + 30 });
    await settle(commander, () => { world.own.publish(commander, late); world.fleet.publish(commander, late); });
    world.own.clear(commander, 'diagnostics/1');
    world.fleet.retained.clear(); // and nobody told us
    world.clock.pass(31);
    const next = world.start();
    await settle(next);
    world.fleet.connect(next);
    assert.equal(world.states('diagnostics/1').at(-1), 'successful');
    assert.deepEqual([world.own.retained.size, world.fleet.retained.size], [0, 0]);
  });

  it('get the state that they reached while their broker was away', async () => {
    const world = new CommandWorld();
    const count = counting(world);
    const first = world.start();
    const message = world.sign();
    await settle(first, () => world.own.publish(first, message));
    world.fleet.retained.set('diagnostics/1', message);
    world.fleet.connect(first);
    assert.deepEqual([count.effects, world.fleet.retained.get('diagnostics/1')?.['status']], [1, 'successful']);
  });

  it('count no more when the key is gone, not even those that wait', async () => {
    const world = new CommandWorld();
    const count = counting(world);
    const commander = world.start();
    const late = world.sign({ notBefore: Math.floor(world.clock.wall / SECOND) + 30 });
    await settle(commander, () => world.publish(commander, late));
    world.operators = [];
    world.clock.pass(31);
    const next = world.start();
    await settle(next, () => world.publish(next, world.sign({ id: '2' })));
    assert.equal(count.effects, 0);
    assert.match(world.reasonOf('diagnostics/1'), /^command\.operator/);
    assert.match(world.reasonOf('diagnostics/2'), /^command\.no_operators/);
  });

  it('a flood of states that are not ours is not looked at for long', async () => {
    const world = new CommandWorld();
    counting(world);
    const commander = world.start();
    await settle(commander, () => world.publish(commander, world.sign()));
    let answers = 0;
    const liar = { announce: () => { answers += 1; } };
    for (let at = 0; at < 2 * LIMITS.forgeriesAtOnceMax; at++) commander.receive(liar, placeOf({ type: 'diagnostics', id: '1' }), Buffer.from(`{"status":"failed","at":${at}}`));
    assert.equal(answers, LIMITS.forgeriesAtOnceMax);
    assert.equal(world.counts['fleet.unjudged'], LIMITS.forgeriesAtOnceMax);
  });
});
