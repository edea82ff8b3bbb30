import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { Desk, commandTopic } from '#runtime/controller/desk.ts';
import { DeskStore } from '#runtime/controller/deskStore.ts';
import { DESK_STATES, mayFollow, readSaying } from '#runtime/controller/deskRecord.ts';
import type { FleetLink } from '#runtime/core/ports.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { COMMAND_FORM } from '#runtime/dispatching.ts';
import { CommandWorld, GATEWAY, SECOND } from '#test/support/commandHarness.ts';
import { MemoryMap, QUIET, uncounted } from '#test/support/lightGateway.ts';
import { until } from '#test/support/until.ts';

/** A broker that keeps what is retained, and may be away. */
class FakeLink implements FleetLink {
  readonly retained = new Map<string, string>();
  readonly published: string[] = [];
  isReady = true;
  readonly keyExchange = 'none';
  readonly fault = '';
  async ready(): Promise<boolean> { return this.isReady; }
  async publish(topic: string, payload: Uint8Array): Promise<void> {
    await turn();
    if (!this.isReady) throw new Error('away');
    const text = Buffer.from(payload).toString('utf8');
    this.published.push(text);
    if (text === '') this.retained.delete(topic);
    else this.retained.set(topic, text);
  }
  async [Symbol.asyncDispose](): Promise<void> { await Promise.resolve(); }
}

class DeskWorld {
  readonly world = new CommandWorld();
  readonly map = new MemoryMap();
  readonly link = new FakeLink();
  acts = 0;
  desk = this.open();

  /** Another process over the same disk. */
  open(historyMax?: number): Desk {
    this.desk = new Desk({
      store: new DeskStore(this.map, historyMax), form: COMMAND_FORM, operators: () => this.world.operators, clock: this.world.clock, counters: uncounted(), log: QUIET,
      acts: { note: () => { this.acts++; }, record: async () => undefined },
    });
    return this.desk;
  }

  async submit(id: string, ttlSeconds = 60): Promise<void> { await this.desk.submit([{ gateway: GATEWAY, message: this.world.sign({ id, ttlSeconds }) }]); }
  say(id: string, message: object): void { this.desk.receive(commandTopic(nameOf(id)), Buffer.from(JSON.stringify(message))); }
  stateOf(id: string): string | undefined { return this.desk.get(nameOf(id))?.state; }

  /** Lets `seconds` pass, and the desk look. */
  async pass(seconds: number, isDone: () => boolean): Promise<void> {
    this.world.clock.pass(seconds);
    const stop = new AbortController();
    const following = this.desk.follow(stop.signal);
    await until('the desk to look', isDone);
    stop.abort();
    await following;
  }
}

const nameOf = (id: string) => ({ gateway: GATEWAY, type: 'diagnostics', id });

