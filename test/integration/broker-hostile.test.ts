import assert from 'node:assert/strict';
import { once } from 'node:events';
import { LIMITS } from '#runtime/core/limits.ts';
import { openTestBroker, type TestBroker } from '#test/support/brokerHarness.ts';
import { connectClient } from '#test/support/mqttClient.ts';
import { randomOf } from '#test/support/random.ts';
import { RawClient, TYPE, connectPacket, packet, publishPacket, subscribePacket } from '#test/support/rawMqtt.ts';

const INVALID_UTF8 = Buffer.from([0x74, 0xc3, 0x28]);

describe('broker: hostile clients', () => {
  let door: TestBroker;
  beforeEach(async () => { door = await openTestBroker(); });
  afterEach(() => door[Symbol.asyncDispose]());

  const violations: [what: string, bytes: Buffer, code: string][] = [
    ['QoS 3', publishPacket('a', 'x', { qos: 3 }), 'broker.malformed'],
    ['a wildcard in a publish', publishPacket('a/+', 'x', { qos: 1 }), 'broker.malformed'],
    ['an empty topic', publishPacket('', 'x'), 'broker.malformed'],
    ['invalid UTF-8 in a topic', publishPacket(INVALID_UTF8, 'x', { qos: 1 }), 'broker.topic_invalid'],
    ['NUL in a topic', publishPacket('a\u0000b', 'x'), 'broker.topic_invalid'],
    ['a topic beyond the limit', publishPacket('x'.repeat(LIMITS.topicBytesMax + 1), 'x'), 'broker.topic_invalid'],
    ['too many levels', publishPacket('a/'.repeat(LIMITS.topicLevelsMax), 'x'), 'broker.malformed'],
    ['a malformed filter', subscribePacket('a/b#', 1), 'broker.malformed'],
    ['a wildcard that shares its level', subscribePacket('a+', 1), 'broker.topic_invalid'],
    ['invalid UTF-8 in a filter', subscribePacket(INVALID_UTF8, 1), 'broker.topic_invalid'],
    ['a second CONNECT', connectPacket('again'), 'broker.malformed'],
    ['a packet that only servers send', packet(0x20, Buffer.from([0, 0])), ''],
    ['wrong reserved flags', packet(0x80, Buffer.from([0, 1, 0, 1, 0x61, 0])), 'broker.malformed'],
    ['a length of five bytes', Buffer.from([0x30, 0x80, 0x80, 0x80, 0x80, 1]), 'broker.malformed'],
  ];
  for (const [what, bytes, code] of violations) {
    it(`ends the connection on ${what}, and serves the others`, async () => {
      await using good = await connectClient(door.port);
      using bad = await RawClient.open(door.port, 'bad');
      bad.send(bytes);
      await bad.closed();
      if (code !== '') assert.equal(door.counters.of(code), 1, JSON.stringify(door.counters.values));
      await good.mqtt.publishAsync('a', 'b', { qos: 1 });
      assert.deepEqual(door.intake.topics(), ['a']);
    });
  }

  it('refuses a packet at its announced length, before its body comes', async () => {
    using bad = await RawClient.open(door.port, 'bad');
    bad.send(Buffer.from([0x30, 0xff, 0xff, 0xff, 0x7f]));
    await bad.closed();
    assert.equal(door.counters.of('broker.packet_too_large'), 1);
  });

  it('takes the largest packet that is allowed', async () => {
    await using client = await connectClient(door.port);
    await client.mqtt.publishAsync('big', Buffer.alloc(LIMITS.packetBytesMax - 7), { qos: 1 });
    assert.equal(door.intake.accepted[0]?.payload.length, LIMITS.packetBytesMax - 7);
  });

  for (const [what, bytes] of [
    ['a publish before CONNECT', publishPacket('a', 'x')],
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')],
    ['another protocol name', packet(0x10, Buffer.from('\u0000\u0004HTTP\u0004\u0002\u0000\u0000\u0000\u0001a'))],
    ['a will on a wildcard', connectPacket('w', { will: { topic: 'a/#', payload: 'x', qos: 0 } })],
    ['a will on a reserved topic', connectPacket('w', { will: { topic: '$SYS/x', payload: 'x', qos: 0 } })],
  ] as const) {
    it(`ends the connection on ${what}`, async () => {
      using bad = new RawClient(door.port);
      bad.send(bytes);
      await bad.closed();
      assert.deepEqual(bad.packets, []);
    });
  }

  for (const id of ['x'.repeat(LIMITS.clientIdBytesMax + 1), 'a\u0001b', INVALID_UTF8]) {
    it(`refuses the client id ${JSON.stringify(id.toString().slice(0, 8))} with return code 2`, async () => {
      using bad = new RawClient(door.port);
      bad.send(connectPacket(id));
      assert.deepEqual([...(await bad.next(TYPE.connack)).body], [0, 2]);
      await bad.closed();
    });
  }

  it('turns connections away when the house is full, and lets one in when one leaves', async () => {
    const sockets: RawClient[] = [];
    try {
      for (let at = 0; at < LIMITS.connectionsMax; at++) sockets.push(new RawClient(door.port));
      for (const { socket } of sockets) if (socket.connecting) await once(socket, 'connect');
      using late = new RawClient(door.port);
      assert.deepEqual([...(await late.next(TYPE.connack)).body], [0, 3]);
      await late.closed();
      assert.equal(door.counters.of('broker.too_many_connections'), 1);
      sockets[0]?.send(publishPacket('a', 'x'));
      await sockets[0]?.closed();
      (await RawClient.open(door.port, 'late'))[Symbol.dispose]();
    } finally {
      for (const socket of sockets) socket[Symbol.dispose]();
    }
  });

  it('stays up under 20,000 random byte strings and serves a good client meanwhile', async () => {
    const random = randomOf(20_26);
    const string = (): Buffer => {
      const bytes = Buffer.from(Array.from({ length: 1 + random(24) }, () => random(256)));
      // half of them begin like a real packet, so that they get past the first check
      if (random(2) === 0) bytes[0] = [0x10, 0x30, 0x32, 0x34, 0x62, 0x82, 0xa2, 0xc0][random(8)] ?? 0;
      if (random(2) === 0 && bytes.length > 1) bytes[1] = bytes.length - 2;
      return bytes;
    };
    await using good = await connectClient(door.port);
    for (let sent = 0; sent < 20_000;) {
      const attackers = Array.from({ length: 100 }, () => new RawClient(door.port));
      for (const [at, attacker] of attackers.entries()) {
        if (at % 2 === 0) attacker.send(connectPacket(`attacker${at}`));
        for (let i = 0; i < 20; i++, sent++) attacker.send(string());
        attacker.socket.end();
      }
      await good.mqtt.publishAsync('good', 'x', { qos: 1 });
      await Promise.all(attackers.map((attacker) => attacker.closed()));
    }
    assert.equal(door.intake.accepted.filter(({ topic }) => topic === 'good').length, 10);
    assert.equal(door.counters.of('broker.internal'), 0);
    assert.ok(door.counters.of('broker.malformed') > 100);
  });
});
