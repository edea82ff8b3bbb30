import assert from 'node:assert/strict';
import { once } from 'node:events';
import { LIMITS } from '#runtime/core/limits.ts';
import { openTestBroker } from '#test/support/brokerHarness.ts';
import { connectClient, type TestClient } from '#test/support/mqttClient.ts';
import { RawClient, TYPE, connectPacket, subscribePacket } from '#test/support/rawMqtt.ts';

const PAYLOAD = Buffer.alloc(4_000, 'x');

/** Publishes `count` QoS 1 messages one after the other; milliseconds. */
async function publishAll(client: TestClient, count: number): Promise<number> {
  const start = performance.now();
  for (let at = 0; at < count; at++) await client.mqtt.publishAsync('load', PAYLOAD, { qos: 1 });
  return performance.now() - start;
}

describe('broker: subscribers that do not read', () => {
  it('does not slow publishers nor other subscribers, and cuts the stalled one', async () => {
    await using door = await openTestBroker();
    await using reader = await connectClient(door.port);
    await reader.mqtt.subscribeAsync('load', { qos: 0 });
    await using publisher = await connectClient(door.port);
    const alone = await publishAll(publisher, 500);
    using stalled = await RawClient.open(door.port, 'stalled');
    stalled.send(subscribePacket('load', 1));
    await stalled.next(TYPE.suback);
    stalled.socket.pause();
    const cut = once(stalled.socket, 'close');
    // 16 MB: beyond what the kernel buffers and the backlog take together
    const beside = await publishAll(publisher, 4_000);
    // with one subscriber blocking all, this takes LIMITS.subscriberDrainTimeoutMs at least
    assert.ok(beside < alone * 8 * 2 + LIMITS.subscriberDrainTimeoutMs / 2, `500 messages alone ${alone} ms, 4,000 beside the stalled one ${beside} ms`);
    await reader.arrived(4_500);
    assert.equal(door.counters.of('broker.subscriber_stalled'), 1);
    assert.equal(door.broker.clients().some(({ id }) => id === 'stalled'), false);
    stalled.socket.resume();
    await cut;
  });

  it('drops QoS 0 beyond the backlog of a slow reader instead of growing', async () => {
    await using door = await openTestBroker();
    using slow = await RawClient.open(door.port, 'slow');
    slow.send(subscribePacket('load', 0));
    await slow.next(TYPE.suback);
    slow.socket.pause();
    await using publisher = await connectClient(door.port);
    await publishAll(publisher, 4_000);
    assert.ok(door.counters.of('broker.dropped_qos0') > 0);
  });

  it('ends a client that never finishes its CONNECT', async () => {
    await using door = await openTestBroker({ connectTimeoutMs: 50 });
    using half = new RawClient(door.port);
    half.send(connectPacket('half').subarray(0, 9));
    await half.closed();
    assert.equal(door.counters.of('broker.timeout'), 1);
  });
});
