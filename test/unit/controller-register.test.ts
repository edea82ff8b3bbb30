import assert from 'node:assert/strict';
import { join } from 'node:path';
import { toHex } from '#runtime/core/bytes.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { EPOCH_BODY, KIND } from '#runtime/core/types.ts';
import type { ActBook } from '#runtime/controller/acts.ts';
import { readActs } from '#runtime/controller/acts.ts';
import { checkActs } from '#runtime/controller/actsCodec.ts';
import { Register, registeredIn } from '#runtime/controller/register.ts';
import { decodeGateway, encodeGateway } from '#runtime/controller/registerCodec.ts';
import { standingsIn } from '#runtime/controller/standings.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { chainIdOf } from '#runtime/ledger/block.ts';
import { encodeEntry } from '#runtime/ledger/entry.ts';
import { openKeyValueStore } from '#runtime/ledger/kv.ts';
import { parsePolicy } from '#runtime/verify/policy.ts';
import { candidateOf, controllerKey, ownerThumbprint, refusalOf, TestRegistry } from '#test/support/fleetRegister.ts';
import { recordLease, signedLease, testVerifier } from '#test/support/leases.ts';
import { MemoryChain, softChain, SoftSealer, testReading } from '#test/support/memoryChain.ts';
import { tempDir } from '#test/support/temp.ts';

const keyOf = (name: string): Uint8Array => signerOfSeed(sha256(Buffer.from(name))).publicKey;
const spkiOf = (name: string): Buffer => Buffer.from(candidateOf(name, keyOf(name)).spki, 'hex');
const idOf = (chain: MemoryChain): string => toHex(chainIdOf(chain.block(0).payload));
/** The last word of a chain whose gateway gets other keys. */
const successorEntry = (successor: Uint8Array): Buffer => encodeEntry({ kind: KIND.epoch, source: 'device/main//', wallMicros: 0, bootEpoch: 1, monoMicros: 0, body: new Map<number, string | Uint8Array>([[EPOCH_BODY.code, 'identity.rotated'], [EPOCH_BODY.detail, ''], [EPOCH_BODY.successor, successor]]) });
const NEVER = new AbortController().signal;

