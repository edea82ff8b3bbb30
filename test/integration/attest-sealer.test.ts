/** The sealer where the TPM is missing, fails, is another one, or refuses the counter; and where the ledger fails. The chain goes on and says what happened. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { openAnchor } from '#drivers/tpm2/anchor.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { socketTransport } from '#drivers/tpm2/transport.ts';
import { Sealer, type SealerOptions } from '#runtime/attest/sealer.ts';
import { toHex } from '#runtime/core/bytes.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Anchor } from '#runtime/core/ports.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { blockHash, decodeBlock, foldPcr } from '#runtime/ledger/block.ts';
import { decodeEvidence } from '#runtime/ledger/evidence.ts';
import { buildProof } from '#runtime/ledger/proofBuilder.ts';
import { parsePolicy } from '#runtime/verify/policy.ts';
import { verifyBundle } from '#runtime/verify/verifier.ts';
import { MemoryChain, testReading } from '#test/support/memoryChain.ts';
import { NEVER, sealerOptions } from '#test/support/sealHarness.ts';
import { temporaryTpm, transportTo, type TemporaryTpm } from '#test/support/swtpm.ts';
import { tpmProxy, type TpmProxy } from '#test/support/tpmProxy.ts';

const SEED = randomBytes(32);
const ANY = parsePolicy({ version: 1, accept: ['emulated', 'software'] });

/** Time that only the test moves. */
class HandClock implements Clock {
  micros = 1_795_392_000_000_000;
  wallMicros(): number { return this.micros; }
  monoMicros(): number { return this.micros; }
  pass(ms: number): void { this.micros += ms * 1_000; }
}

