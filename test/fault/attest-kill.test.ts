/** kill −9 before and after each step of the block procedure, on a real ledger and a real emulator: it resumes, and what is proved afterwards is true. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { openAnchor } from '#drivers/tpm2/anchor.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { socketTransport } from '#drivers/tpm2/transport.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { anchorAfter } from '#runtime/ledger/anchors.ts';
import { blockHash, decodeBlock, foldPcr, ZERO_HASH, type AnchorMark } from '#runtime/ledger/block.ts';
import { decodeEvidence } from '#runtime/ledger/evidence.ts';
import { buildProof } from '#runtime/ledger/proofBuilder.ts';
import { parsePolicy } from '#runtime/verify/policy.ts';
import { verifyBundle } from '#runtime/verify/verifier.ts';
import { Program } from '#test/support/process.ts';
import { NEVER, openSealing, type Sealing } from '#test/support/sealHarness.ts';
import { temporaryTpm, type TemporaryTpm } from '#test/support/swtpm.ts';
import { tempDir } from '#test/support/temp.ts';

const VICTIM = join(import.meta.dirname, '..', 'support', 'sealVictim.ts');
const EMULATED = parsePolicy({ version: 1, accept: ['emulated'] });

describe('attest: kill −9 in the block procedure', function () {
  this.timeout(20_000);
  let emulator: TemporaryTpm;
  before(async function () { emulator = await temporaryTpm(this); });
  after(async () => { await emulator?.[Symbol.asyncDispose](); });

  async function kill(dataDir: string, step: string, edge: string): Promise<void> {
    await using victim = new Program(process.execPath, [VICTIM, dataDir, emulator.address, step, edge]);
    assert.equal(await victim.exited(), 'SIGKILL', victim.output);
  }

  /** The next start: seals, then everything that the chain says is held against the verifier and the TPM itself. */
  async function resume(dataDir: string, check: (sealing: Sealing) => void): Promise<void> {
    await using sealing = await openSealing(dataDir, emulator.address);
    await sealing.append();
    await sealing.sealer.seal({}, NEVER);
    check(sealing);
    await assertSound(sealing);
  }

  for (const [step, edge, resumed] of [
    ['pending', 'before', false], ['pending', 'after', false], ['extend', 'before', false], ['extend', 'after', true], ['quote', 'before', true], ['quote', 'after', true],
    ['counter', 'before', true], ['counter', 'after', true], ['evidence', 'before', true], ['evidence', 'after', true], ['increment', 'before', true], ['increment', 'after', true],
    ['commit', 'before', true], ['commit', 'after', false],
  ] as const) {
    it(`${edge} step ${step}: ${resumed ? 'the TPM has heard of the pending block, and it is ended' : 'nothing that the TPM has heard of is pending'}; no increment is lost`, async () => {
      using dir = tempDir('seal');
      await kill(dir.path, step, edge);
      await resume(dir.path, ({ infos, reader }) => {
        const isCommitted = step === 'commit' && edge === 'after';
        assert.deepEqual(infos.map(({ sequence, resumed: ended }) => [sequence, ended]), resumed ? [[2, true], [3, false]] : [[isCommitted ? 3 : 2, false]]);
        const started = payloads(reader).filter(({ pcrStart }) => pcrStart).map(({ sequence }) => sequence);
        assert.deepEqual(started, [0], 'within one boot of the TPM the fold needs no new start');
      });
      await emulator.restart();
    });
  }

  it('a TPM reset between kill and start: the pending block gives way to one that starts from zeros', async () => {
    using dir = tempDir('seal');
    await kill(dir.path, 'extend', 'after');
    await emulator.restart({ hard: true });
    await resume(dir.path, ({ infos, reader }) => {
      assert.deepEqual(infos.map(({ sequence, resumed }) => [sequence, resumed]), [[2, false]]);
      assert.equal(toHex(payloads(reader)[2]?.pcrStart ?? Buffer.alloc(0)), toHex(ZERO_HASH));
      assert.deepEqual(infos[0]?.evidence, { kind: 'value', value: { counter: true } });
    });
    await emulator.restart();
  });

  for (const step of ['evidence', 'increment'] as const) {
    it(`a TPM reset after a kill ${step === 'evidence' ? 'before' : 'after'} the increment: the block is whole and ended all the same, and no increment is lost`, async () => {
      using dir = tempDir('seal');
      await kill(dir.path, step, 'after');
      await emulator.restart({ hard: true });
      await resume(dir.path, ({ infos }) => {
        assert.deepEqual(infos.map(({ sequence, resumed }) => [sequence, resumed]), [[2, true], [3, false]]);
        assert.ok(infos.every(({ findings }) => findings.length === 0));
      });
      await emulator.restart();
    });
  }

  it('PCR 14 extended by another program between kill and start: the pending block gives way to one that states what it found', async () => {
    using dir = tempDir('seal');
    await kill(dir.path, 'quote', 'before');
    let found: Uint8Array = ZERO_HASH;
    {
      await using other = new Tpm(socketTransport(emulator.address));
      await other.pcr.extend(14, sha256(Buffer.from('somebody else')), NEVER);
      found = (await other.pcr.read([14], NEVER))[0]?.[1] ?? ZERO_HASH;
    }
    await resume(dir.path, ({ infos, reader }) => {
      assert.deepEqual(infos.map(({ sequence, resumed }) => [sequence, resumed]), [[2, false]]);
      assert.equal(toHex(payloads(reader)[2]?.pcrStart ?? Buffer.alloc(0)), toHex(found));
    });
    await emulator.restart();
  });

  it('a kill in the very first block leaves a chain that begins anew', async () => {
    using dir = tempDir('seal');
    {
      await using sealing = await openSealing(dir.path, emulator.address, { onStep: (step, edge) => { if (step === 'quote' && edge === 'after') throw new Error('as good as a kill'); } });
      await assert.rejects(sealing.sealer.seal({}, NEVER), /as good as a kill/);
    }
    await resume(dir.path, ({ infos }) => assert.deepEqual(infos.map(({ sequence, resumed }) => [sequence, resumed]), [[0, true], [1, false]]));
    await emulator.restart();
  });
});

