import assert from 'node:assert/strict';
import { GATEWAY_LISTS, WATCHER_LISTS } from '#runtime/broker/fleetAdmission.ts';
import { Permissions } from '#runtime/broker/permissions.ts';
import { FLEET_TOPICS } from '#test/support/fleetTopics.ts';

const FILTERS: readonly (readonly [filter: string, isGranted: boolean])[] = [
  ['te/edge-1/#', true], ['te/edge-1', true], ['te/edge-1/chain/+/receipt', true], ['te/edge-1/device/main///cmd/+/+', true],
  ['#', false], ['+/#', false], ['te/#', false], ['te/+/#', false], ['te/+/status', false], ['te/edge-2/#', false], ['te/edge-2/status', false], ['te/edge-10/#', false], ['$SYS/#', false], ['other', false],
];

describe('broker: who may what in a fleet', () => {
  const gateway = new Permissions(GATEWAY_LISTS, { clientId: 'edge-1/x', user: 'edge-1' });
  const watcher = new Permissions(WATCHER_LISTS, { clientId: 'user:anna/x', user: 'anna' });

  for (const [topic, isItsOwnWord] of FLEET_TOPICS) {
    it(`a gateway ${isItsOwnWord ? 'says' : 'does not say'} te/<own>/${topic}, hears it, and neither says nor hears another's`, () => {
      assert.equal(gateway.mayPublish(`te/edge-1/${topic}`), isItsOwnWord);
      assert.ok(gateway.mayReceive(`te/edge-1/${topic}`));
      for (const other of ['edge-2', 'edge-10', 'edge', '', '+', '#', 'Edge-1', 'edge-1 ']) assert.ok(!gateway.mayPublish(`te/${other}/${topic}`) && !gateway.mayReceive(`te/${other}/${topic}`), other);
      assert.ok(watcher.mayReceive(`te/edge-1/${topic}`) && !watcher.mayPublish(`te/edge-1/${topic}`));
    });
  }

  for (const [filter, isGranted] of FILTERS) {
    it(`a gateway ${isGranted ? 'subscribes' : 'does not subscribe'} to ${filter}`, () => { assert.equal(gateway.maySubscribe(filter), isGranted); });
  }

  it('a gateway says nothing outside te/', () => {
    for (const topic of ['te', 'tele/edge-1/status', 'homeassistant/edge-1/config', '$SYS/broker', '/te/edge-1/status']) assert.ok(!gateway.mayPublish(topic), topic);
  });

  it('a watcher looks on at everything of gateways, and at nothing else', () => {
    assert.ok(watcher.maySubscribe('te/#') && watcher.maySubscribe('te/+/status') && !watcher.maySubscribe('#') && !watcher.maySubscribe('$SYS/#'));
  });

  it('nobody is let in by a name that would widen a rule', () => {
    for (const name of ['+', '#', 'a/b', '', 'te/edge-1']) {
      const sly = new Permissions(GATEWAY_LISTS, { clientId: 'x', user: name });
      assert.ok(!sly.mayPublish('te/edge-1/status') && !sly.maySubscribe('te/edge-1/#'), name);
    }
  });
});
