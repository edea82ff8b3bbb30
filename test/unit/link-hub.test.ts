import assert from 'node:assert/strict';
import type { FleetLink, LinkUser } from '#runtime/core/ports.ts';
import { Hub } from '#runtime/link/hub.ts';
import { StatusVoice } from '#runtime/link/statusVoice.ts';
import { silentLog } from '#test/support/sealHarness.ts';

interface Ear extends LinkUser {
  readonly heard: string[];
  links: number;
}

function ear(filters: readonly string[], qos?: 0 | 1): Ear {
  const heard: string[] = [];
  return { heard, links: 0, filters, ...(qos === undefined ? {} : { qos }), receive(topic, payload) { heard.push(`${topic} ${Buffer.from(payload).toString()}`); }, connected() { this.links++; } };
}

/** Keeps what is published; refuses while `fault` is there. */
function linkThat(said: string[]): FleetLink & { fault: string } {
  return {
    fault: '', isReady: true, keyExchange: 'none', ready: async () => true, [Symbol.asyncDispose]: async () => undefined,
    async publish(topic, payload, { retain }) {
      if (this.fault !== '') throw new Error(this.fault);
      said.push(`${topic} ${Buffer.from(payload).toString()}${retain ? ' retained' : ''}`);
    },
  };
}

describe('link: one connection for all', () => {
  it('brings each user what its filters match, once, and nothing else', () => {
    const [receipts, commands] = [ear(['te/g/chain/+/receipt', 'te/g/#']), ear(['te/g/device/main///cmd/+/+'])];
    const hub = new Hub([receipts, commands], silentLog);
    hub.receive('te/g/chain/00/receipt', Buffer.from('r'));
    hub.receive('te/g/device/main///cmd/attest/1', Buffer.from('c'));
    hub.receive('te/other/status', Buffer.from('s'));
    assert.deepEqual(receipts.heard, ['te/g/chain/00/receipt r', 'te/g/device/main///cmd/attest/1 c']);
    assert.deepEqual(commands.heard, ['te/g/device/main///cmd/attest/1 c']);
  });

  it('subscribes to each filter once, at the greatest QoS that is asked for', () => {
    const hub = new Hub([ear(['a', 'b'], 0), ear(['b', 'c']), ear(['b'], 0)], silentLog);
    assert.deepEqual(hub.subscriptions, [{ filter: 'a', qos: 0 }, { filter: 'b', qos: 1 }, { filter: 'c', qos: 1 }]);
  });

  it('tells everybody of every connection', () => {
    const users = [ear(['a']), ear([])];
    const hub = new Hub(users, silentLog);
    hub.connected(linkThat([]), 'here');
    hub.lost('gone');
    hub.connected(linkThat([]), 'here');
    assert.deepEqual(users.map(({ links }) => links), [2, 2]);
  });
});

describe('link: the status of a gateway', () => {
  it('is said at each connect and when it changed, and again where it could not be said', async () => {
    const said: string[] = [];
    const link = linkThat(said);
    const facts = { version: '1' };
    const voice = new StatusVoice({ gateway: 'g', statement: () => ({ ...facts }), log: silentLog });
    voice.refresh();
    voice.connected(link);
    voice.refresh();
    facts.version = '2';
    link.fault = 'offline';
    voice.refresh();
    await Promise.resolve();
    await Promise.resolve();
    link.fault = '';
    voice.refresh();
    voice.connected(link);
    assert.deepEqual(said, ['1', '2', '2'].map((version) => `te/g/status {"status":"up","keyExchange":"none","version":"${version}"} retained`));
  });
});
