/** What an auditor's machine does: whole proofs, and a whole chain. On data that the real gateway made a moment before. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseEventLog, replayEventLog } from '#runtime/crypto/eventLog.ts';
import { findImaPrefix, parseImaLog, replayImaLog } from '#runtime/crypto/imaLog.ts';
import { signerOfSeed, verifyMlDsa65 } from '#runtime/crypto/mldsa.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { decodeBundleBody, openBundle } from '#runtime/ledger/bundle.ts';
import { decodeEvidence } from '#runtime/ledger/evidence.ts';
import { fsck } from '#runtime/ledger/fsck.ts';
import { openReader } from '#runtime/ledger/reader.ts';
import { DEFAULT_POLICY, TRUST_LEVELS } from '#runtime/verify/policy.ts';
import { verifyBundle } from '#runtime/verify/verifier.ts';
import { Gateway, tenzro } from '#test/support/gateway.ts';
import { runLoad } from '#test/support/load.ts';
import { tempDir } from '#test/support/temp.ts';
import { EVERY_EVENT, SOME_FILES, writeEventLog, writeImaList } from '#test/support/measuredLogs.ts';
import { paired, ratePerSecond, type Bench, type Figure } from '../figure.ts';

const POLICY = { ...DEFAULT_POLICY, accept: TRUST_LEVELS };
const ENTRIES_PER_BUNDLE = 256;
const MEBIBYTE = 1024 ** 2;
const EVIDENCE_LIMIT_MS = 2;

/** Blocks whose evidence and signature are in the bundle. All must be by a TPM: without, the figure would flatter. */
function wholeBlocks(proof: Buffer): number {
  const { genesis, start, head } = decodeBundleBody(openBundle(proof).body);
  const blocks = [genesis, start, head].filter((block) => block !== undefined);
  if (blocks.some(({ evidence }) => decodeEvidence(evidence).kind !== 'tpm2')) throw new Error('the proof has a block without TPM evidence: install swtpm');
  return blocks.length;
}

/** A chain of `messages` readings, orderly stopped, with its last block over all of them. */
async function makeChain(dataDir: string, messages: number): Promise<void> {
  await using gateway = await Gateway.start({ dataDir });
  await runLoad({ port: await gateway.port(), messages, warm: 0, seconds: 60 });
  const code = await gateway.stop();
  if (code !== 0) throw new Error(`the gateway ended with ${code}: ${gateway.output}`);
}

async function exportProof(dataDir: string, range: string): Promise<Buffer> {
  const file = join(dataDir, `${range}.tzp`);
  const { code, output } = await tenzro(dataDir, ['proof', range, '-o', file]);
  if (code !== 0) throw new Error(`tenzro proof ended with ${code}: ${output}`);
  return readFileSync(file);
}

function verified(bundle: Buffer, entries: number): () => number {
  return () => {
    const report = verifyBundle(bundle, POLICY);
    if (report.outcome !== 'verified') throw new Error(`the proof was ${report.outcome}: ${JSON.stringify(report.checks)}`);
    return entries;
  };
}

function signatureStep(): () => number {
  const signer = signerOfSeed(Buffer.alloc(32, 1));
  const message = Buffer.alloc(300, 2);
  const signature = signer.sign(message);
  return () => {
    if (!verifyMlDsa65(signer.publicKey, message, signature)) throw new Error('the signature does not verify');
    return 1;
  };
}

/** Parse and replay, in MiB: a boot event log, then an IMA list whose whole length was quoted. */
function measuredLogSteps(): readonly [() => number, () => number, () => number] {
  const bootLog = writeEventLog(Array.from({ length: 20 }, () => EVERY_EVENT).flat());
  const list = writeImaList(Array.from({ length: 2_000 }, (_, n) => ({ ...SOME_FILES[n % SOME_FILES.length], path: `/usr/lib/module-${n}.ko`, content: String(n) })));
  const quoted = replayImaLog(parseImaLog(list).events);
  return [
    () => { const log = parseEventLog(bootLog); if (log.fault || replayEventLog(log).size === 0) throw new Error('the boot event log does not replay'); return bootLog.length / MEBIBYTE; },
    () => { if (findImaPrefix(parseImaLog(list).events, quoted)?.count !== 2_000) throw new Error('the IMA list does not replay'); return list.length / MEBIBYTE; },
    () => { sha256(bootLog); return bootLog.length / MEBIBYTE; },
  ];
}

export const verification: Bench = {
  name: 'verification',
  async run({ isQuick, say }): Promise<Figure[]> {
    say('verification of proofs and of a whole chain');
    using dir = tempDir('verification');
    await makeChain(dir.path, isQuick ? 10_000 : 100_000);
    const proof = await exportProof(dir.path, '1000');
    const one = verified(proof, 1);
    const many = verified(await exportProof(dir.path, `1000..${1000 + ENTRIES_PER_BUNDLE - 1}`), ENTRIES_PER_BUNDLE);
    await using reader = await openReader(dir.path);
    const leaves = [...reader.read(0, 20_000)].map(({ bytes }) => bytes);
    const hashAll = (): number => {
      for (const leaf of leaves) sha256(leaf);
      return leaves.length;
    };
    const whole = async (): Promise<number> => {
      const result = await fsck(dir.path);
      if (result.problems.length > 0) throw new Error(JSON.stringify(result.problems[0]));
      return result.checked.entries;
    };
    const steps = [one, many, whole, signatureStep(), hashAll, ...measuredLogSteps()];
    const rates = steps.map((): number[] => []);
    for (const step of steps) await step();
    for (let round = 0; round < (isQuick ? 2 : 5); round++) {
      for (const [place, step] of steps.entries()) rates[place]?.push(await ratePerSecond(isQuick ? 300 : 1_000, step));
    }
    const [single = [], range = [], chain = [], signatures = [], hashes = [], bootLog = [], ima = [], bareHash = []] = rates;
    const blocks = wholeBlocks(proof);
    const perBlock = single.map((rate) => 1_000 / rate / blocks);
    return [
      paired('verify_ms_per_block', 'ms', perBlock, 'the limit', perBlock.map(() => EVIDENCE_LIMIT_MS), `all checks of a proof of one entry with ${blocks} whole blocks (quotes, NV certifications, ML-DSA signatures), divided by the blocks`),
      paired('verify_entries_per_s', 'entries/s', range, 'bare SHA-256 of the entries', hashes, `one bundle of ${ENTRIES_PER_BUNDLE} entries: signatures are checked once, paths entry by entry`),
      paired('verify_single_entry_bundles_per_s', 'bundles/s', single, 'bare ML-DSA-65 verifications', signatures, `one entry a bundle of ${proof.length.toLocaleString('en')} bytes: its blocks' signatures limit it`),
      paired('fsck_entries_per_s', 'entries/s', chain, 'bare SHA-256 of the entries', hashes, 'every byte of a stopped data directory: entries, tree, blocks, evidence'),
      paired('boot_log_mib_per_s', 'MiB/s', bootLog, 'one SHA-256 of the same bytes', bareHash, 'TCG event log parsed, data held against digests, replayed into PCRs; at least 1 MiB/s is wanted'),
      paired('ima_log_mib_per_s', 'MiB/s', ima, 'one SHA-256 of as many bytes', bareHash, 'IMA list of 2,000 files replayed to the quoted PCR 10: two hashes per file'),
    ];
  },
};
