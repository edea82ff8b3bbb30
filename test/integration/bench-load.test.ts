import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { join } from 'node:path';
import { generate, parser } from 'mqtt-packet';
import { runLoad } from '#test/support/load.ts';
import { requirePeer } from '#test/support/peers.ts';
import { tempDir } from '#test/support/temp.ts';

interface Stall { readonly afterMs: number; readonly forMs: number }

/** A broker that acknowledges everything at once, but for one stall in which it reads nothing. Keeps the payloads. */
async function serve(stall?: Stall): Promise<{ server: Server; port: number; payloads: Buffer[] }> {
  const payloads: Buffer[] = [];
  const server = createServer((socket) => {
    const decoder = parser({ protocolVersion: 4 });
    decoder.on('packet', (packet) => {
      if (packet.cmd === 'connect') socket.write(generate({ cmd: 'connack', returnCode: 0, sessionPresent: false }));
      if (packet.cmd !== 'publish') return;
      payloads.push(Buffer.from(packet.payload));
      socket.write(generate({ cmd: 'puback', messageId: packet.messageId ?? 0 }));
    });
    socket.on('data', (chunk) => decoder.parse(chunk)).on('error', () => socket.destroy());
    if (stall) {
      setTimeout(() => socket.pause(), stall.afterMs); // the stall itself is what is tested: nothing waits for it
      setTimeout(() => socket.resume(), stall.afterMs + stall.forMs);
    }
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, port: (server.address() as AddressInfo).port, payloads };
}

describe('the load generator', () => {
  before(function () { requirePeer(this, 'cc'); });

  it('sends thin-edge measurements of the wanted size, and logs the id of each that was acknowledged', async () => {
    using dir = tempDir('load');
    const log = join(dir.path, 'acks');
    const { server, port, payloads } = await serve();
    const result = await runLoad({ port, publishers: 3, bytes: 200, messages: 300, warm: 0, 'ack-log': log, base: 1_000 });
    server.close();
    assert.deepEqual([result.sent, result.acked, result.brokerGone], [300, 300, false]);
    const sent = payloads.map((payload) => (JSON.parse(payload.toString()) as { id: number }).id).toSorted((a, b) => a - b);
    assert.deepEqual(sent, Array.from({ length: 300 }, (_, at) => 1_000 + at));
    assert.ok(payloads.every((payload) => payload.length === 200));
    const bytes = readFileSync(log);
    const logged = Array.from({ length: bytes.length / 8 }, (_, at) => Number(bytes.readBigUInt64LE(at * 8))).toSorted((a, b) => a - b);
    assert.deepEqual(logged, sent);
  });

  it('counts latency from the scheduled send: a stall shows in all that had to wait', async () => {
    const { server, port } = await serve({ afterMs: 300, forMs: 500 });
    const { p50Ms, p99Ms, maxMs } = await runLoad({ port, publishers: 2, rate: 500, warm: 0, seconds: 1.2 });
    server.close();
    assert.ok(maxMs > 450 && p99Ms > 400, `${maxMs} and ${p99Ms} ms: the stall was 500 ms`);
    assert.ok(p50Ms < 250, `${p50Ms} ms: most messages came outside of the stall`);
  });
});
