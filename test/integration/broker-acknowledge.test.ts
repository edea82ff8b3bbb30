import assert from 'node:assert/strict';
import { once } from 'node:events';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { openTestBroker, type TestBroker } from '#test/support/brokerHarness.ts';
import { connectClient } from '#test/support/mqttClient.ts';
import { PINGREQ, RawClient, TYPE, publishPacket, pubrelPacket } from '#test/support/rawMqtt.ts';

/** A round trip of another client: whatever the broker would have answered before is here by then. */
async function settledBy(port: number): Promise<void> {
  using client = await RawClient.open(port, 'bystander');
  client.send(PINGREQ);
  await client.next(TYPE.pingresp);
}

describe('broker: acknowledge after flush', () => {
  let door: TestBroker;
  beforeEach(async () => { door = await openTestBroker(); });
  afterEach(() => door[Symbol.asyncDispose]());

  it('sends PUBACK only when the intake says that the message is flushed', async () => {
    using client = await RawClient.open(door.port, 'sensor');
    door.intake.held = true;
    client.send(publishPacket('te/device/a///m/t', '1', { qos: 1, id: 7 }));
    await door.intake.offered(1);
    await settledBy(door.port);
    assert.deepEqual(client.packets, []);
    door.intake.release();
    assert.equal((await client.next(TYPE.puback)).body.readUInt16BE(), 7);
    const [message] = door.intake.accepted;
    assert.deepEqual(message, { clientId: 'sensor', topic: 'te/device/a///m/t', payload: Buffer.from('1'), qos: 1, retain: false, duplicate: false, packetId: 7 });
  });

  it('sends PUBREC only when flushed, and takes a repeated QoS 2 publish once, before and after the flush', async () => {
    using client = await RawClient.open(door.port, 'sensor');
    door.intake.held = true;
    client.send(publishPacket('a', 'x', { qos: 2, id: 9 }), publishPacket('a', 'x', { qos: 2, id: 9, dup: true }));
    await door.intake.offered(1);
    await settledBy(door.port);
    assert.deepEqual(client.packets, []);
    door.intake.release();
    await client.next(TYPE.pubrec);
    await client.next(TYPE.pubrec);
    client.send(publishPacket('a', 'x', { qos: 2, id: 9, dup: true }));
    await client.next(TYPE.pubrec);
    assert.equal(door.intake.accepted.length, 1);
    client.send(pubrelPacket(9));
    await client.next(TYPE.pubcomp);
    client.send(publishPacket('a', 'y', { qos: 2, id: 9 }));
    await client.next(TYPE.pubrec);
    assert.equal(door.intake.accepted.length, 2, 'the id is free again after PUBREL');
  });

  it('offers the packets of one chunk in the order in which they were sent, whatever their QoS', async () => {
    using client = await RawClient.open(door.port, 'sensor');
    const sent = Array.from({ length: 60 }, (_, at) => publishPacket(`t/${at}`, 'x', { qos: ([0, 1, 2] as const)[at % 3] ?? 0, id: at + 1 }));
    client.send(...sent);
    await door.intake.offered(60);
    assert.deepEqual(door.intake.topics(), Array.from({ length: 60 }, (_, at) => `t/${at}`));
  });

  it('marks what the client marks as a duplicate', async () => {
    using client = await RawClient.open(door.port, 'sensor');
    client.send(publishPacket('a', 'x', { qos: 1, id: 3, dup: true }));
    await client.next(TYPE.puback);
    assert.equal(door.intake.accepted[0]?.duplicate, true);
  });

  it('ends the connection instead of acknowledging what the intake refused', async () => {
    using client = await RawClient.open(door.port, 'sensor');
    door.intake.refusal = new TenzroError('queue.full', 'busy', { retryAfterMs: 10 });
    client.send(publishPacket('a', 'x', { qos: 1, id: 3 }));
    await client.closed();
    assert.deepEqual(client.packets, []);
    assert.equal(door.counters.of('queue.full'), 1);
  });

  it('keeps the connection of a QoS 0 publisher that the intake refused, and counts it', async () => {
    using client = await RawClient.open(door.port, 'sensor');
    door.intake.refusal = new TenzroError('queue.full', 'busy', { retryAfterMs: 10 });
    client.send(publishPacket('a', 'x'));
    client.send(PINGREQ);
    await client.next(TYPE.pingresp);
    assert.equal(door.counters.of('queue.full'), 1);
  });

  it('delivers QoS 0 without waiting for the disk, and stops reading a client that floods it', async () => {
    await using listener = await connectClient(door.port);
    await listener.mqtt.subscribeAsync('flood');
    using client = await RawClient.open(door.port, 'sensor');
    door.intake.held = true;
    client.send(publishPacket('flood', 'first'));
    await listener.arrived(1);
    const flood = LIMITS.unflushedPerClientMax * 20;
    const message = publishPacket('flood', Buffer.alloc(200, 'x'));
    client.send(Buffer.concat(Array.from({ length: flood }, () => message)));
    await door.intake.offered(LIMITS.unflushedPerClientMax);
    await settledBy(door.port);
    await settledBy(door.port);
    // what one read brought in is offered whole: 64 KiB
    assert.ok(door.intake.accepted.length <= LIMITS.unflushedPerClientMax + Math.ceil(65_536 / message.length) + 1, String(door.intake.accepted.length));
    door.intake.release();
    await door.intake.offered(flood + 1);
  });

  it('records a will when it fires, and not when the client says goodbye', async () => {
    const quiet = await connectClient(door.port, { clientId: 'quiet', will: { topic: 'wills/quiet', payload: Buffer.from('gone'), qos: 1, retain: false } });
    await quiet.mqtt.endAsync();
    using lost = await RawClient.open(door.port, 'lost', { will: { topic: 'wills/lost', payload: 'gone', qos: 1 } });
    lost.socket.destroy();
    await door.intake.offered(1);
    assert.deepEqual(door.intake.accepted.map(({ clientId, topic, packetId }) => [clientId, topic, packetId]), [['lost', 'wills/lost', 0]]);
  });

  it('delivers its own publications without recording them', async () => {
    await using client = await connectClient(door.port);
    await client.mqtt.subscribeAsync('te/errors');
    await door.broker.publish('te/errors', 'odd', { retain: false, qos: 1 });
    assert.equal((await client.arrived(1))[0]?.payload, 'odd');
    assert.deepEqual(door.intake.accepted, []);
  });

  it('acknowledges a reserved topic, and neither records nor delivers it', async () => {
    await using listener = await connectClient(door.port);
    await listener.mqtt.subscribeAsync(['#', '$SYS/#']);
    using client = await RawClient.open(door.port, 'sensor');
    client.send(publishPacket('$SYS/fake', 'x', { qos: 1, id: 3 }));
    await client.next(TYPE.puback);
    client.send(publishPacket('plain', 'x', { qos: 1, id: 4 }));
    await client.next(TYPE.puback);
    while (!listener.received.some(({ topic }) => topic === 'plain')) await listener.arrived(listener.received.length + 1);
    assert.equal(listener.received.some(({ payload, topic }) => topic === '$SYS/fake' || (payload === 'x' && topic !== 'plain')), false);
    assert.deepEqual(door.intake.topics(), ['plain']);
    assert.equal(door.counters.of('broker.topic_reserved'), 1);
  });

  it('closes while clients are connected, and while others have not said CONNECT yet', async () => {
    const other = await openTestBroker();
    using client = await RawClient.open(other.port, 'sensor', { will: { topic: 'wills/sensor', payload: 'x', qos: 1 } });
    using mute = new RawClient(other.port);
    await once(mute.socket, 'connect');
    await other[Symbol.asyncDispose]();
    await Promise.all([client.closed(), mute.closed()]);
    assert.deepEqual(other.intake.topics(), ['wills/sensor']);
  });
});
