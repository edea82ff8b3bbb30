import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import type { CommandHandler } from '#runtime/core/command.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Commander } from '#runtime/fleet/commander.ts';
import { CommandWorld, SECOND, newParty, placeOf } from '#test/support/commandHarness.ts';

const ABLE = { kind: 'value', value: true } as const;

const moves = async (): Promise<void> => { for (let at = 0; at < 60; at++) await turn(); };

/** Runs the commander until nothing moves any more, then ends it; one whose writes hang ends by itself later. */
async function settle(commander: Commander, act: () => void = () => undefined): Promise<void> {
  const stop = new AbortController();
  const following = commander.follow(stop.signal);
  act();
  await moves();
  stop.abort();
  await Promise.race([following, moves()]);
}

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