describe('controller: register', () => {
  let registry: TestRegistry;
  beforeEach(async () => { registry = await TestRegistry.open(); });
  afterEach(async () => { await registry[Symbol.asyncDispose](); });

  it('admits who is being claimed and who was claimed, and nobody else, after a restart too', async () => {
    const { register } = registry;
    await registry.claim('edge-1', keyOf('edge-1'));
    await register.begin(candidateOf('edge-2', keyOf('edge-2')), ownerThumbprint);
    await registry.claim('edge-3', keyOf('edge-3'));
    await register.revoke('edge-3', 'stolen', ownerThumbprint);
    await registry.claim('edge-4', keyOf('edge-4'));
    await register.released('edge-4', ownerThumbprint);
    for (const when of ['at once', 'after a restart']) {
      assert.deepEqual(['edge-1', 'edge-2', 'edge-3', 'edge-4', 'edge-5'].map((name) => registry.register.admits(spkiOf(name))), ['edge-1', 'edge-2', undefined, undefined, undefined], when);
      await registry.reopen();
    }
    assert.deepEqual(registry.register.all(), [...registeredIn(registry.store)]);
    assert.equal(checkActs(readActs(registry.store), controllerKey.publicKey).broken, undefined);
  });

  it('gives a name and a key to one gateway each, with advice', async () => {
    const { register } = registry;
    await registry.claim('edge-1', keyOf('edge-1'));
    const taken = { code: 'controller.taken' };
    await assert.rejects(register.begin(candidateOf('edge-1', keyOf('another')), ownerThumbprint), taken);
    await assert.rejects(register.begin(candidateOf('edge-9', keyOf('edge-1')), ownerThumbprint), taken);
    await assert.rejects(register.begin(candidateOf('edge-1', keyOf('edge-1')), ownerThumbprint), taken, 'it is claimed already');
    await assert.rejects(register.begin(candidateOf('a.b', keyOf('edge-2')), ownerThumbprint), { code: 'controller.request' });
    await assert.rejects(register.claimed('edge-1', 'ffff', ownerThumbprint), { code: 'controller.unknown' });
    await assert.rejects(register.forget('edge-1', ownerThumbprint), taken);
    await register.revoke('edge-1', 'lost', ownerThumbprint);
    await assert.rejects(register.begin(candidateOf('edge-1', keyOf('edge-1')), ownerThumbprint), { code: 'controller.revoked' });
    await assert.rejects(register.released('edge-1', ownerThumbprint), { code: 'controller.revoked' });
    await assert.rejects(register.rotated('edge-1', ['another'], ownerThumbprint), { code: 'controller.revoked' });
    assert.equal(await register.forget('edge-1', ownerThumbprint), 'forgotten');
    await registry.claim('edge-1', keyOf('another'));
    assert.equal(register.admits(spkiOf('edge-1')), undefined);
    assert.deepEqual(registry.acted(), ['gateway.begun edge-1', 'gateway.claimed edge-1', 'gateway.revoked edge-1', 'gateway.forgotten edge-1', 'gateway.begun edge-1', 'gateway.claimed edge-1']);
  });

  it('lets a claim that did not come about go, and tries it again', async () => {
    const { register } = registry;
    const candidate = candidateOf('edge-1', keyOf('edge-1'));
    await register.begin(candidate, ownerThumbprint);
    await register.begin({ ...candidate, claimId: 'abcd' }, ownerThumbprint);
    await register.abandoned('edge-1', candidate.claimId, ownerThumbprint);
    assert.equal(register.get('edge-1')?.claimId, 'abcd', 'the older try ended, not this one');
    await register.abandoned('edge-1', 'abcd', ownerThumbprint);
    assert.deepEqual([register.get('edge-1'), register.admits(spkiOf('edge-1'))], [undefined, undefined]);
  });

  it('tells whoever watches of each change, so that a revoked gateway is cut off now', async () => {
    const told: string[] = [];
    const watching = registry.register.watch((name) => { told.push(`${name} ${registry.register.admits(spkiOf(name)) ?? 'out'}`); });
    await registry.claim('edge-1', keyOf('edge-1'));
    const revoking = registry.register.revoke('edge-1', 'stolen', ownerThumbprint);
    assert.equal(told.at(-1), 'edge-1 out', 'in force before it is on disk');
    await revoking;
    watching[Symbol.dispose]();
    await registry.register.forget('edge-1', ownerThumbprint);
    assert.deepEqual(told, ['edge-1 edge-1', 'edge-1 edge-1', 'edge-1 out']);
  });

  it('checks what a claim says of a gateway', async () => {
    const signingKey = Buffer.from(keyOf('edge-1')).toString('base64');
    const owner = Buffer.from(keyOf('an owner')).toString('base64');
    const good = { name: 'edge-1', claimId: 'ab12', signingKey, ownerKeys: [owner, owner], who: 'thumbprint' };
    for (const bad of [{ signingKey: 'AAAA' }, { signingKey: 7 }, { ownerKeys: [] }, { ownerKeys: ['AAAA'] }, { claimId: 'AB' }, { ak: 'ab'.repeat(32) }, { ak: 'xy', ek: 'xy' }, { statement: '' }, { name: 5 }, { who: 'w'.repeat(600) }]) {
      await assert.rejects(registry.call('gateways.begin', { ...good, ...bad }), { code: 'controller.request' }, JSON.stringify(bad));
    }
    await assert.rejects(registry.call('gateways.begin', { ...good, statement: 'AAAA' }), { code: 'enrolment.malformed' });
    const begun = await registry.call('gateways.begin', good);
    assert.deepEqual([begun['state'], begun['identityKey']], ['begun', toHex(sha256(keyOf('edge-1')))]);
    assert.equal((await registry.call('gateways.claimed', { name: 'edge-1', claimId: 'ab12' }))['state'], 'claimed');
    const { acts } = await registry.call('acts.list', { from: 1 }) as { readonly acts: readonly { readonly who: string; readonly what: string }[] };
    assert.deepEqual(acts.map(({ who, what }) => `${what} by ${who}`), ['gateway.claimed by socket']);
  });

  it('takes the chain of a claimed gateway, which has then arrived, and none of a stranger', async () => {
    const { chain, sealer } = softChain(2, 3);
    assert.equal(await refusalOf(registry.sendAll(chain)), 'controller.unclaimed');
    assert.equal(registry.counters.snapshot()['controller.unclaimed'], 1);
    const candidate = candidateOf('workshop', sealer.signer.publicKey);
    await registry.register.begin(candidate, ownerThumbprint);
    const answer = await registry.sendAll(chain);
    assert.deepEqual([answer.refusal, answer.nextBlock, registry.register.get('workshop')?.state, registry.register.get('workshop')?.chains], [undefined, 2, 'claimed', [idOf(chain)]]);
    const stranger = softChain(2, 3, sha256(Buffer.from('a stranger')));
    assert.equal(await refusalOf(registry.sendAll(stranger.chain)), 'controller.unclaimed', 'a name alone opens nothing');
    assert.equal(registry.chains.size, 1);
  });

  it('takes nothing of a revoked or released gateway, from that moment on', async () => {
    const { chain, sealer } = softChain(3, 2);
    await registry.claim('workshop', sealer.signer.publicKey);
    assert.equal(await refusalOf(registry.send(chain, [0, 2], [0, 1])), undefined);
    const revoking = registry.register.revoke('workshop', 'stolen', ownerThumbprint);
    const refused = await registry.send(chain, [2, 4], [1, 2]);
    await revoking;
    assert.deepEqual([refused.refusal?.code, refused.nextBlock], ['controller.revoked', 1]);
    assert.match(refused.refusal?.detail ?? '', /stolen/);
    await registry.reopen();
    assert.equal(await refusalOf(registry.send(chain, [2, 4], [1, 2])), 'controller.revoked');
    await registry.register.forget('workshop', ownerThumbprint);
    await registry.claim('workshop', sealer.signer.publicKey);
    assert.equal(await refusalOf(registry.send(chain, [2, 4], [1, 2])), undefined, 'claimed again, it goes on where it was');
    await registry.register.released('workshop', ownerThumbprint);
    assert.equal(await refusalOf(registry.send(chain, [4, 6], [2, 3])), 'controller.unclaimed');
  });

  const candidateSpki = (sealer: SoftSealer): Buffer => Buffer.from(candidateOf('workshop', sealer.signer.publicKey).spki, 'hex');

  it('takes another key only where the chain before it named that key', async () => {
    const { chain, sealer } = softChain(2, 3);
    const exchangeKey = Buffer.alloc(1_216, 5);
    const next = new MemoryChain();
    next.append(testReading(1));
    const nextSealer = new SoftSealer(next, sha256(Buffer.from('the next key')));
    nextSealer.seal({ identity: { signingKey: nextSealer.signer.publicKey, exchangeKey } });
    await registry.claim('workshop', sealer.signer.publicKey);
    await registry.sendAll(chain);
    assert.equal(await refusalOf(registry.sendAll(next)), 'controller.unclaimed');
    chain.append(successorEntry(sha256(nextSealer.signer.publicKey, exchangeKey)));
    assert.equal((await registry.send(chain, [6, 7], [2, 2])).next, 7);
    assert.equal(await refusalOf(registry.sendAll(next)), 'controller.unclaimed', 'no block covers that word yet');
    sealer.seal();
    assert.equal(await refusalOf(registry.send(chain, [7, 7], [2, 3])), undefined);
    assert.equal(await refusalOf(registry.sendAll(next)), undefined);
    const { identityKey, chains } = registry.register.get('workshop') ?? {};
    assert.deepEqual([identityKey, chains], [toHex(sha256(nextSealer.signer.publicKey)), [idOf(chain), idOf(next)]]);
    assert.deepEqual([registry.register.admits(candidateSpki(sealer)), registry.register.admits(candidateSpki(nextSealer))], [undefined, 'workshop']);
    assert.ok(registry.acted().includes('gateway.successor workshop'));
  });

  it('takes no key that another gateway has, or had, whoever names it as what follows', async () => {
    for (const [thief, victim] of [['workshop', 'edge-2'], ['garage', 'edge-3']] as const) {
      const { chain, sealer } = softChain(1, 2, sha256(Buffer.from(thief)), thief);
      const exchangeKey = Buffer.alloc(1_216, 5);
      const next = new MemoryChain();
      next.append(testReading(1));
      const nextSealer = new SoftSealer(next, sha256(Buffer.from(victim)), thief);
      nextSealer.seal({ identity: { signingKey: nextSealer.signer.publicKey, exchangeKey } });
      await registry.claim(thief, sealer.signer.publicKey);
      await registry.claim(victim, nextSealer.signer.publicKey);
      if (victim === 'edge-3') await registry.register.revoke(victim, 'stolen', ownerThumbprint);
      chain.append(successorEntry(sha256(nextSealer.signer.publicKey, exchangeKey)));
      sealer.seal();
      assert.equal(await refusalOf(registry.sendAll(chain, thief)), undefined);
      const { refusal } = await registry.sendAll(next, thief);
      assert.deepEqual([refusal?.code, refusal?.detail], ['controller.unclaimed', 'the key that follows is in the register as another gateway\'s']);
      assert.deepEqual([registry.register.get(thief)?.identityKey, registry.register.get(thief)?.chains, registry.register.get(victim)?.identityKey], [toHex(sha256(sealer.signer.publicKey)), [idOf(chain)], toHex(sha256(nextSealer.signer.publicKey))]);
    }
  });

  it('keeps what falls short of the policy and says so, judges again when the policy changes, and refuses where it says so', async () => {
    const { chain, sealer } = softChain(2, 2);
    await registry.claim('workshop', sealer.signer.publicKey);
    registry.policy = parsePolicy({ version: 1 });
    assert.equal(await refusalOf(registry.send(chain, [0, 2], [0, 1])), undefined);
    const standing = () => standingsIn(registry.store).get(idOf(chain));
    assert.deepEqual([standing()?.level, standing()?.meets, standing()?.findings.find(({ result }) => result === 'fail')?.check], ['software', false, 'trust.policy']);
    registry.policy = parsePolicy({ version: 1, accept: ['software'] });
    assert.equal(await registry.standings.renew(registry.chains, NEVER), 1);
    assert.equal(standing()?.meets, true);
    assert.equal(await registry.standings.renew(registry.chains, NEVER), 0);
    registry.policy = parsePolicy({ version: 1, shortfall: 'refuse' });
    const refused = await registry.send(chain, [2, 4], [1, 2]);
    assert.equal(refused.refusal?.code, 'controller.policy');
    assert.match(refused.refusal?.detail ?? '', /^trust\.policy/);
    await registry.reopen();
    await registry.standings.renew(registry.chains, NEVER);
    assert.equal(standing()?.meets, false);
    assert.equal(registry.acted().filter((act) => act.startsWith('policy.taken')).length, 2);
  });

  it('judges by the lease that the newest block names, wherever in the chain it stands', async () => {
    registry.policy = parsePolicy({ version: 1, accept: ['software'], lease: 'required', shortfall: 'refuse', verifiers: [toHex(sha256(testVerifier.publicKey))] });
    const { chain, sealer } = softChain(1, 2);
    await registry.claim('workshop', sealer.signer.publicKey);
    assert.match((await registry.sendAll(chain)).refusal?.detail ?? '', /^lease: .*requires a lease/);
    const named = recordLease(chain, signedLease(chain));
    sealer.seal(named);
    assert.equal(await refusalOf(registry.sendAll(chain)), undefined);
    chain.append(testReading(9));
    sealer.seal(named);
    await registry.reopen();
    assert.equal(await refusalOf(registry.send(chain, [3, 4], [2, 3])), undefined, 'the lease came with an earlier shipment');
    chain.append(testReading(10));
    sealer.seal();
    assert.equal(await refusalOf(registry.send(chain, [4, 5], [3, 4])), 'controller.policy');
  });

  it('holds 10,000 gateways without anybody noticing', async function () {
    this.timeout(60_000);
    using dir = tempDir('many');
    await using store = await openKeyValueStore(join(dir.path, 'store'), undefined, 'keep');
    const spkis = Array.from({ length: 10_000 }, (_, i) => sha256(Buffer.from(`spki ${i}`)));
    const silent: ActBook = { note: () => undefined, record: async () => undefined };
    const put = (from: number, to: number): Promise<void> => {
      for (const [i, spki] of spkis.entries()) {
        if (i < from || i >= to) continue;
        const gateway = { name: `edge-${i}`, claimId: 'ab', identityKey: toHex(sha256(Buffer.from(`key ${i}`))), spki: toHex(spki), statement: new Uint8Array(5_600), ownerKeys: [ownerThumbprint, ownerThumbprint], state: 'claimed' as const, sinceMicros: 1, why: '', chains: [] };
        assert.deepEqual(i > 2 ? gateway : decodeGateway(encodeGateway(gateway)), gateway);
        store.put(`gateway/edge-${i}`, encodeGateway(gateway));
      }
      return store.flushed();
    };
    const asking = (register: Register): number => {
      const from = performance.now();
      for (const spki of spkis.slice(0, 1_000)) register.admits(spki);
      return performance.now() - from;
    };
    await put(0, 1_000);
    const few = new Register(store, silent, systemClock);
    await put(1_000, 10_000);
    const writes: string[] = [];
    const many = new Register({ put: (key, value) => { writes.push(key); store.put(key, value); }, remove: (key) => { store.remove(key); }, range: (prefix) => store.range(prefix), flushed: () => store.flushed(), [Symbol.asyncDispose]: async () => undefined }, silent, systemClock);
    for (const [i, spki] of spkis.entries()) assert.equal(many.admits(spki), `edge-${i}`);
    const rounds = Array.from({ length: 20 }, () => [asking(few), asking(many)] as const); // whatever else the machine does: the best round of each counts
    const [ofFew, ofMany] = [Math.min(...rounds.map(([first]) => first)), Math.min(...rounds.map(([, second]) => second))];
    assert.ok(ofMany < ofFew * 5, `1,000 questions: ${ofFew} ms among 1,000 gateways, ${ofMany} ms among 10,000`);
    await many.revoke('edge-5000', 'one of many', ownerThumbprint);
    assert.deepEqual(writes, ['gateway/edge-5000']);
  });
});
