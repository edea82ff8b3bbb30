import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { Hub } from '#runtime/link/hub.ts';
import { openLink } from '#runtime/link/mqttLink.ts';
import { NEVER, silentLog } from '#test/support/sealHarness.ts';

/** MQTT 3.1.1 §3.2: accepted, no session. */
const CONNACK = Buffer.from([0x20, 2, 0, 0]);
const MEBIBYTE = 1024 * 1024;

describe('link: a broker that takes everything and acknowledges nothing', () => {
  it('gets no more than a bounded number of bytes, which is all that is kept for it', async () => {
    await using stack = new AsyncDisposableStack();
    const server = createServer((socket) => {
      socket.on('error', () => undefined); // the client goes away
      stack.defer(() => { socket.destroy(); });
      socket.once('data', () => { socket.write(CONNACK); });
      socket.resume();
    }).listen(0, '127.0.0.1');
    stack.defer(() => { server.close(); });
    await once(server, 'listening');
    const link = openLink({ url: `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`, ca: '', clientId: 'mute', hub: new Hub([], silentLog) });
    assert.ok(await link.ready(NEVER));
    const payload = Buffer.alloc(MEBIBYTE);
    const refused: unknown[] = [];
    const sent = LIMITS.linkUnacknowledgedBytesMax / MEBIBYTE + 10;
    for (let at = 0; at < sent; at++) link.publish('a/topic', payload, { retain: false }).catch((error: unknown) => { refused.push(error); });
    await new Promise((resolve) => { setImmediate(resolve); });
    assert.equal(refused.length, 9);
    assert.ok(refused.every((error) => error instanceof TenzroError && error.code === 'link.offline' && error.message.includes('acknowledges nothing')));
    await link[Symbol.asyncDispose]();
  }).timeout(10_000);
});
