import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { browseClaims, ClaimAdvertisement, type ClaimPlace } from '#provisioning/claim/lan/discovery.ts';
import { frame, FrameReader } from '#provisioning/claim/lan/framing.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { randomOf } from '#test/support/random.ts';

describe('frames of a claim', () => {
  it('come back whole however the stream is cut, byte by byte too', () => {
    const random = randomOf(11);
    const messages = [1, 2, 300, 0x101, LIMITS.claimMessageBytesMax].map((length) => Buffer.from(Array.from({ length }, () => random(256))));
    const stream = Buffer.concat(messages.map(frame));
    for (const most of [1, 3, 1_000, stream.length]) {
      const reader = new FrameReader();
      const found: Buffer[] = [];
      for (let at = 0; at < stream.length;) {
        const end = at + 1 + random(most);
        found.push(...reader.push(stream.subarray(at, end)));
        at = end;
      }
      assert.deepEqual(found, messages);
    }
  });

  it('of no length and of more than a message may have end the stream', () => {
    for (const head of [[0, 0], [(LIMITS.claimMessageBytesMax + 1) >> 8, (LIMITS.claimMessageBytesMax + 1) & 0xff], [0xff, 0xff]]) {
      assert.throws(() => new FrameReader().push(Buffer.from(head)), (error: unknown) => error instanceof TenzroError && error.code === 'claim.malformed');
    }
  });
});

describe('finding a gateway on the network', () => {
  /** Resolves with the first place that `wanted` takes. */
  async function find(wanted: (place: ClaimPlace) => boolean): Promise<ClaimPlace> {
    const done = new AbortController();
    const found = Promise.withResolvers<ClaimPlace>();
    const browsing = browseClaims({ scope: 'loopback', onPlace: (place) => { if (wanted(place)) found.resolve(place); } }, AbortSignal.any([done.signal, AbortSignal.timeout(8_000)]));
    const place = await Promise.race([found.promise, browsing.then(() => { throw new Error('nothing was found'); })]);
    done.abort();
    await browsing;
    return place;
  }

  it('works on one machine over loopback: the place, its codes, and other codes when they change', async () => {
    const port = randomInt(1_024, 65_536);
    const faults: string[] = [];
    using advertisement = new ClaimAdvertisement({ port, discriminators: [3_840, 7] }, 'loopback', (why) => faults.push(why));
    assert.deepEqual(await find((place) => place.port === port), { address: '127.0.0.1', port, discriminators: [3_840, 7] });
    advertisement.update({ port, discriminators: [] });
    assert.deepEqual(await find((place) => place.port === port && place.discriminators.length === 0), { address: '127.0.0.1', port, discriminators: [] });
    assert.deepEqual(faults, []);
  });

  it('passes over garbage, half packets, and records of others', async () => {
    const port = randomInt(1_024, 65_536);
    const random = randomOf(5);
    const faults: string[] = [];
    using _ = new ClaimAdvertisement({ port, discriminators: [1] }, 'loopback', (why) => faults.push(why));
    const socket = createSocket('udp4').bind(0, '127.0.0.1', () => { socket.setMulticastInterface('127.0.0.1'); });
    try {
      for (let count = 0; count < 200; count++) socket.send(Buffer.from(Array.from({ length: random(300) }, () => random(256))), 5_353, '224.0.0.251');
      assert.equal((await find((place) => place.port === port)).discriminators[0], 1);
      assert.ok(faults.length > 0, 'garbage is told');
    } finally {
      socket.close();
    }
  });
});
