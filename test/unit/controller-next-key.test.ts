import assert from 'node:assert/strict';
import { toHex } from '#runtime/core/bytes.ts';
import { EPOCH_BODY, KIND } from '#runtime/core/types.ts';
import { readActs } from '#runtime/controller/acts.ts';
import { decodeAct } from '#runtime/controller/actsCodec.ts';
import { decodeGateway, encodeGateway } from '#runtime/controller/registerCodec.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { spkiOfMlDsa65 } from '#runtime/crypto/mldsa.ts';
import { encodeEntry } from '#runtime/ledger/entry.ts';
import { ownerThumbprint, TestRegistry } from '#test/support/fleetRegister.ts';
import { MemoryChain, softChain, SoftSealer, testReading } from '#test/support/memoryChain.ts';

const EXCHANGE_KEY = Buffer.alloc(1_216, 5);

/** A gateway's chain, and the one that follows it under another key. */
function rotating(name: string) {
  const { chain, sealer } = softChain(1, 2, sha256(Buffer.from(name)), name);
  const next = new MemoryChain();
  next.append(testReading(1));
  const nextSealer = new SoftSealer(next, sha256(Buffer.from(`${name}, later`)), name);
  nextSealer.seal({ identity: { signingKey: nextSealer.signer.publicKey, exchangeKey: EXCHANGE_KEY } });
  return { name, chain, sealer, next, key: nextSealer.signer.publicKey, spki: sha256(spkiOfMlDsa65(nextSealer.signer.publicKey)) };
}

const announcing = (key: Uint8Array, tls: Uint8Array): Buffer => encodeEntry({
  kind: KIND.epoch, source: 'device/main//', wallMicros: 0, bootEpoch: 1, monoMicros: 0,
  body: new Map<number, string | Uint8Array>([[EPOCH_BODY.code, 'identity.rotated'], [EPOCH_BODY.detail, ''], [EPOCH_BODY.successor, sha256(key, EXCHANGE_KEY)], [EPOCH_BODY.successorTls, tls]]),
});

describe('controller: the key that comes next', () => {
  let registry: TestRegistry;
  beforeEach(async () => { registry = await TestRegistry.open(); });
  afterEach(async () => { await registry[Symbol.asyncDispose](); });

  const claimed = async (name: string): Promise<ReturnType<typeof rotating>> => {
    const gateway = rotating(name);
    await registry.claim(name, gateway.sealer.signer.publicKey);
    await registry.sendAll(gateway.chain, name);
    return gateway;
  };
  const announce = async ({ name, chain, sealer, key }: ReturnType<typeof rotating>, tls: Uint8Array): Promise<void> => {
    chain.append(announcing(key, tls));
    sealer.seal();
    assert.equal((await registry.sendAll(chain, name)).refusal, undefined);
  };
  const spkiOf = ({ sealer }: ReturnType<typeof rotating>): Buffer => sha256(spkiOfMlDsa65(sealer.signer.publicKey));

  it('is let in beside the one of now once a block covers its announcement, after a restart too, and alone when its chain is there', async () => {
    const gateway = await claimed('edge-1');
    const admitted = (): readonly (string | undefined)[] => [spkiOf(gateway), gateway.spki].map((spki) => registry.register.admits(spki));
    gateway.chain.append(announcing(gateway.key, gateway.spki));
    await registry.send(gateway.chain, [2, 3], [1, 1], 'edge-1');
    assert.deepEqual(admitted(), ['edge-1', undefined], 'no block covers it');
    gateway.sealer.seal();
    await registry.send(gateway.chain, [3, 3], [1, 2], 'edge-1');
    for (const when of ['at once', 'after a restart']) {
      assert.deepEqual(admitted(), ['edge-1', 'edge-1'], when);
      await registry.reopen();
    }
    assert.equal((await registry.sendAll(gateway.next, 'edge-1')).refusal, undefined);
    assert.deepEqual([admitted(), registry.register.get('edge-1')?.next], [[undefined, 'edge-1'], undefined]);
    const acts = readActs(registry.store).map((cose) => decodeAct(cose).what).toArray();
    assert.deepEqual(acts.filter((what) => /announced|successor/.test(what)), ['gateway.announced', 'gateway.successor']);
  });

  it('is nothing that another gateway has or announced, and gives way to who is claimed with it', async () => {
    const [one, two] = [await claimed('edge-1'), await claimed('edge-2')];
    await announce(two, spkiOf(one));
    assert.deepEqual([registry.register.admits(spkiOf(one)), registry.register.get('edge-2')?.next], ['edge-1', undefined]);
    await announce(one, one.spki);
    await announce(two, one.spki);
    assert.equal(registry.register.admits(one.spki), 'edge-1');
    const three = rotating('edge-3');
    await announce(two, spkiOf(three));
    assert.equal(registry.register.admits(spkiOf(three)), 'edge-2');
    await registry.claim('edge-3', three.sealer.signer.publicKey);
    assert.equal(registry.register.admits(spkiOf(three)), 'edge-3');
  });

  it('is the newest that was announced, and goes with its gateway', async () => {
    const gateway = await claimed('edge-1');
    const first = sha256(Buffer.from('of a change that did not come about'));
    await announce(gateway, first);
    await announce(gateway, gateway.spki);
    await announce(gateway, Buffer.alloc(31));
    assert.deepEqual([first, gateway.spki].map((spki) => registry.register.admits(spki)), [undefined, 'edge-1']);
    await registry.register.revoke('edge-1', 'stolen', ownerThumbprint);
    assert.equal(registry.register.admits(gateway.spki), undefined);
    await registry.register.forget('edge-1', ownerThumbprint);
    await registry.claim('edge-1', gateway.sealer.signer.publicKey);
    assert.equal(registry.register.admits(gateway.spki), undefined, 'what was announced before is forgotten');
  });

  it('is not in records of before, which are read as they are', async () => {
    const { spki } = await claimed('edge-1');
    const gateway = registry.register.get('edge-1') ?? assert.fail('not there');
    const fields = decodeCbor(encodeGateway(gateway));
    assert.ok(Array.isArray(fields));
    assert.deepEqual(decodeGateway(encodeCbor(fields.slice(0, -1))), gateway);
    assert.deepEqual(decodeGateway(encodeGateway({ ...gateway, next: toHex(spki) })), { ...gateway, next: toHex(spki) });
  });
});
