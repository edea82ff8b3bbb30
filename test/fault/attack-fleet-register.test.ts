import assert from 'node:assert/strict';
import { toHex } from '#runtime/core/bytes.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { chainIdOf } from '#runtime/ledger/block.ts';
import { candidateOf, ownerThumbprint, refusalOf, TestRegistry } from '#test/support/fleetRegister.ts';
import { MemoryChain, softChain, SoftSealer, testReading } from '#test/support/memoryChain.ts';

const keyOf = (name: string): Uint8Array => signerOfSeed(sha256(Buffer.from(name))).publicKey;
const idOf = (chain: MemoryChain): string => toHex(chainIdOf(chain.block(0).payload));

/** Attacks of who holds a gateway's keys, or has a place in the fleet of its own. */
describe('attacks: fleet register', () => {
  let registry: TestRegistry;
  beforeEach(async () => { registry = await TestRegistry.open(); });
  afterEach(async () => { await registry[Symbol.asyncDispose](); });

  const candidateSpki = (sealer: SoftSealer): Buffer => Buffer.from(candidateOf('workshop', sealer.signer.publicKey).spki, 'hex');

  it('stranger in the fleet, another gateway sends on the chain of a victim: refused before anything is kept, controller.unclaimed', async () => {
    const { chain, sealer } = softChain(2, 3);
    await registry.claim('workshop', sealer.signer.publicKey);
    await registry.claim('evil', keyOf('evil'));
    await registry.sendAll(chain);
    chain.append(testReading(7));
    assert.equal(await refusalOf(registry.send(chain, [6, 7], [2, 2], 'evil')), 'controller.unclaimed');
    assert.equal(registry.chains.record(idOf(chain))?.size, 6);
  });

  it('cloned gateway, both copies go on with one chain: both are frozen, an act says so, and only an operator takes it again, controller.fork', async () => {
    const [original, clone] = [softChain(2, 3), softChain(2, 3)];
    await registry.claim('workshop', original.sealer.signer.publicKey);
    await registry.sendAll(original.chain);
    for (const { chain, sealer } of [original, clone]) { chain.append(testReading(chain === clone.chain ? 77 : 66)); sealer.seal(); }
    await registry.send(original.chain, [6, 7], [2, 3]);
    assert.equal(await refusalOf(registry.send(clone.chain, [6, 7], [2, 3])), 'controller.fork');
    assert.match(registry.register.get('workshop')?.frozen?.why ?? '', /two blocks 2/);
    assert.deepEqual(registry.acted().slice(-2), [`chain.forked ${idOf(clone.chain)}`, 'gateway.frozen workshop']);
    assert.equal(registry.register.admits(candidateSpki(original.sealer)), 'workshop', 'it still hears commands');
    await registry.reopen();
    original.chain.append(testReading(67));
    original.sealer.seal();
    const more = (): Promise<string | undefined> => refusalOf(registry.send(original.chain, [7, 8], [3, 4]));
    assert.equal(await more(), 'controller.fork');
    assert.deepEqual(await registry.call('gateways.forget', { target: 'workshop', who: ownerThumbprint }), { outcome: 'unfrozen' });
    assert.equal(await more(), undefined);
    assert.equal(await refusalOf(registry.send(clone.chain, [6, 7], [2, 3])), 'controller.fork', 'a clone is found again');
    assert.deepEqual(await registry.call('gateways.forget', { target: idOf(original.chain), who: ownerThumbprint }), { outcome: 'unfrozen' });
    await assert.rejects(registry.call('gateways.forget', { target: idOf(original.chain) }), { code: 'controller.request' });
  });

  it('cloned gateway, a copy begins a chain of its own beside the old one: both are frozen, controller.fork', async () => {
    const older = softChain(2, 3);
    await registry.claim('workshop', older.sealer.signer.publicKey);
    await registry.send(older.chain, [0, 3], [0, 1]);
    const newer = new MemoryChain();
    newer.append(testReading(1));
    const sealer = new SoftSealer(newer);
    sealer.seal({ wallMicros: 1_795_392_000_000_500 });
    assert.equal(await refusalOf(registry.sendAll(newer)), undefined);
    assert.equal(await refusalOf(registry.send(older.chain, [3, 6], [1, 2])), undefined, 'what was sealed before the newer one began may come late');
    older.chain.append(testReading(9));
    older.sealer.seal({ wallMicros: 1_795_392_000_001_000 });
    assert.equal(await refusalOf(registry.send(older.chain, [6, 7], [2, 3])), 'controller.fork');
    newer.append(testReading(2));
    sealer.seal({ wallMicros: 1_795_392_000_002_000 });
    assert.equal(await refusalOf(registry.send(newer, [1, 2], [1, 2])), 'controller.fork', 'both are frozen');
    assert.equal(registry.counters.snapshot()['controller.clones'], 1);
  });

  it('stolen gateway, revoked: its own key opens nothing any more, at once and after a restart, controller.revoked', async () => {
    const { chain, sealer } = softChain(2, 2);
    await registry.claim('workshop', sealer.signer.publicKey);
    assert.equal(await refusalOf(registry.send(chain, [0, 2], [0, 1])), undefined);
    await registry.call('gateways.revoke', { name: 'workshop', why: 'stolen', who: ownerThumbprint });
    assert.deepEqual([await refusalOf(registry.send(chain, [2, 4], [1, 2])), registry.register.admits(candidateSpki(sealer))], ['controller.revoked', undefined]);
    await registry.store.flushed();
    assert.equal(registry.acted().at(-1), 'refused workshop');
    await registry.reopen();
    assert.deepEqual([await refusalOf(registry.send(chain, [2, 4], [1, 2])), registry.register.admits(candidateSpki(sealer))], ['controller.revoked', undefined]);
  });
});