describe('attest: the sealer', function () {
  this.timeout(20_000);
  let emulator: TemporaryTpm;
  let proxy: TpmProxy;
  let tpm: Tpm;
  let chain: MemoryChain;
  let clock: HandClock;
  before(async function () { emulator = await temporaryTpm(this); });
  after(async () => { await emulator?.[Symbol.asyncDispose](); });
  beforeEach(async () => {
    proxy = await tpmProxy(emulator.address);
    tpm = new Tpm(socketTransport(proxy.address), { timeoutMs: 200 });
    chain = new MemoryChain();
    clock = new HandClock();
  });
  afterEach(async () => {
    await tpm[Symbol.asyncDispose]();
    await proxy[Symbol.asyncDispose]();
  });

  const withTpm = (wrap: (anchor: Anchor) => Anchor = (anchor) => anchor): Partial<SealerOptions> => ({ clock, openAnchor: { kind: 'value', value: async (signal) => wrap(await openAnchor(tpm, signal)) } });
  function open(wanted: Partial<SealerOptions>): ReturnType<typeof sealerOptions> & { seal: (counter?: boolean) => ReturnType<Sealer['seal']> } {
    const options = sealerOptions(chain, SEED, wanted);
    const sealer = new Sealer(options);
    return { ...options, seal: (counter = false) => { chain.append(testReading(chain.entries.length)); return sealer.seal({ counter }, NEVER); } };
  }
  const payload = (sequence: number): ReturnType<typeof decodeBlock> => decodeBlock(chain.block(sequence).payload);
  const verify = (index: number): string => verifyBundle(buildProof(chain, index), ANY).outcome;
  const pcr14 = async (): Promise<Uint8Array> => (await tpm.pcr.read([14], NEVER))[0]?.[1] ?? assert.fail('no PCR 14');

  it('makes a genesis that names the keys, then blocks; counters at the first, when wanted, and when due', async () => {
    const { seal, infos } = open(withTpm());
    await seal();
    await seal();
    await seal(true);
    clock.pass(600_000);
    await seal();
    assert.deepEqual(infos.map(({ evidence }) => evidence.kind === 'value' && evidence.value.counter), [true, false, false, true, true]);
    const { identity, treeSize, root } = payload(0);
    assert.equal(treeSize, 0);
    assert.equal(toHex(root), toHex(sha256(Buffer.alloc(0))));
    assert.ok(identity?.akPublic && identity.ekPublic);
    assert.equal(verify(3), 'verified');
  });

  it('without a TPM says why, in every block', async () => {
    const { seal, counters } = open({ openAnchor: { kind: 'none', reason: 'none was found' } });
    await seal();
    assert.deepEqual(decodeEvidence(chain.block(1).evidence), { kind: 'none', reason: 'none was found' });
    assert.equal(payload(0).identity?.akPublic, undefined);
    assert.deepEqual(counters.snapshot(), {});
    assert.equal(verify(0), 'verified');
  });

  it('a chain that began without a TPM does not take one up later', async () => {
    await open({ openAnchor: { kind: 'none', reason: 'none was found' } }).seal();
    const { evidence } = await open(withTpm()).seal();
    assert.ok(evidence.kind === 'none' && evidence.reason.startsWith('attest.foreign_tpm: the chain began without a TPM'));
  });

  it('a TPM that fails at any command of a block costs that block its evidence and nothing else; the next one states where it starts', async () => {
    const { seal, infos, counters } = open(withTpm());
    await seal();
    const commandsOfBlock = proxy.passed();
    await seal();
    const perBlock = proxy.passed() - commandsOfBlock;
    for (let command = 0; command < perBlock; command += 1) {
      proxy.faults.push(...Array.from({ length: command }, () => ({ kind: 'alter', alter: (bytes: Buffer) => bytes }) as const), { kind: 'disconnect' });
      const failed = await seal();
      assert.ok(failed.evidence.kind === 'none' && failed.evidence.reason.startsWith('tpm.connection'), `command ${command}`);
      clock.pass(LIMITS.anchorRetryDelayMaxMs);
      const back = await seal();
      assert.equal(back.evidence.kind, 'value');
      const { pcrStart } = payload(back.sequence);
      assert.equal(toHex(foldPcr(pcrStart ?? Buffer.alloc(0), back.hash)), toHex(await pcr14()));
    }
    assert.ok(perBlock >= 5, `${perBlock} commands`);
    assert.equal(counters.snapshot()['attest.error.tpm.connection'], perBlock);
    for (let index = 0; index < chain.entries.length; index += 1) assert.equal(verify(index), 'verified', `entry ${index}`);
    assert.equal(infos.length, 3 + 2 * perBlock);
  });

  it('asks a TPM that failed again only after a growing wait', async () => {
    const { seal } = open(withTpm());
    await seal();
    proxy.faults.push({ kind: 'disconnect' });
    await seal();
    const asked = proxy.passed();
    await seal();
    assert.equal(proxy.passed(), asked, 'not yet');
    clock.pass(LIMITS.anchorRetryDelayMs);
    proxy.faults.push({ kind: 'disconnect' });
    await seal();
    clock.pass(LIMITS.anchorRetryDelayMs);
    assert.equal((await seal()).evidence.kind, 'none', 'twice as long now');
    clock.pass(LIMITS.anchorRetryDelayMs);
    assert.equal((await seal()).evidence.kind, 'value');
  });

  it('does not wait for a TPM that hangs once it is told to hurry', async () => {
    const options = sealerOptions(chain, SEED, withTpm());
    const sealer = new Sealer(options);
    await sealer.seal({}, NEVER);
    proxy.faults.push({ kind: 'silence' });
    const hurry = new AbortController();
    const sealing = sealer.seal({}, hurry.signal);
    hurry.abort();
    const { evidence } = await sealing;
    assert.ok(evidence.kind === 'none' && evidence.reason.startsWith('tpm.timeout'));
  });

  it('another TPM than the genesis names gives no evidence', async function () {
    await open(withTpm()).seal();
    await using other = await temporaryTpm(this, { own: true });
    await using otherTpm = new Tpm(transportTo(other.address));
    const { seal, counters } = open({ clock, openAnchor: { kind: 'value', value: (signal) => openAnchor(otherTpm, signal) } });
    const { evidence } = await seal();
    assert.ok(evidence.kind === 'none' && evidence.reason.startsWith('attest.foreign_tpm'));
    assert.equal(counters.snapshot()['attest.error.attest.foreign_tpm'], 1);
  });

  it('another signing key than the genesis names is refused', async () => {
    await open(withTpm()).seal();
    const sealer = new Sealer(sealerOptions(chain, randomBytes(32), withTpm()));
    await assert.rejects(sealer.seal({}, NEVER), { code: 'attest.foreign_key' });
  });

  it('a counter that the TPM refuses costs the counter only, and is asked for again when next due', async () => {
    let asked = 0;
    const { seal, infos, counters } = open(withTpm((anchor) => ({
      akPublic: anchor.akPublic,
      endorsement: (signal) => anchor.endorsement(signal), pcr14: (signal) => anchor.pcr14(signal), extend: (digest, signal) => anchor.extend(digest, signal), quote: (digest, signal) => anchor.quote(digest, signal), increment: (signal) => anchor.increment(signal), look: (signal) => anchor.look(signal),
      counter: () => { asked += 1; return Promise.reject(new TenzroError('tpm.refused', 'no NV space')); },
    })));
    await seal();
    await seal();
    clock.pass(600_000);
    await seal();
    assert.ok(infos.every(({ evidence }) => evidence.kind === 'value' && !evidence.value.counter));
    assert.equal(asked, 2);
    assert.equal(counters.snapshot()['attest.error.tpm.refused'], 2);
  });

  it('another program that extends PCR 14 in the middle of a block makes it begin anew, and gives up when that does not end', async () => {
    let meddling = 1;
    const { seal } = open(withTpm((anchor) => ({
      akPublic: anchor.akPublic,
      endorsement: (signal) => anchor.endorsement(signal), pcr14: (signal) => anchor.pcr14(signal), counter: (digest, signal) => anchor.counter(digest, signal), quote: (digest, signal) => anchor.quote(digest, signal), increment: (signal) => anchor.increment(signal), look: (signal) => anchor.look(signal),
      extend: async (digest, signal) => {
        await anchor.extend(digest, signal);
        meddling -= 1;
        if (meddling >= 0) await anchor.extend(sha256(digest), signal);
      },
    })));
    assert.equal((await seal()).evidence.kind, 'value');
    meddling = 3;
    const { evidence } = await seal();
    assert.ok(evidence.kind === 'none' && evidence.reason.startsWith('tpm.busy'));
    assert.equal(verify(1), 'verified');
  });

  it('a ledger that fails at the end rejects, and the next call ends the block that was begun', async () => {
    const { seal, infos } = open(withTpm());
    await seal();
    const commit = chain.commitBlock.bind(chain);
    chain.commitBlock = () => Promise.reject(new TenzroError('ledger.disk_full', 'no space'));
    await assert.rejects(seal(), { code: 'ledger.disk_full' });
    chain.commitBlock = commit;
    await seal();
    assert.deepEqual(infos.slice(-2).map(({ sequence, resumed }) => [sequence, resumed]), [[2, true], [3, false]]);
    assert.equal(payload(2).pcrStart, undefined);
    assert.equal(verify(2), 'verified');
    assert.equal(toHex(chain.blocks.at(-1)?.pcrAfter ?? Buffer.alloc(0)), toHex(await pcr14()));
    assert.equal(toHex(blockHash(chain.block(2).payload)), toHex(payload(3).previous));
  });

  it('a clock before 1970 does not stop it', async () => {
    clock.micros = -1;
    await open(withTpm()).seal();
    assert.equal(payload(1).wallMicros, 0);
  });
});
