/**
 * Attacks on the past: whoever holds the disk (and, where the test says so, root on the running machine) cuts blocks or restores an older state. Each name says
 * what stops it, or that nothing here does; the test asserts exactly that. Table: docs/security.md.
 */
import assert from 'node:assert/strict';
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { openAnchor } from '#drivers/tpm2/anchor.ts';
import { permanent } from '#drivers/tpm2/command.ts';
import { COUNTER_INDEX, HANDLE } from '#drivers/tpm2/constants.ts';
import { swtpmTransport } from '#drivers/tpm2/swtpm.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import type { BlockInfo, SealFinding } from '#runtime/attest/sealer.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { KIND } from '#runtime/core/types.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { NV_ATTRIBUTE } from '#runtime/crypto/tpmEvidence.ts';
import { blockHash, decodeBlock, encodeBlock, ZERO_HASH } from '#runtime/ledger/block.ts';
import { decodeEntry } from '#runtime/ledger/entry.ts';
import { decodeEvidence } from '#runtime/ledger/evidence.ts';
import { decodePending, encodePending } from '#runtime/ledger/pending.ts';
import { buildHeadProof } from '#runtime/ledger/proofBuilder.ts';
import { blockStoreOf, openReader } from '#runtime/ledger/reader.ts';
import type { LiveReport } from '#runtime/verify/live.ts';
import type { Report } from '#runtime/verify/report.ts';
import { verifyBundle } from '#runtime/verify/verifier.ts';
import { draft, startLedger } from '#test/support/ledger.ts';
import { EMULATED, proofOf, seal, Victim } from '#test/support/rollback.ts';
import { NEVER, type Sealing } from '#test/support/sealHarness.ts';
import { temporaryTpm, type TemporaryTpm } from '#test/support/swtpm.ts';
import { requirePeer } from '#test/support/peers.ts';
import { tempDir } from '#test/support/temp.ts';

const kinds = (findings: readonly SealFinding[]): readonly string[] => findings.map((finding) => (finding.kind === 'increments' ? `${finding.count} increments` : 'extensions'));
const checkOf = (report: Report | LiveReport, code: string): { readonly result: string; readonly detail: string } => report.checks.find((check) => check.code === code) ?? assert.fail(code);
const lastPayload = ({ reader }: Sealing): ReturnType<typeof decodeBlock> => decodeBlock(reader.lastBlock()?.payload ?? assert.fail('no block'));

async function payloadsIn(dataDir: string): Promise<readonly Uint8Array[]> {
  await using reader = await openReader(dataDir);
  return Array.from({ length: reader.blockCount() }, (_, sequence) => reader.block(sequence).payload);
}

