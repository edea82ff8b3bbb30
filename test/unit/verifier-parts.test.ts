import assert from 'node:assert/strict';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { openKeyValueStore } from '#runtime/ledger/kv.ts';
import { VerifierMemory } from '#runtime/verifier/memory.ts';
import { Nonces } from '#runtime/verifier/nonces.ts';
import { Rates } from '#runtime/verifier/rates.ts';
import { tempDir } from '#test/support/temp.ts';

const RATE = { burst: 5, refillMs: 2_000 };

class HandClock implements Clock {
  micros = 0;
  wallMicros(): number { return this.micros; }
  monoMicros(): number { return this.micros; }
}
const refuses = (work: () => unknown, code: string): TenzroError => {
  try {
    work();
  } catch (error) {
    if (error instanceof TenzroError && error.code === code) return error;
    throw error;
  }
  return assert.fail(`not refused with ${code}`);
};

describe('verifier: nonces', () => {
  it('serve once, for their client, within their time', () => {
    const clock = new HandClock();
    const nonces = new Nonces(clock);
    const [first, second] = [nonces.issue('a'), nonces.issue('a')];
    refuses(() => { nonces.redeem(first, 'b'); }, 'verifier.nonce');
    nonces.redeem(first, 'a');
    refuses(() => { nonces.redeem(first, 'a'); }, 'verifier.nonce');
    refuses(() => { nonces.redeem(Buffer.alloc(32), 'a'); }, 'verifier.nonce');
    clock.micros = LIMITS.nonceLifetimeMs * 1_000;
    refuses(() => { nonces.redeem(second, 'a'); }, 'verifier.nonce');
    assert.equal(nonces.open, 0);
  });

  it('are bounded per client and in all, and say when to come again', () => {
    const clock = new HandClock();
    const nonces = new Nonces(clock);
    for (let i = 0; i < LIMITS.noncesPerClientMax; i++) nonces.issue('a');
    clock.micros = 1_000_000;
    assert.equal(refuses(() => nonces.issue('a'), 'verifier.busy').retryAfterMs, LIMITS.nonceLifetimeMs - 1_000);
    for (let i = nonces.open; i < LIMITS.noncesOpenMax; i++) nonces.issue(`client ${i}`);
    refuses(() => nonces.issue('another'), 'verifier.busy');
    clock.micros = LIMITS.nonceLifetimeMs * 1_000;
    assert.doesNotThrow(() => nonces.issue('a'), 'the first ones made place');
  });
});

describe('verifier: rates', () => {
  it('let a burst through, then one per interval, each name by itself', () => {
    const clock = new HandClock();
    const rates = new Rates(clock, RATE);
    for (let i = 0; i < RATE.burst; i++) rates.take('a');
    assert.equal(refuses(() => { rates.take('a'); }, 'verifier.busy').retryAfterMs, RATE.refillMs);
    rates.take('b');
    clock.micros = RATE.refillMs * 1_000;
    rates.take('a');
    refuses(() => { rates.take('a'); }, 'verifier.busy');
  });

  it('hold no more names than they may', () => {
    const rates = new Rates(new HandClock(), RATE);
    for (let i = 0; i < RATE.burst; i++) rates.take('a');
    for (let i = 0; i < LIMITS.verifierClientsMax; i++) rates.take(`stranger ${i}`);
    assert.doesNotThrow(() => { rates.take('a'); }, 'the one that was quiet longest was forgotten');
  });
});

describe('verifier: memory', () => {
  const chainId = Buffer.alloc(32, 1);
  const deviceKey = Buffer.alloc(32, 2);
  const memory = { device: 'motor', identity: new Uint8Array(32).fill(3), sequence: 9, blockHash: new Uint8Array(32), treeSize: 40, root: new Uint8Array(32), bootEpoch: 2, seenMicros: 5, tpm: { resetCount: 1, restartCount: 0, clock: 77, counter: 6 } };

  it('is there again after it was closed, and forgets on an operator\'s word only', async () => {
    using dir = tempDir('verifier');
    {
      await using store = await openKeyValueStore(dir.path);
      await new VerifierMemory(store).rememberChain(chainId, deviceKey, memory);
    }
    await using store = await openKeyValueStore(dir.path);
    const again = new VerifierMemory(store);
    assert.deepEqual([again.chains, again.chain(chainId)?.tpm?.counter, again.chain(chainId)?.sequence], [1, 6, 9]);
    assert.ok(again.identity(deviceKey));
    assert.equal(again.chain(deviceKey), undefined);
    assert.equal(await again.forget(deviceKey), false);
    assert.equal(await again.forget(chainId), true);
    assert.deepEqual([again.chains, again.chain(chainId), again.identity(deviceKey)], [0, undefined, undefined]);
  });

  it('has room for so many chains and devices, also after a restart, and for those that it knows', async () => {
    using dir = tempDir('verifier');
    const most = { chains: 1, devices: 2 };
    const key = (number: number): Buffer => Buffer.alloc(32, number);
    {
      await using store = await openKeyValueStore(dir.path);
      const full = new VerifierMemory(store, most);
      await full.rememberChain(chainId, deviceKey, memory);
      await full.rememberDevice(key(3), memory.identity);
      await assert.rejects(full.rememberDevice(key(4), memory.identity), { code: 'verifier.busy' });
      await assert.rejects(full.rememberChain(key(5), deviceKey, memory), { code: 'verifier.busy' });
    }
    await using store = await openKeyValueStore(dir.path);
    const again = new VerifierMemory(store, most);
    await assert.rejects(again.rememberDevice(key(4), memory.identity), { code: 'verifier.busy' });
    await again.rememberDevice(key(3), memory.identity);
    assert.equal(await again.forget(chainId), true);
    await again.rememberDevice(key(4), memory.identity);
  });
});
