/** What the public Paho MQTT 3.1.1 interoperability suite asks, and more of the specification, with a real client. */
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { openTestBroker, temporaryDirectory, type TestBroker } from '#test/support/brokerHarness.ts';
import { closed, connectClient } from '#test/support/mqttClient.ts';
import { RawClient, TYPE, connectPacket, publishPacket, subscribePacket } from '#test/support/rawMqtt.ts';
import { until } from '#test/support/until.ts';

const DURABLE = { clientId: 'durable', clean: false } as const;

describe('broker: MQTT 3.1.1', () => {
  let door: TestBroker;
  beforeEach(async () => { door = await openTestBroker(); });
  afterEach(() => door[Symbol.asyncDispose]());

  it('refuses an empty client id that wants to be kept with return code 2, and serves one that does not', async () => {
    using refused = new RawClient(door.port);
    refused.send(connectPacket('', { clean: false }));
    assert.deepEqual([...(await refused.next(TYPE.connack)).body], [0, 2]);
    await refused.closed();
    await until('the refusal', () => door.counters.of('broker.client_id') === 1);
    using served = await RawClient.open(door.port, '');
    served.send(publishPacket('a', 'b', { qos: 1 }));
    await served.next(TYPE.puback);
  });

  it('answers each filter of a subscription, and 0x80 for the forbidden one', async () => {
    await using picky = await openTestBroker({ settings: { users: [{ name: 'anonymous', passwordHash: '', publish: ['#'], subscribe: ['#', '!secret/#'] }] } });
    await using client = await connectClient(picky.port);
    const granted = await client.mqtt.subscribeAsync({ 'open/a': { qos: 1 }, 'secret/b': { qos: 2 }, 'open/c': { qos: 2 } }).catch((error: unknown) => error);
    assert.ok(granted instanceof Error, 'mqtt.js rejects when one filter is refused');
    using raw = await RawClient.open(picky.port, 'raw');
    raw.send(subscribePacket('secret/b', 2));
    assert.deepEqual([...(await raw.next(TYPE.suback)).body], [0, 1, 0x80]);
    await client.mqtt.subscribeAsync('#', { qos: 1 });
    await picky.broker.publish('secret/b', 'hidden', { retain: false, qos: 1 });
    await picky.broker.publish('open/a', 'shown', { retain: false, qos: 1 });
    assert.deepEqual((await client.arrived(1)).map(({ payload }) => payload), ['shown'], 'what may not be subscribed is not delivered under # either');
  });

  it('does not match $-topics with a leading wildcard', async () => {
    await using client = await connectClient(door.port);
    await client.mqtt.subscribeAsync(['#', '+/+/new/clients']);
    await using other = await connectClient(door.port);
    await other.mqtt.publishAsync('end', 'x');
    assert.deepEqual((await client.arrived(1)).map(({ topic }) => topic), ['end']);
  });

  it('queues QoS 1 and 2 for a durable client that is away, in order, and tells it that its session is there', async () => {
    await using first = await connectClient(door.port, DURABLE);
    await first.mqtt.subscribeAsync('q/#', { qos: 2 });
    await using publisher = await connectClient(door.port, { clientId: 'publisher' });
    using gone = new RawClient(door.port);
    gone.send(connectPacket('durable', { clean: false }));
    assert.deepEqual([...(await gone.next(TYPE.connack)).body], [1, 0], 'session present');
    gone.send(Buffer.from([0xe0, 0]));
    await gone.closed();
    await publisher.mqtt.publishAsync('q/0', 'zero', { qos: 0 });
    await publisher.mqtt.publishAsync('q/1', 'one', { qos: 1 });
    await publisher.mqtt.publishAsync('q/2', 'two', { qos: 2 });
    await using back = await connectClient(door.port, DURABLE);
    assert.deepEqual((await back.arrived(2)).map(({ topic, qos }) => [topic, qos]), [['q/1', 1], ['q/2', 2]]);
    assert.equal(door.counters.of('broker.takeovers'), 1);
  });

  it('delivers again, marked as duplicate, what was sent and not acknowledged', async () => {
    using first = await RawClient.open(door.port, 'durable', { clean: false });
    first.send(subscribePacket('q', 1));
    await first.next(TYPE.suback);
    await door.broker.publish('q', 'again', { retain: false, qos: 1 });
    const sent = await first.next(TYPE.publish);
    assert.equal(sent.first & 0x08, 0);
    first.socket.destroy();
    using second = await RawClient.open(door.port, 'durable', { clean: false });
    const repeated = await second.next(TYPE.publish);
    assert.equal(repeated.first & 0x08, 0x08, 'DUP');
    assert.deepEqual(repeated.body, sent.body, 'same packet id');
  });

  it('keeps the last retained message, hands it to new subscribers marked as retained, and forgets it when emptied', async () => {
    await using client = await connectClient(door.port);
    await client.mqtt.publishAsync('r/1', 'old', { retain: true, qos: 1 });
    await client.mqtt.publishAsync('r/1', 'new', { retain: true, qos: 1 });
    await client.mqtt.publishAsync('r/2', 'gone', { retain: true, qos: 1 });
    await client.mqtt.publishAsync('r/2', '', { retain: true, qos: 1 });
    await client.mqtt.subscribeAsync('r/+');
    await client.mqtt.publishAsync('r/3', 'live');
    assert.deepEqual((await client.arrived(2)).map(({ payload, retain }) => `${payload} ${retain}`).toSorted(), ['live false', 'new true']);
  });

  it('delivers at the lower of the two QoS, also under a wildcard, and once for overlapping filters', async () => {
    await using client = await connectClient(door.port);
    await client.mqtt.subscribeAsync('a/#', { qos: 1 });
    await client.mqtt.subscribeAsync('b/+', { qos: 0 });
    await client.mqtt.publishAsync('a/x', 'x', { qos: 2 });
    await client.mqtt.publishAsync('b/x', 'x', { qos: 2 });
    assert.deepEqual((await client.arrived(2)).map(({ topic, qos }) => [topic, qos]), [['a/x', 1], ['b/x', 0]]);
    await client.mqtt.subscribeAsync('c/#', { qos: 0 });
    await client.mqtt.subscribeAsync('c/+', { qos: 2 });
    await client.mqtt.publishAsync('c/x', 'x', { qos: 2 });
    await client.mqtt.publishAsync('a/end', 'x', { qos: 0 });
    assert.deepEqual((await client.arrived(4)).slice(2).map(({ topic, qos }) => [topic, qos]), [['c/x', 2], ['a/end', 0]]);
  });

  it('delivers nothing more after UNSUBSCRIBE', async () => {
    await using client = await connectClient(door.port);
    await client.mqtt.subscribeAsync(['u/1', 'u/2']);
    await client.mqtt.unsubscribeAsync('u/1');
    await client.mqtt.publishAsync('u/1', 'x', { qos: 1 });
    await client.mqtt.publishAsync('u/2', 'x', { qos: 1 });
    assert.deepEqual((await client.arrived(1)).map(({ topic }) => topic), ['u/2']);
  });

  it('publishes the will of a client that vanished, and of one that stayed silent beyond its keep-alive', async () => {
    await using watcher = await connectClient(door.port);
    await watcher.mqtt.subscribeAsync('wills/#');
    using vanished = await RawClient.open(door.port, 'vanished', { will: { topic: 'wills/vanished', payload: 'x', qos: 1 } });
    vanished.socket.destroy();
    await watcher.arrived(1);
    using silent = await RawClient.open(door.port, 'silent', { keepAliveS: 1, will: { topic: 'wills/silent', payload: 'x', qos: 1 } });
    await silent.closed();
    assert.deepEqual((await watcher.arrived(2)).map(({ topic }) => topic), ['wills/vanished', 'wills/silent']);
    assert.equal(door.counters.of('broker.timeout'), 1);
  });

  it('lets a second connection of the same user take a client id over', async () => {
    await using first = await connectClient(door.port, { clientId: 'same' });
    await using second = await connectClient(door.port, { clientId: 'same' });
    await closed(first);
    await second.mqtt.publishAsync('a', 'b', { qos: 1 });
    assert.equal(door.counters.of('broker.takeovers'), 1);
  });

  it('keeps sessions, retained messages and queued messages over an orderly restart', async () => {
    const dir = await temporaryDirectory();
    try {
      {
        await using before = await openTestBroker({ dir });
        await using durable = await connectClient(before.port, DURABLE);
        await durable.mqtt.subscribeAsync('q/#', { qos: 1 });
        await durable.mqtt.endAsync();
        await using publisher = await connectClient(before.port);
        await publisher.mqtt.publishAsync('q/1', 'kept', { qos: 1, retain: true });
      }
      await using after = await openTestBroker({ dir });
      await using durable = await connectClient(after.port, DURABLE);
      assert.deepEqual((await durable.arrived(1)).map(({ topic, payload }) => [topic, payload]), [['q/1', 'kept']]);
      await using fresh = await connectClient(after.port);
      await fresh.mqtt.subscribeAsync('q/+');
      assert.equal((await fresh.arrived(1))[0]?.payload, 'kept');
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  });

  it('writes nothing to disk for a QoS 1 publish that no absent durable client waits for', async () => {
    await using durable = await connectClient(door.port, DURABLE);
    await durable.mqtt.subscribeAsync('q/#', { qos: 1 });
    await using publisher = await connectClient(door.port);
    const before = door.written.length;
    for (let at = 0; at < 20; at++) await publisher.mqtt.publishAsync(`q/${at}`, 'x', { qos: 1 });
    await durable.arrived(20);
    assert.equal(door.written.length, before);
    await durable.mqtt.endAsync();
    await closed(durable);
    await publisher.mqtt.publishAsync('q/last', 'x', { qos: 1 });
    assert.equal(door.written.length, before + 1, 'and exactly one record when one does');
  });
});