describe('attack: rollback and truncation', function () {
  this.timeout(30_000);
  let tpm: TemporaryTpm;
  let victim: Victim;
  before(async function () { tpm = await temporaryTpm(this); });
  after(async () => { await tpm?.[Symbol.asyncDispose](); });
  beforeEach(async () => { victim = new Victim(tpm); await tpm.restart(); });
  afterEach(() => { victim?.[Symbol.dispose](); });

  /** Blocks 0 (anchor) and 1, an image, then `more`: what the image lacks. Resolves with the image and a proof of the last block that it lacks. */
  async function loseAfterImage(more: (sealing: Sealing) => Promise<BlockInfo>): Promise<{ readonly image: string; readonly lost: Uint8Array; readonly sequence: number }> {
    return victim.run(async (sealing) => {
      await seal(sealing);
      const image = victim.image();
      const info = await more(sealing);
      return { image, lost: proofOf(sealing, info), sequence: info.sequence };
    });
  }

  it('nothing was done: neither fsck nor the next block nor a live verification says anything', async () => {
    const { lost: held, sequence } = await loseAfterImage((sealing) => seal(sealing, { counter: true }));
    assert.deepEqual([(await victim.fsck()).ok, (await victim.fsck()).live?.ok], [true, true]);
    const report = await victim.verifyLive(held, sequence);
    assert.deepEqual([report.outcome, checkOf(report, 'tail').result], ['verified', 'pass'], checkOf(report, 'tail').detail);
    assert.equal((await victim.fsck()).tail?.missing, '0');
  });

  it('tail cut within a boot: PCR 14 stops it, in fsck, in the next block, and live', async () => {
    const { image, lost, sequence } = await loseAfterImage(async (sealing) => { await seal(sealing); return seal(sealing); });
    victim.restore(image);
    const { ok, live } = await victim.fsck();
    assert.equal(ok, false);
    assert.match(live?.findings.join('\n') ?? '', /nothing anchored is missing[^]*PCR 14 has moved beyond the last block/);
    const { findings } = await victim.run((sealing) => seal(sealing));
    assert.deepEqual(kinds(findings), ['extensions']);
    const after = await victim.fsck();
    assert.deepEqual([after.ok, after.tail?.moves.length], [false, 1], 'the chain accuses itself from here on');
    const report = await victim.verifyLive(lost, sequence);
    assert.equal(report.outcome, 'refuted');
    assert.match(checkOf(report, 'tail').detail, /is not that of the file|its tail was cut/);
  });

  it('tail cut across boots, an anchor in it: the NV counter stops it, in fsck, in the next block, in proofs, and live', async () => {
    const { image, lost, sequence } = await loseAfterImage((sealing) => seal(sealing, { counter: true }));
    await tpm.restart({ hard: true });
    victim.restore(image);
    const { ok, live } = await victim.fsck();
    assert.equal(ok, false);
    assert.match(live?.findings.join('\n') ?? '', /1 increments since block 0 are not in the chain[^]*the TPM was reset/);
    const file = await victim.run(async (sealing) => {
      const info = await seal(sealing);
      assert.deepEqual(kinds(info.findings), ['1 increments']);
      await seal(sealing);
      assert.equal(lastPayload(sealing).anchor?.missing, 1n, 'every later block repeats it');
      return proofOf(sealing, info);
    });
    const report = verifyBundle(file, EMULATED);
    assert.equal(report.outcome, 'verified', 'what was recorded since is as true as before');
    assert.deepEqual([checkOf(report, 'counter.continuous').result, checkOf(report, 'counter.continuous').detail.startsWith('1 increments')], ['unknown', true]);
    assert.deepEqual((await victim.fsck()).tail?.gaps.map(({ missing }) => missing), ['1']);
    assert.equal((await victim.verifyLive(lost, sequence)).outcome, 'refuted');
  });

  it('blocks after the last anchor cut, and the TPM reset: nothing on the machine shows it; fsck says where it could have been, and who holds a proof sees it live', async () => {
    const { image, lost, sequence } = await loseAfterImage((sealing) => seal(sealing));
    await tpm.restart({ hard: true });
    victim.restore(image);
    assert.deepEqual([(await victim.fsck()).ok, (await victim.fsck()).live?.ok], [true, true]);
    const { findings } = await victim.run((sealing) => seal(sealing));
    assert.deepEqual(findings, []);
    const { ok, tail } = await victim.fsck();
    assert.deepEqual([ok, tail?.openEnds], [true, [1]], 'block 1 ended a boot, and not in order');
    assert.equal((await victim.verifyLive(lost, sequence)).outcome, 'refuted');
  });

  it('an old disk image, three boots back: the NV counter counts every boot since', async () => {
    await victim.run((sealing) => seal(sealing));
    const image = victim.image();
    for (let boot = 0; boot < 3; boot++) {
      await tpm.restart();
      await victim.run((sealing) => seal(sealing));
    }
    await tpm.restart();
    victim.restore(image);
    assert.match((await victim.fsck()).live?.findings[0] ?? '', /3 increments since block 0/);
    assert.deepEqual(kinds((await victim.run((sealing) => seal(sealing))).findings), ['3 increments']);
  });

  describe('restored one anchor back, with a pending record', () => {
    it('forged, with the start value that PCR 14 has after a reset: it is not sealed, for the TPM has never heard of it', async () => {
      const { image } = await loseAfterImage((sealing) => seal(sealing, { counter: true }));
      await tpm.restart({ hard: true });
      victim.restore(image);
      const lie = sha256(Buffer.from('other software'));
      {
        await using ledger = await startLedger(victim.dataDir);
        const last = (await payloadsIn(victim.dataDir)).at(-1) ?? assert.fail('no block');
        await ledger.writePending(encodePending(encodeBlock({ ...decodeBlock(last), sequence: 2, previous: blockHash(last), pcrStart: ZERO_HASH, softwareDigest: lie })));
      }
      await victim.run(async (sealing) => {
        assert.deepEqual(kinds((await seal(sealing)).findings), ['1 increments']);
        assert.ok(sealing.infos.every(({ resumed }) => !resumed));
      });
      assert.ok((await payloadsIn(victim.dataDir)).every((payload) => !lie.equals(decodeBlock(payload).softwareDigest)));
    });

    it('forged, beside the TPM\'s words on another block: it is not sealed, for they are not about it', async () => {
      await victim.run(async (sealing) => {
        await seal(sealing);
        const last = sealing.reader.lastBlock() ?? assert.fail('no block');
        const genesis = decodeEvidence(sealing.reader.block(0).evidence);
        const block = { ...decodeBlock(last.payload), sequence: last.sequence + 1, previous: blockHash(last.payload) };
        await sealing.ledger.writePending(encodePending(encodeBlock(block), genesis));
      });
      await tpm.restart();
      await victim.run(async (sealing) => {
        assert.deepEqual((await seal(sealing)).findings, []);
        assert.ok(sealing.infos.every(({ resumed }) => !resumed));
      });
    });

    it('genuine, with PCR values altered beside its quote: the quote does not cover them, and the TPM is asked again', async () => {
      let image = '';
      await victim.run(async (sealing) => { await seal(sealing); await seal(sealing, { counter: true }); }, {
        onStep: (step, edge) => { if (step === 'increment' && edge === 'after') image = victim.image(); },
      });
      victim.restore(image);
      {
        await using ledger = await startLedger(victim.dataDir);
        await using reader = await openReader(victim.dataDir);
        const { payload, evidence } = decodePending(await blockStoreOf(ledger, reader).readPending() ?? assert.fail('nothing is pending'));
        assert.ok(evidence?.kind === 'tpm2');
        const pcrs = evidence.pcrs.map(([index, value]) => [index, index === 7 ? sha256(value) : value] as const);
        await ledger.writePending(encodePending(payload, { ...evidence, pcrs }));
      }
      await victim.run(async (sealing) => {
        await seal(sealing);
        assert.deepEqual(sealing.infos.map(({ sequence, resumed }) => [sequence, resumed]), [[2, true], [3, false]]);
        for (const info of sealing.infos) assert.equal(verifyBundle(buildHeadProof(sealing.reader, info.sequence), EMULATED).outcome, 'verified');
      });
    });

    it('genuine, of the anchor that was cut: that very block comes back, and what came after it is missed by PCR 14', async () => {
      let image = '';
      await victim.run(async (sealing) => { await seal(sealing); await seal(sealing, { counter: true }); await seal(sealing); }, {
        onStep: (step, edge) => { if (step === 'increment' && edge === 'after') image = victim.image(); },
      });
      victim.restore(image);
      await victim.run(async (sealing) => {
        await seal(sealing);
        assert.deepEqual(sealing.infos.map(({ sequence, resumed, findings }) => [sequence, resumed, kinds(findings)]), [[2, true, []], [3, false, ['extensions']]]);
      });
      assert.equal((await victim.fsck()).tail?.missing, '0');
    });
  });

  describe('the NV index deleted', () => {
    const remove = async (meddled: Tpm): Promise<void> => { await meddled.nv.undefine(await meddled.nv.readPublic(COUNTER_INDEX, NEVER), permanent(HANDLE.owner), NEVER); };

    it('and defined anew alike: a counter begins above every deleted one, so that the chain misses an increment', async () => {
      await victim.run((sealing) => seal(sealing));
      await victim.meddle(remove);
      assert.match((await victim.fsck()).live?.findings[0] ?? '', /it was deleted/);
      await victim.run(async (sealing) => {
        assert.deepEqual(kinds((await seal(sealing, { counter: true })).findings), ['1 increments']);
      });
      assert.equal((await victim.fsck()).ok, false);
    });

    it('and defined anew with other attributes: its name tells; blocks go on without a counter and say why', async () => {
      const { lost: held } = await loseAfterImage((sealing) => seal(sealing));
      await victim.meddle(async (meddled) => {
        await remove(meddled);
        const { ownerWrite, authWrite, ownerRead, authRead, noDa, orderly } = NV_ATTRIBUTE;
        const other = await meddled.nv.define({ index: COUNTER_INDEX, type: 'counter', attributes: ownerWrite | authWrite | ownerRead | authRead | noDa | orderly }, permanent(HANDLE.owner), NEVER);
        await meddled.nv.increment(other, NEVER);
      });
      const { live } = await victim.fsck();
      assert.deepEqual([live?.ok, live?.findings[0]], [false, 'the NV counter was deleted and defined anew with other attributes']);
      await victim.run(async (sealing) => {
        const info = await seal(sealing);
        assert.match(info.counterFault ?? '', /attest\.foreign_counter: .*deleted and defined anew/);
        assert.deepEqual(info.evidence, { kind: 'value', value: { counter: false } });
        assert.equal(sealing.counters.snapshot()['attest.error.attest.foreign_counter'], 1);
        assert.equal(verifyBundle(proofOf(sealing, info), EMULATED).outcome, 'verified');
      });
      const report = await victim.verifyLive(held, 2);
      assert.deepEqual([report.outcome, checkOf(report, 'tail').result], ['verified', 'unknown'], 'without its counter nothing closes the tail');
      await victim.meddle(remove);
    });
  });

  it('a clone of the disk beside the original, on one TPM: the counter and PCR 14 that they share show each what the other did', async () => {
    await victim.run((sealing) => seal(sealing));
    const clone = victim.image();
    const seen: (readonly string[])[] = [];
    for (const dataDir of [clone, victim.dataDir, clone]) seen.push(kinds((await victim.run((sealing) => seal(sealing), {}, dataDir)).findings));
    assert.deepEqual(seen, [[], ['1 increments', 'extensions'], ['1 increments', 'extensions']]);
  });

  it('a clone of the disk with the state of its emulated TPM: nothing here stops it, an emulator\'s state is a file; the level says emulated', async function () {
    requirePeer(this, 'swtpm');
    using folder = tempDir('emulator');
    const [one, two] = [join(folder.path, 'one'), join(folder.path, 'two')];
    const runWith = async (state: string, dataDir: string): Promise<BlockInfo> => {
      await using own = new Tpm(swtpmTransport(state));
      return await victim.run((sealing) => seal(sealing), { openAnchor: { kind: 'value', value: (signal) => openAnchor(own, signal) } }, dataDir);
    };
    await runWith(one, victim.dataDir);
    const clone = victim.image();
    cpSync(one, two, { recursive: true });
    const both = [await runWith(one, victim.dataDir), await runWith(two, clone)];
    assert.deepEqual(both.map(({ sequence, findings, anchor }) => [sequence, findings, anchor?.counter]), [[2, [], 2n], [2, [], 2n]], 'two chains that differ, each without a fault');
    assert.notDeepEqual(both[0]?.hash, both[1]?.hash);
  });

  it('the wall clock set back: a clockStep entry at the next start tells, and the order stands by sequence and TPM clock; a block\'s own time is the gateway\'s word', async () => {
    const dayMicros = 86_400_000_000;
    const early = { wallMicros: () => systemClock.wallMicros() - dayMicros, monoMicros: () => systemClock.monoMicros() };
    await victim.run((sealing) => seal(sealing));
    await victim.run(async (sealing) => {
      const before = lastPayload(sealing).wallMicros;
      const info = await seal(sealing);
      assert.ok(info.wallMicros < before);
      const report = verifyBundle(proofOf(sealing, info), EMULATED);
      assert.deepEqual([report.outcome, checkOf(report, 'chain.previous').result, checkOf(report, 'clock.monotone').result], ['verified', 'pass', 'pass']);
    }, { clock: early });
    await using ledger = await startLedger(victim.dataDir, { clock: early });
    await using reader = await openReader(victim.dataDir);
    await ledger.append(draft('after the start'));
    const written = [...reader.read(0, reader.size())].map(({ bytes }) => decodeEntry(bytes).kind);
    assert.ok(written.includes(KIND.clockStep));
  });

  it('PCR 14 replayed to its old value after a TPM reset: the reset count in the quote tells, the next block begins anew, and the counter misses what was cut', async () => {
    const { image } = await loseAfterImage((sealing) => seal(sealing, { counter: true }));
    await tpm.restart({ hard: true });
    victim.restore(image);
    const hashes = (await payloadsIn(victim.dataDir)).map((payload) => blockHash(payload));
    let replayed: Uint8Array | undefined;
    await victim.meddle(async (meddled) => {
      for (const hash of hashes) await meddled.pcr.extend(14, hash, NEVER);
      [, replayed] = (await meddled.pcr.read([14], NEVER))[0] ?? [];
    });
    await victim.run(async (sealing) => {
      assert.deepEqual(Buffer.from(sealing.reader.lastBlock()?.pcrAfter ?? []), Buffer.from(replayed ?? assert.fail('no PCR 14')), 'the replay succeeds: any local program can extend');
      const info = await seal(sealing);
      assert.deepEqual(kinds(info.findings), ['1 increments']);
      assert.ok(decodeBlock(sealing.reader.block(info.sequence).payload).pcrStart, 'it states where it began');
      const report = verifyBundle(proofOf(sealing, info), EMULATED);
      assert.equal(report.outcome, 'verified');
      assert.match(checkOf(report, 'pcr14.fold').detail, /something else had extended PCR 14 before that block/);
    });
  });
});