describe('controller: the desk', () => {
  it('can read again what was signed by a clock that is thousands of years ahead', async () => {
    const desk = new DeskWorld();
    await desk.desk.submit([{ gateway: GATEWAY, message: desk.world.sign({ id: 'a', issued: 253_402_300_000 }) }]);
    desk.open();
    assert.equal(desk.stateOf('a'), 'queued');
  });

  it('has a command on disk before it is published, and publishes it at the next connect after a restart', async () => {
    const desk = new DeskWorld();
    await desk.submit('a');
    assert.deepEqual([desk.stateOf('a'), desk.acts, desk.link.published.length], ['queued', 1, 0]);
    desk.open().connected(desk.link);
    await until('the broker to have it', () => desk.stateOf('a') === 'sent');
    assert.match(desk.link.retained.get(commandTopic(nameOf('a'))) ?? '', /"status":"init".*"signature":/);
  });

  it('publishes again what a broker had not taken, when it is back', async () => {
    const desk = new DeskWorld();
    desk.desk.connected(desk.link);
    desk.link.isReady = false;
    await desk.submit('a');
    assert.equal(desk.stateOf('a'), 'queued');
    desk.link.isReady = true;
    desk.desk.connected(desk.link);
    await until('the broker to have it', () => desk.stateOf('a') === 'sent');
  });

  it('says again what the gateway said nothing about, and stops when it did', async () => {
    const desk = new DeskWorld();
    desk.desk.connected(desk.link);
    await desk.submit('a', 3_600);
    await until('the broker to have it', () => desk.stateOf('a') === 'sent');
    await desk.pass(LIMITS.deskRepeatMs / 1_000, () => desk.link.published.length === 2);
    desk.say('a', { status: 'executing' });
    assert.equal(desk.stateOf('a'), 'executing');
  });

  it('asks again how a command stands that has begun, each time after twice the wait, and soon again after a word or a connect', async () => {
    const desk = new DeskWorld();
    desk.desk.connected(desk.link);
    const [first, asked] = [LIMITS.deskRepeatMs / 1_000, () => desk.link.published.length];
    await desk.submit('a', 36_000);
    await until('the broker to have it', () => desk.stateOf('a') === 'sent');
    for (const status of ['scheduled', 'executing']) {
      desk.say('a', { status });
      const before = asked();
      await desk.pass(first, () => asked() === before + 1);
      await desk.pass(2 * first, () => asked() === before + 2);
    }
    const before = asked();
    desk.desk.connected(desk.link);
    await until('the broker to have it again', () => asked() === before + 1);
    await desk.pass(first, () => asked() === before + 2);
    desk.say('a', { status: 'successful', result: {} });
    await until('the topic to be cleared', () => desk.link.retained.size === 0);
  });

  it('calls it silent when its validity went by, leaves no command at the broker, and takes a late outcome all the same', async () => {
    const desk = new DeskWorld();
    desk.desk.connected(desk.link);
    await desk.submit('a');
    await desk.pass(120, () => desk.stateOf('a') === 'silent');
    await until('the word in its place', () => desk.link.retained.get(commandTopic(nameOf('a'))) === '{"status":"withdrawn"}');
    desk.say('a', { status: 'withdrawn' });
    desk.say('a', { status: 'successful', result: { late: true } });
    await until('the topic to be cleared', () => desk.link.retained.size === 0);
    assert.equal(desk.stateOf('a'), 'successful');
    assert.deepEqual(desk.desk.said(nameOf('a')), { result: { late: true } });
    assert.equal(desk.open().get(nameOf('a'))?.state, 'successful', 'and keeps it over a restart');
  });

  it('remembers so many that have ended, and clears what it forgets', async () => {
    const desk = new DeskWorld();
    desk.open(2).connected(desk.link);
    for (const id of ['a', 'b', 'c']) {
      await desk.submit(id);
      desk.say(id, { status: 'failed', reason: 'command.config: no' });
    }
    assert.deepEqual([desk.stateOf('a'), desk.stateOf('b'), desk.stateOf('c')], [undefined, 'failed', 'failed']);
    await until('all to be cleared', () => desk.link.retained.size === 0);
    assert.equal([...desk.map.range('desk')].filter(({ key }) => key.includes('/a\u0001')).length, 0);
    await desk.submit('a');
    assert.equal(desk.stateOf('a'), 'queued', 'the gateway still knows that id, and will say so');
  });

  it('lets states rise only', () => {
    const rising = DESK_STATES.flatMap((before) => DESK_STATES.filter((after) => mayFollow(before, after) && mayFollow(after, before)));
    assert.deepEqual(rising, []);
    assert.ok(DESK_STATES.every((state) => !mayFollow('successful', state) && !mayFollow('failed', state)));
    assert.ok(mayFollow('withdrawn', 'successful') && mayFollow('silent', 'failed') && !mayFollow('withdrawn', 'executing'));
  });

  it('reads hostile states within bounds, with a typed error', () => {
    for (const text of ['', '{', '[]', '{"status":{}}', '{"status":"failed","reason":7}', `{"status":"${'x'.repeat(200_000)}"}`, '{"__proto__":1,"status":"failed"}', '\u0000']) {
      assert.throws(() => readSaying(Buffer.from(text), undefined), { code: 'command.malformed' }, text.slice(0, 40));
    }
    assert.equal(readSaying(Buffer.from(`{"status":"failed","reason":"${'x'.repeat(10_000)}"}`), undefined).reason.length, LIMITS.textBytesMax);
  });

  it('holds its time where the clock goes back', async () => {
    const desk = new DeskWorld();
    await desk.submit('a');
    desk.world.clock.wall -= 1_000 * SECOND;
    desk.desk.connected(desk.link);
    await desk.pass(1, () => desk.stateOf('a') === 'sent');
  });
});