const payloads = (reader: Sealing['reader']): ReturnType<typeof decodeBlock>[] => Array.from({ length: reader.blockCount() }, (_, sequence) => decodeBlock(reader.block(sequence).payload));

const anchorsOf = (reader: Sealing['reader']): AnchorMark[] => Array.from({ length: reader.blockCount() }, (_, sequence) => {
  const { payload, evidence } = reader.block(sequence);
  return anchorAfter(decodeBlock(payload), decodeEvidence(evidence));
}).filter((mark, sequence): mark is AnchorMark => mark?.sequence === sequence);

async function liveCounter(tpm: Tpm): Promise<bigint> {
  const { counter } = await (await openAnchor(tpm, NEVER)).look(NEVER);
  return counter.kind === 'value' ? counter.value.value : assert.fail(counter.reason);
}

/** Every attested entry verifies; the blocks fold to what each quote saw, and to what the TPM holds now. */
async function assertSound({ reader, tpm }: Sealing): Promise<void> {
  let pcr: Uint8Array = ZERO_HASH;
  let attested = 0;
  for (let sequence = 0; sequence < reader.blockCount(); sequence += 1) {
    const { payload, evidence } = reader.block(sequence);
    const { pcrStart, treeSize } = decodeBlock(payload);
    pcr = foldPcr(pcrStart ?? pcr, blockHash(payload));
    attested = treeSize;
    const said = decodeEvidence(evidence);
    assert.ok(said.kind === 'tpm2');
    assert.equal(toHex(said.pcrs.find(([index]) => index === 14)?.[1] ?? ZERO_HASH), toHex(pcr), `block ${sequence}`);
  }
  assert.equal(toHex((await tpm.pcr.read([14], NEVER))[0]?.[1] ?? ZERO_HASH), toHex(pcr), 'the TPM');
  assert.equal(attested, reader.size());
  const marks = anchorsOf(reader);
  assert.ok(marks.length >= 1 && marks.every(({ missing }) => missing === 0n), 'every increment is in a block');
  assert.equal(await liveCounter(tpm), (marks.at(-1)?.counter ?? 0n) + 1n, 'the TPM');
  for (let index = 0; index < attested; index += 1) {
    const report = verifyBundle(buildProof(reader, index), EMULATED);
    assert.equal(report.outcome, 'verified', JSON.stringify(report.checks.filter(({ result }) => result === 'fail')));
  }
}
