import assert from 'node:assert/strict';
import { LoginThrottle, hashPassword, parsePasswordHash, verifyPassword } from '#runtime/broker/auth.ts';
import { FrameGuard } from '#runtime/core/mqttFrames.ts';
import { decodePacket, encodePacket } from '#runtime/broker/packets.ts';
import { Permissions, filterCovers } from '#runtime/broker/permissions.ts';
import { TopicTree } from '#runtime/broker/topicTree.ts';
import { filterFault } from '#runtime/broker/topics.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { matchesFilter } from '#runtime/core/topic.ts';
import { randomOf } from '#test/support/random.ts';

const LEVELS = ['a', 'b', '', '$x', '+', '#'];

/** Well-formed filters (or, without wildcards, topics) from few levels, so that they meet. */
function names(seed: number, count: number, wildcards: boolean): string[] {
  const random = randomOf(seed);
  const made: string[] = [];
  while (made.length < count) {
    const name = Array.from({ length: 1 + random(4) }, () => LEVELS[random(wildcards ? 6 : 4)] ?? '').join('/');
    if (name !== '' && filterFault(name) === undefined) made.push(name);
  }
  return made;
}

describe('broker: parts', () => {
  it('finds in the topic tree exactly the filters that match, while they come and go', () => {
    const tree = new TopicTree<string>();
    const filters = new Set<string>();
    for (const [at, filter] of names(1, 400, true).entries()) {
      if (at % 3 === 2) {
        const gone = [...filters][0] ?? '';
        assert.ok(tree.remove(gone, () => true));
        filters.delete(gone);
      }
      if (!filters.has(filter)) tree.add(filter, filter);
      filters.add(filter);
      for (const topic of names(at, 5, false)) {
        const found: string[] = [];
        tree.collect(topic, found);
        assert.deepEqual(found.toSorted(), [...filters].filter((candidate) => matchesFilter(candidate, topic)).toSorted(), topic);
      }
    }
    assert.equal(tree.size, filters.size);
    for (const filter of filters) tree.remove(filter, () => true);
    assert.equal(tree.size, 0);
    assert.equal(tree.remove('a', () => true), false);
  });

  it('says that one filter covers another only when every topic of it matches', () => {
    const topics = names(7, 300, false);
    for (const wide of names(2, 60, true)) {
      for (const narrow of names(3, 60, true)) {
        if (!filterCovers(wide, narrow)) continue;
        for (const topic of topics) assert.ok(!matchesFilter(narrow, topic) || matchesFilter(wide, topic), `${wide} covers ${narrow} but not ${topic}`);
      }
    }
    for (const [wide, narrow] of [['#', 'a/+/#'], ['a/#', 'a'], ['a/+', 'a/b'], ['a/+', 'a/+'], ['+/+', 'a/b'], ['$SYS/#', '$SYS/+/x']] as const) assert.ok(filterCovers(wide, narrow), `${wide} ${narrow}`);
    for (const [wide, narrow] of [['a/+', 'a/#'], ['a', '+'], ['#', '$SYS/#'], ['a/b', 'a/+']] as const) assert.ok(!filterCovers(wide, narrow), `${wide} ${narrow}`);
  });

  it('fills %c and %u, and drops rules that a name would widen', () => {
    const lists = { publish: ['d/%c/#', 'u/%u'], subscribe: ['d/%c', '!d/x'] };
    const honest = new Permissions(lists, { clientId: 'm1', user: 'motor' });
    assert.deepEqual([honest.mayPublish('d/m1/a'), honest.mayPublish('d/m2/a'), honest.mayPublish('u/motor'), honest.maySubscribe('d/m1')], [true, false, true, true]);
    for (const clientId of ['+', '#', 'a/b', '', '%u']) {
      const sly = new Permissions(lists, { clientId, user: undefined });
      assert.deepEqual([sly.mayPublish('d/m1/a'), sly.mayPublish(`d/${clientId}/a`), sly.mayPublish('u/motor')], [false, false, false], clientId);
    }
    assert.equal(new Permissions(lists, { clientId: 'x', user: 'motor' }).maySubscribe('d/x'), false, 'taken away again');
  });

  it('guards frames however the stream is cut', () => {
    const frame = (length: number): Buffer => {
      const header: number[] = [0x30];
      for (let rest = length; ; rest >>= 7) {
        header.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
        if (rest <= 0x7f) return Buffer.concat([Buffer.from(header), Buffer.alloc(length, 0xff)]);
      }
    };
    const random = randomOf(5);
    for (let round = 0; round < 50; round++) {
      const good = Buffer.concat(Array.from({ length: 8 }, () => frame(random(3) === 0 ? 0 : random(1_000))));
      const guard = new FrameGuard(1_000);
      let at = 0;
      while (at < good.length) {
        const step = 1 + random(300);
        assert.equal(guard.check(good.subarray(at, at + step)), undefined);
        at += step;
      }
      assert.equal(guard.check(frame(1_001).subarray(0, 1)), undefined);
      assert.equal(guard.check(frame(1_001).subarray(1, 3))?.code, 'broker.packet_too_large');
    }
    assert.equal(new FrameGuard(1_000).check(Buffer.from([0xc0, 0, 0xc0, 0x80, 0x80, 0x80, 0x80]))?.code, 'broker.malformed');
  });

  it('brings packets back from their bytes, and nothing from other bytes', () => {
    const packet = { cmd: 'publish', topic: 'tö/1', payload: Buffer.from([0, 255]), qos: 2 as const, retain: true, dup: false, messageId: 65_535 };
    assert.deepEqual(decodePacket(encodePacket(packet)), packet);
    assert.deepEqual(decodePacket(encodePacket({ cmd: 'pubrel', messageId: 7 })), { cmd: 'pubrel', messageId: 7 });
    for (const bytes of ['', '0000', '03000000000', '0000000005aa', '0800000000', 'ff00000000']) assert.equal(decodePacket(Buffer.from(bytes, 'hex')), undefined, bytes);
  });

  it('verifies passwords, with the parameters that the hash states', async () => {
    const hash = await hashPassword('correct horse');
    assert.ok(await verifyPassword(Buffer.from('correct horse'), parsePasswordHash(hash)));
    assert.ok(!await verifyPassword(Buffer.from('correct horsf'), parsePasswordHash(hash)));
    // RFC 7914 §12, third vector
    const vector = 'scrypt$16384$8$1$U29kaXVtQ2hsb3JpZGU=$cCO9yzr9c0hGHAbNgf046/2o+7qQT44+qbVD9lRdofLVQylVYT8Pz2LUlwUkKpr55h6F3A1lHkDfzwF7RVdYhw==';
    assert.ok(await verifyPassword(Buffer.from('pleaseletmein'), parsePasswordHash(vector)));
    for (const bad of ['', 'plain', hash.replace('16384', '16383'), hash.replace('scrypt', 'bcrypt'), hash.replace('16384', '67108864'), `${hash}!`]) {
      assert.throws(() => parsePasswordHash(bad), { code: 'broker.password_hash' }, bad);
    }
  });

  it('locks an address for longer and longer, and forgets on success', () => {
    let nowMicros = 0;
    const throttle = new LoginThrottle({ wallMicros: () => 0, monoMicros: () => nowMicros });
    for (let at = 1; at < LIMITS.loginFailuresMax; at++) throttle.failed('a');
    assert.equal(throttle.locked('a'), false);
    for (const lockMs of [1_000, 2_000, 4_000]) {
      throttle.failed('a');
      nowMicros += lockMs * 1_000 - 1;
      assert.equal(throttle.locked('a'), true);
      nowMicros += 1;
      assert.equal(throttle.locked('a'), false);
    }
    assert.equal(throttle.locked('b'), false);
    throttle.succeeded('a');
    throttle.failed('a');
    assert.equal(throttle.locked('a'), false);
  });
});
