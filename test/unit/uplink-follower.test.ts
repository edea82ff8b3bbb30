import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { toHex } from '#runtime/core/bytes.ts';
import { systemClock } from '#runtime/core/clock.ts';
import type { FleetLink, KeyValueStore } from '#runtime/core/ports.ts';
import { leafHash } from '#runtime/crypto/merkle.ts';
import { newSeed, signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { blockHash, chainIdOf, decodeBlock } from '#runtime/ledger/block.ts';
import { encodeAnswer, signReceipt } from '#runtime/ledger/receipt.ts';
import { shipmentId } from '#runtime/ledger/shipment.ts';
import { Uplink } from '#runtime/uplink/follower.ts';
import { softChain } from '#test/support/memoryChain.ts';
import { silentLog, TestCounters } from '#test/support/sealHarness.ts';

const STORE: KeyValueStore = { put: () => undefined, remove: () => undefined, range: () => [], flushed: async () => undefined, [Symbol.asyncDispose]: async () => undefined };
const FLOOD = 500;

describe('uplink: answers that a hostile broker makes up', () => {
  it('are not looked at in a flood, and the true one counts all the same', async () => {
    const { chain } = softChain(3, 4);
    const signer = signerOfSeed(newSeed());
    const shipped = new EventEmitter<{ up: [Uint8Array] }>();
    const link: FleetLink = {
      isReady: true, keyExchange: 'none', fault: '', [Symbol.asyncDispose]: async () => undefined, ready: async (signal) => !signal.aborted,
      publish: async (_topic, payload) => { shipped.emit('up', payload); },
    };
    const counters = new TestCounters();
    const source = {
      * read(from: number, max: number) { for (let index = from; index < Math.min(chain.entries.length, from + max); index++) yield { index, bytes: chain.entry(index) }; },
      leafHash: (index: number) => leafHash(chain.entry(index)), blockCount: () => chain.blockCount(), block: (sequence: number) => chain.block(sequence),
    };
    const uplink = new Uplink({
      upstream: { receiptKey: sha256(signer.publicKey), maxBytesPerSecond: 0, forward: [] }, forward: [], device: 'g', source, writer: { setCursor: () => undefined }, store: STORE, clock: systemClock, counters, log: silentLog,
    });
    const chainId = chainIdOf(chain.block(0).payload);
    const topic = `te/g/chain/${toHex(chainId)}/receipt`;
    const receiptOf = (sequence: number): Buffer => {
      const { payload } = chain.block(sequence);
      const { treeSize, root } = decodeBlock(payload);
      return signReceipt(signer, { chainId, sequence, blockHash: blockHash(payload), treeSize, root, wallMicros: 1 });
    };
    const stop = new AbortController();
    const up = once(shipped, 'up') as Promise<[Uint8Array]>;
    const following = uplink.follow(link, stop.signal);
    const [shipment] = await up;
    const replay = encodeAnswer({ about: Buffer.alloc(16), next: 4, nextBlock: 1, receipt: receiptOf(0) });
    for (let at = 0; at < FLOOD; at++) uplink.receive(topic, replay);
    assert.equal(uplink.status().receipt?.sequence, 0, 'a true receipt counts, whoever brings it');
    assert.ok((counters.snapshot()['uplink.unjudged'] ?? 0) > FLOOD / 2);
    uplink.receive(topic, encodeAnswer({ about: shipmentId(Buffer.from(shipment)), next: 12, nextBlock: 3, receipt: receiptOf(2) }));
    assert.deepEqual([uplink.status().receipt?.treeSize, uplink.status().lag, uplink.processed()], [12, 0, 12]);
    stop.abort();
    await following;
  });
});
