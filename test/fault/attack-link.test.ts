/** What a broker may try that the gateway connects to: it is the pinned one, and in the wrong hands. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { LIMITS } from '#runtime/core/limits.ts';
import { Hub } from '#runtime/link/hub.ts';
import { openLink } from '#runtime/link/mqttLink.ts';
import { silentLog } from '#test/support/sealHarness.ts';
import { until } from '#test/support/until.ts';

/** MQTT 3.1.1 §3.2: CONNACK, no session, accepted. §2.2.3: the greatest remaining length. */
const CONNACK = Buffer.of(0x20, 2, 0, 0);
const PUBLISH_256_MIB = Buffer.of(0x30, 0xff, 0xff, 0xff, 0x7f);
const CHUNK = Buffer.alloc(64 * 1_024, 0x61);
const SENT_BYTES_MAX = 256 * 1_024 * 1_024;

describe('attacks: the broker of a fleet, on the link', () => {
  let server: Server;
  let connections: number;
  let sentBytes: number;

  async function serve(speak: (socket: Socket) => void): Promise<string> {
    [connections, sentBytes] = [0, 0];
    server = createServer((socket) => {
      connections += 1;
      socket.on('error', () => undefined); // it hangs up: that is the test
      socket.once('data', () => { socket.write(CONNACK); speak(socket); });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }
  afterEach(() => { server.close(); });

  const pour = (socket: Socket): void => {
    while (!socket.destroyed && sentBytes < SENT_BYTES_MAX) {
      sentBytes += CHUNK.length;
      if (!socket.write(CHUNK)) { socket.once('drain', () => { pour(socket); }); return; }
    }
  };

  it('a packet of 256 MiB is cut at its header, and none of it is kept', async () => {
    const faults: string[] = [];
    const url = await serve((socket) => { socket.write(PUBLISH_256_MIB); pour(socket); });
    await using link = openLink({ url, ca: '', clientId: 'flooded', hub: new Hub([], silentLog), onFault: ({ code }) => { faults.push(code); } });
    const before = process.memoryUsage().arrayBuffers;
    await until('two refusals', () => faults.length >= 2, { timeoutMs: 10_000 });
    assert.deepEqual([...new Set(faults)], ['link.packet']);
    assert.match(link.fault, /announced a packet of \d+ bytes or more/);
    assert.ok(process.memoryUsage().arrayBuffers - before < LIMITS.linkPacketBytesMax * 8, `${process.memoryUsage().arrayBuffers - before} bytes more`);
    assert.ok(connections >= 2, 'it tries again');
  });

  it('a length of five bytes is cut too', async () => {
    const faults: string[] = [];
    const url = await serve((socket) => { socket.write(Buffer.of(0x30, 0x80, 0x80, 0x80, 0x80, 0x01)); });
    await using _ = openLink({ url, ca: '', clientId: 'bent', hub: new Hub([], silentLog), onFault: ({ code }) => { faults.push(code); } });
    await until('a refusal', () => faults.includes('link.packet'), { timeoutMs: 10_000 });
  });

  it('what a fleet really sends goes through, whole', async () => {
    const heard = Promise.withResolvers<number>();
    const body = Buffer.concat([Buffer.of(0, 3), Buffer.from('a/b'), Buffer.alloc(LIMITS.shipmentBytesMax, 0x62)]);
    const length = [0, 1, 2, 3].map((at) => Math.floor(body.length / 128 ** at) % 128 + (body.length >= 128 ** (at + 1) ? 128 : 0)).slice(0, Math.ceil(Math.log2(body.length + 1) / 7));
    const url = await serve((socket) => { socket.write(Buffer.concat([Buffer.of(0x30, ...length), body])); });
    await using _ = openLink({ url, ca: '', clientId: 'fed', hub: new Hub([{ filters: ['a/b'], receive: (_topic, payload) => { heard.resolve(payload.length); } }], silentLog) });
    assert.equal(await heard.promise, LIMITS.shipmentBytesMax);
  });
});
