import assert from 'node:assert/strict';
import { LIMITS } from '#runtime/core/limits.ts';
import { openTestBroker, type TestBroker } from '#test/support/brokerHarness.ts';
import { RawClient, TYPE, publishPacket, subscribePacket } from '#test/support/rawMqtt.ts';

const TOPIC = 'te/device/a///m/t';

describe('broker: the fast lane', () => {
  let door: TestBroker;
  beforeEach(async () => { door = await openTestBroker(); });
  afterEach(() => door[Symbol.asyncDispose]());

  it('keeps a client connected that only publishes, beyond its keep-alive', async function test() {
    this.timeout(10_000);
    using client = await RawClient.open(door.port, 'sensor', { keepAliveS: 1 });
    const until = performance.now() + 2_500;
    for (let id = 1; performance.now() < until; id++) {
      client.send(publishPacket(TOPIC, String(id), { qos: 1, id }));
      await client.next(TYPE.puback);
      await new Promise<void>((resolve) => { setTimeout(resolve, 300); });
    }
    assert.equal(client.ended, false);
  });

  it('takes a message whole however its bytes are cut, and keeps the order over both lanes', async () => {
    using client = await RawClient.open(door.port, 'sensor');
    const sent = Array.from({ length: 40 }, (_, at) => publishPacket(`t/${at}`, 'x'.repeat(at * 7), { qos: at % 5 === 4 ? 2 : 1, id: at + 1 }));
    const bytes = Buffer.concat(sent);
    for (let at = 0, step = 1; at < bytes.length; at += step, step = (step * 7) % 41 + 1) {
      client.send(bytes.subarray(at, at + step));
      await new Promise((resolve) => { setImmediate(resolve); });
    }
    await door.intake.offered(40);
    assert.deepEqual(door.intake.topics(), Array.from({ length: 40 }, (_, at) => `t/${at}`));
    assert.deepEqual(door.intake.accepted.map(({ payload }) => payload.length), Array.from({ length: 40 }, (_, at) => at * 7));
  });

  it('leaves the lane as soon as somebody subscribes, and comes back when nobody does', async () => {
    using client = await RawClient.open(door.port, 'sensor');
    using listener = await RawClient.open(door.port, 'listener');
    client.send(publishPacket(TOPIC, '1', { qos: 1, id: 1 }));
    await client.next(TYPE.puback);
    listener.send(subscribePacket('te/#', 1));
    await listener.next(TYPE.suback);
    client.send(publishPacket(TOPIC, '2', { qos: 1, id: 2 }));
    await client.next(TYPE.puback);
    const delivered = await listener.next(TYPE.publish);
    assert.equal(delivered.body.at(-1), '2'.charCodeAt(0));
    listener.socket.destroy();
    await listener.closed();
    client.send(publishPacket(TOPIC, '3', { qos: 1, id: 3 }));
    await client.next(TYPE.puback);
    assert.deepEqual(door.intake.accepted.map(({ payload }) => String(payload)), ['1', '2', '3']);
  });

  it('reads no further than its window while the disk is behind, and loses nothing of what waits', async () => {
    const count = LIMITS.inFlightPerClientMax * 20;
    using client = await RawClient.open(door.port, 'sensor');
    door.intake.held = true;
    // larger than one read of the socket: what lies beyond the window stays in it
    client.send(...Array.from({ length: count }, (_, at) => publishPacket(TOPIC, 'x'.repeat(1_000), { qos: 1, id: at + 1 })));
    await door.intake.offered(LIMITS.inFlightPerClientMax);
    using other = await RawClient.open(door.port, 'other');
    assert.equal(other.ended, false);
    assert.ok(door.intake.accepted.length < count / 2, `${door.intake.accepted.length} of ${count} were read`);
    door.intake.release();
    const acknowledged: number[] = [];
    while (acknowledged.length < count) acknowledged.push((await client.next(TYPE.puback)).body.readUInt16BE());
    assert.deepEqual(acknowledged, Array.from({ length: count }, (_, at) => at + 1));
  });

  it('ends the connection without an acknowledgement when the intake refuses', async () => {
    using client = await RawClient.open(door.port, 'sensor');
    door.intake.refusal = new Error('the disk broke');
    client.send(publishPacket(TOPIC, '1', { qos: 1, id: 1 }));
    await client.closed();
    assert.deepEqual(client.packets, []);
  });

  it('marks what its client repeats, and asks for the permission of each topic', async () => {
    await using guarded = await openTestBroker({ settings: { users: [{ name: 'anonymous', passwordHash: '', publish: ['te/#', '!te/secret/#'], subscribe: [] }] } });
    using client = await RawClient.open(guarded.port, 'sensor');
    client.send(publishPacket(TOPIC, '1', { qos: 1, id: 1, dup: true }));
    await client.next(TYPE.puback);
    assert.equal(guarded.intake.accepted[0]?.duplicate, true);
    client.send(publishPacket('te/secret/x///m/t', '1', { qos: 1, id: 2 }));
    await client.closed();
    assert.equal(guarded.intake.accepted.length, 1);
  });
});
