import assert from 'node:assert/strict';
import { join } from 'node:path';
import { toHex } from '#runtime/core/bytes.ts';
import { systemClock } from '#runtime/core/clock.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { Chains } from '#runtime/controller/chains.ts';
import { Intake } from '#runtime/controller/intake.ts';
import { chainIdOf } from '#runtime/ledger/block.ts';
import { openKeyValueStore } from '#runtime/ledger/kv.ts';
import { decodeAnswer, openReceipt, type Answer } from '#runtime/ledger/receipt.ts';
import { packShipment, type Leaf, type Shipment } from '#runtime/ledger/shipment.ts';
import { checkIncrement, isSignedByGenesis } from '#runtime/verify/increment.ts';
import { leafHash } from '#runtime/crypto/merkle.ts';
import { testVerifier } from '#test/support/leases.ts';
import { softChain, testReading, type MemoryChain } from '#test/support/memoryChain.ts';
import { silentLog, TestCounters } from '#test/support/sealHarness.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const KEY = sha256(testVerifier.publicKey);

describe('controller: intake', () => {
  let dir: TempDir;
  let store: KeyValueStore;
  let chains: Chains;
  let intake: Intake;
  let counters: TestCounters;

  async function open(): Promise<void> {
    store = await openKeyValueStore(join(dir.path, 'store'), undefined, 'keep');
    chains = new Chains(store);
    counters = new TestCounters();
    intake = new Intake({ chains, signer: testVerifier, clock: systemClock, counters, log: silentLog, judge: { judge: checkIncrement, isSignedByGenesis } });
  }
  beforeEach(async () => { dir = tempDir('intake'); await open(); });
  afterEach(async () => { await store[Symbol.asyncDispose](); dir[Symbol.dispose](); });

  const idOf = (chain: MemoryChain): Buffer => chainIdOf(chain.block(0).payload);
  const leaf = (chain: MemoryChain, index: number): Leaf => ({ entry: chain.entry(index) });
  const range = (from: number, to: number): readonly number[] => Array.from({ length: to - from }, (_, at) => from + at);
  const cut = (chain: MemoryChain, [from, to]: readonly [number, number], [first, end]: readonly [number, number]): Shipment =>
    ({ chainId: idOf(chain), first: from, leaves: range(from, to).map((index) => leaf(chain, index)), blocks: range(first, end).map((sequence) => chain.block(sequence)) });

  async function send(shipment: Shipment, gateway = 'workshop'): Promise<Answer> {
    const answer = await intake.take({ gateway, chain: toHex(shipment.chainId) }, await packShipment(shipment));
    assert.ok(answer);
    return decodeAnswer(answer);
  }

  it('receipts in order, and answers duplicates and what it has with the same receipt, after a restart too', async () => {
    const { chain } = softChain(4, 3);
    const first = await send(cut(chain, [0, 6], [0, 2]));
    assert.deepEqual([first.next, first.nextBlock, first.refusal], [6, 2, undefined]);
    const second = await send(cut(chain, [6, 12], [2, 4]));
    assert.ok(second.receipt);
    const receipt = openReceipt(second.receipt, KEY);
    assert.deepEqual([receipt.sequence, receipt.treeSize, toHex(receipt.root)], [3, 12, toHex(chain.rootAt(12))]);
    await store[Symbol.asyncDispose]();
    await open();
    for (const again of [cut(chain, [6, 12], [2, 4]), cut(chain, [0, 6], [0, 2]), cut(chain, [3, 9], [1, 3])]) assert.deepEqual((await send(again)).receipt, second.receipt);
    assert.deepEqual([...chains.leaves(toHex(idOf(chain)))].map((kept) => 'entry' in kept && toHex(kept.entry)), chain.entries.map((entry) => toHex(entry)));
  });

  it('takes a block whose entries need several shipments, and asks for what is missing', async () => {
    const { chain } = softChain(2, 40);
    assert.deepEqual((await send(cut(chain, [0, 25], [0, 0]))).next, 25);
    const hole = await send(cut(chain, [40, 60], [0, 0]));
    assert.deepEqual([hole.refusal?.code, hole.next], ['controller.gap', 25], 'leaves that no block covers yet, too');
    const early = await send(cut(chain, [40, 80], [1, 2]));
    assert.deepEqual([early.refusal?.code, early.next, early.nextBlock], ['controller.gap', 25, 0]);
    const whole = await send(cut(chain, [25, 80], [0, 2]));
    assert.deepEqual([whole.refusal, whole.next, whole.nextBlock], [undefined, 80, 2]);
  });

  it('lets every root come out where entries stay on the site', async () => {
    const { chain } = softChain(2, 4);
    const shipment = cut(chain, [0, 8], [0, 2]);
    const answer = await send({ ...shipment, leaves: shipment.leaves.map((kept, index) => (index % 3 === 0 ? { hash: leafHash(chain.entry(index)) } : kept)) });
    assert.ok(answer.receipt);
    assert.equal([...chains.leaves(toHex(idOf(chain)))].filter((kept) => 'hash' in kept).length, 3);
  });

  it('receipts nothing that does not verify, and begins again at the last block', async () => {
    const { chain } = softChain(3, 4);
    const good = await send(cut(chain, [0, 4], [0, 1]));
    await send({ ...cut(chain, [4, 6], [1, 1]), leaves: [leaf(chain, 4), { entry: testReading(99) }] });
    const altered = await send(cut(chain, [6, 8], [1, 2]));
    assert.deepEqual([altered.refusal?.code, altered.next, altered.nextBlock], ['controller.root', 4, 1]);
    assert.deepEqual(altered.receipt, good.receipt);
    const forged = chain.block(1);
    const cose = Buffer.from(forged.cose);
    cose[cose.length - 1] = (cose.at(-1) ?? 0) ^ 1;
    const unsigned = await send({ ...cut(chain, [4, 8], [1, 1]), blocks: [{ ...forged, cose }] });
    assert.match(unsigned.refusal?.detail ?? '', /signature\.mldsa/);
    const swapped = await send({ ...cut(chain, [4, 8], [1, 1]), blocks: [{ cose: forged.cose, evidence: chain.block(2).evidence.subarray(1) }] });
    assert.equal(swapped.refusal?.code, 'controller.block');
    const foreign = await send(cut(chain, [4, 8], [1, 2]), 'another');
    assert.match(foreign.refusal?.detail ?? '', /gateway 'workshop'/);
    assert.deepEqual((await send(cut(chain, [4, 12], [1, 3]))).nextBlock, 3);
  });

  it('freezes a chain of which two blocks with one number are signed, whoever comes first, and for good', async () => {
    const original = softChain(2, 3);
    const clone = softChain(2, 3);
    await send(cut(original.chain, [0, 6], [0, 2]));
    assert.equal((await send(cut(clone.chain, [0, 6], [0, 2]))).refusal, undefined, 'until they differ, a clone cannot be told from the original');
    for (const { chain, sealer } of [original, clone]) { chain.append(testReading(chain === clone.chain ? 77 : 66)); sealer.seal(); }
    const kept = await send(cut(original.chain, [6, 7], [2, 3]));
    const split = await send(cut(clone.chain, [6, 7], [2, 3]));
    assert.deepEqual([split.refusal?.code, chains.record(toHex(idOf(clone.chain)))?.fork?.sequence, counters.snapshot()['controller.forks']], ['controller.fork', 2, 1]);
    original.chain.append(testReading(67));
    original.sealer.seal();
    const after = await send(cut(original.chain, [7, 8], [3, 4]));
    assert.deepEqual([after.refusal?.code, toHex(after.receipt ?? KEY)], ['controller.fork', toHex(kept.receipt ?? KEY)]);
    await store[Symbol.asyncDispose]();
    await open();
    assert.equal((await send(cut(original.chain, [7, 8], [3, 4]))).refusal?.code, 'controller.fork');
  });

  it('believes no fork that the key of the chain has not signed', async () => {
    const { chain } = softChain(2, 3);
    await send(cut(chain, [0, 6], [0, 2]));
    const stranger = softChain(2, 3, sha256(Buffer.from('a stranger'))).chain;
    const answer = await send({ chainId: idOf(chain), first: 6, leaves: [], blocks: [stranger.block(1)] });
    assert.deepEqual([answer.refusal?.code, chains.record(toHex(idOf(chain)))?.fork], ['controller.block', undefined]);
  });

  it('gives no receipt before everything is flushed, and holds one shipment of a chain meanwhile', async () => {
    const { chain } = softChain(2, 3);
    const space = Promise.withResolvers<void>();
    const full: KeyValueStore = {
      put: (key, value) => { store.put(key, value); }, remove: (key) => { store.remove(key); }, range: (prefix) => store.range(prefix),
      flushed: async () => { await space.promise; await store.flushed(); }, [Symbol.asyncDispose]: async () => undefined,
    };
    intake = new Intake({ chains: new Chains(full), signer: testVerifier, clock: systemClock, counters, log: silentLog, judge: { judge: checkIncrement, isSignedByGenesis } });
    const shipment = cut(chain, [0, 6], [0, 2]);
    const sender = { gateway: 'workshop', chain: toHex(shipment.chainId) };
    let answered = false;
    const first = intake.take(sender, await packShipment(shipment)).then((answer) => { answered = true; return answer; });
    assert.equal(await intake.take(sender, await packShipment(shipment)), undefined);
    assert.deepEqual([answered, counters.snapshot()['controller.busy']], [false, 1]);
    space.resolve();
    assert.ok((await first)?.length);
  });

  it('answers garbage about a chain that it does not know with nothing', async () => {
    assert.equal(await intake.take({ gateway: 'workshop', chain: toHex(KEY) }, Buffer.from('garbage')), undefined);
    assert.equal(counters.snapshot()['uplink.shipment'], 1);
    assert.equal(chains.size, 0);
  });
});
