import assert from 'node:assert/strict';
import { formatTopic, matchesFilter, parseTopic, type Channel } from '#runtime/core/topic.ts';

describe('core/topic', () => {
  it('round-trips every channel, with blank segments kept', () => {
    for (const channel of ['m', 'e', 'a', 'twin', 'status', 'cmd'] satisfies Channel[]) {
      for (const entity of ['device/main//', 'device/motor//', 'device/a/service/b']) {
        for (const suffix of ['', 'meta', 'c1/x']) {
          const text = formatTopic({ kind: 'channel', entity, channel, type: 'environment', suffix });
          assert.equal(formatTopic(parseTopic(text)), text);
        }
      }
    }
    assert.deepEqual(parseTopic('te/device/child01//'), { kind: 'registration', entity: 'device/child01//' });
  });

  for (const bad of ['', 'te', 'te/device', 'te/device/x', 'x/device/y///m/t', 'te/device/x///q/t', 'te/device/+///m/t', 'te/device/x///m/#', 'te//x///m/t', `te/device/${'x'.repeat(600)}///m/t`, 'te/device/\u0000///m/t']) {
    it(`refuses ${JSON.stringify(bad.slice(0, 30))}`, () => {
      assert.throws(() => parseTopic(bad), { code: 'topic.invalid' });
    });
  }

  it('matches filters as MQTT 3.1.1 §4.7 says', () => {
    const cases: [string, string, boolean][] = [
      ['#', 'a/b', true], ['#', '$SYS/x', false], ['+/x', '$SYS/x', false], ['$SYS/#', '$SYS/x', true], ['a/+', 'a/b', true], ['a/+', 'a/b/c', false],
      ['a/#', 'a', true], ['a/#', 'a/b/c', true], ['+', '', true], ['a', 'a', true], ['a', 'a/b', false], ['+/+', '/finance', true],
    ];
    for (const [filter, topic, expected] of cases) assert.equal(matchesFilter(filter, topic), expected, `${filter} ~ ${topic}`);
  });
});
