import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { socketTransport } from '#drivers/tpm2/transport.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { KIND } from '#runtime/core/types.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { parseEventLog, replayEventLog } from '#runtime/crypto/eventLog.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import type { BlockPayload, Support } from '#runtime/ledger/block.ts';
import { decodeBundleBody, encodeBundle, openBundle } from '#runtime/ledger/bundle.ts';
import { encodeEntry } from '#runtime/ledger/entry.ts';
import { encodeMeasurement, type MeasurementBody } from '#runtime/ledger/measurement.ts';
import { buildProof } from '#runtime/ledger/proofBuilder.ts';
import type { CheckCode } from '#runtime/verify/checks.ts';
import { parsePolicy } from '#runtime/verify/policy.ts';
import { verifyBundle } from '#runtime/verify/verifier.ts';
import { tenzro } from '#test/support/gateway.ts';
import { EV, EVERY_EVENT, SOME_FILES, writeEventLog, writeImaEvent, writeImaList } from '#test/support/measuredLogs.ts';
import { MemoryChain, testReading } from '#test/support/memoryChain.ts';
import { temporaryTpm, type TemporaryTpm } from '#test/support/swtpm.ts';
import { tempDir } from '#test/support/temp.ts';
import { TestBoot, TpmSealer } from '#test/support/tpmChain.ts';

const NEVER = new AbortController().signal;
/** swtpm starts at locality 0; PCR 14 is the blocks'. */
const EVENTS = EVERY_EVENT.filter(({ type, pcr }) => type !== EV.noAction && pcr !== 14);
const BOOT_LOG = writeEventLog(EVENTS);
const SOFTWARE = sha256(Buffer.from('software'));
const FILE_DIGESTS = SOME_FILES.map(({ content }) => toHex(sha256(Buffer.from(content))));
const tcg = (log: Uint8Array): MeasurementBody => ({ what: 'tcg', log, digest: sha256(log) });
const ima = (log: Uint8Array, offset = 0): MeasurementBody => ({ what: 'ima', log, offset, digest: sha256(log) });

interface Told { readonly outcome: string; readonly result: string; readonly detail: string }

function judge(file: Uint8Array, code: CheckCode, policy: Readonly<Record<string, unknown>> = {}): Told {
  const report = verifyBundle(file, parsePolicy({ version: 1, accept: ['emulated'], ...policy }));
  const check = report.checks.find((one) => one.code === code);
  return { outcome: report.outcome, result: check?.result ?? '', detail: check?.detail ?? '' };
}

function assertJudged(told: Told, outcome: string, result: string, detail: RegExp): void {
  assert.deepEqual([told.outcome, told.result], [outcome, result], told.detail);
  assert.match(told.detail, detail);
}

describe('verify what a machine booted', function () {
  this.timeout(30_000);
  let tpm: TemporaryTpm;
  let boot: TestBoot;
  let chain: MemoryChain;
  let sealer: TpmSealer;
  let isFirst = true;

  /** Records the measurements, seals a block that names them, and proves a reading under it. */
  async function prove({ log, list = [], software }: { readonly log?: MeasurementBody; readonly list?: readonly MeasurementBody[]; readonly software?: MeasurementBody }, named?: Support): Promise<Buffer> {
    const record = (body: MeasurementBody): number => chain.append(encodeEntry({ kind: KIND.measurement, source: 'device/main//', wallMicros: 0, bootEpoch: 1, monoMicros: 0, body: encodeMeasurement(body) }));
    const support = named ?? { ...(log && { bootLog: record(log) }), imaLog: list.map(record), ...(software && { software: record(software) }) };
    const reading = chain.append(testReading(chain.entries.length));
    await sealer.seal(boot, { first: isFirst, change: { support } });
    isFirst = false;
    return buildProof(chain, reading);
  }

  async function sealedWith(change: Partial<BlockPayload>): Promise<Buffer> {
    const reading = chain.append(testReading(chain.entries.length));
    await sealer.seal(boot, { first: isFirst, change });
    return buildProof(chain, reading);
  }

  /** As firmware, loader and kernel do before anything of ours runs. */
  async function measureBoot(): Promise<void> {
    await using running = new Tpm(socketTransport(tpm.address));
    await running.startup(NEVER);
    for (const { pcr, data, measured = data } of EVENTS) await running.pcr.extend(pcr, sha256(measured), NEVER);
    for (const file of SOME_FILES.slice(0, 3)) await running.pcr.extend(10, sha256(writeImaEvent(file).subarray(4 + 20 + 4 + 'ima-ng'.length + 4)), NEVER);
  }

  before(async function () {
    tpm = await temporaryTpm(this);
    await measureBoot();
    boot = await TestBoot.open(socketTransport(tpm.address));
    chain = new MemoryChain();
    sealer = new TpmSealer(chain);
    chain.append(testReading(0));
  });
  after(async () => { await boot[Symbol.asyncDispose](); await tpm[Symbol.asyncDispose](); });

  it('replays the boot event log to the quoted PCRs, and judges nothing that the policy does not list', async () => {
    const proof = await prove({ log: tcg(BOOT_LOG) });
    assertJudged(judge(proof, 'boot.log'), 'verified', 'pass', /^\d+ events replay to the quoted PCRs 0 to 7$/);
    assertJudged(judge(proof, 'boot.pcrs'), 'verified', 'unknown', /tenzro reference/);
    assertJudged(judge(proof, 'ima.log'), 'verified', 'unknown', /names no IMA list/);
  });

  it('holds quoted PCRs against the policy\'s values', async () => {
    const proof = await prove({ log: tcg(BOOT_LOG) });
    const pcrs = Object.fromEntries([...replayEventLog(parseEventLog(BOOT_LOG))].filter(([pcr]) => pcr < 8).map(([pcr, value]) => [pcr, ['00'.repeat(32), toHex(value)]]));
    assertJudged(judge(proof, 'boot.pcrs', { pcrs }), 'verified', 'pass', /PCR 0, 1, 2, 3, 4, 5, 6, 7 hold/);
    assertJudged(judge(proof, 'boot.pcrs', { pcrs: { ...pcrs, 4: ['ab'.repeat(32)] } }), 'refuted', 'fail', /^PCR 4 is [0-9a-f]{64}, none of the policy's values$/);
    assertJudged(judge(proof, 'boot.pcrs', { pcrs: { ...pcrs, 4: [] } }), 'refuted', 'fail', /PCR 4/);
    assertJudged(judge(proof, 'boot.pcrs', { pcrs: { ...pcrs, 8: ['ab'.repeat(32)] } }), 'refuted', 'fail', /PCR 8 is in the policy and not in the quote/);
  });

  it('refutes a log that is not what the TPM was extended with', async () => {
    const omitted = writeEventLog(EVENTS.filter(({ type }) => type !== EV.application));
    assertJudged(judge(await prove({ log: tcg(omitted) }), 'boot.log'), 'refuted', 'fail', /PCR 4 differ/);
    const swapped = writeEventLog(EVENTS.map((event) => (event.type === EV.authority ? { ...event, data: Buffer.from('another key') } : event)));
    assertJudged(judge(await prove({ log: tcg(swapped) }), 'boot.log'), 'refuted', 'fail', /PCR 7 differ/);
    assertJudged(judge(await prove({ log: tcg(BOOT_LOG.subarray(0, -3)) }), 'boot.log'), 'refuted', 'fail', /not whole: event \d+ at byte \d+/);
  });

  it('says so where a log describes what it did not measure', async () => {
    const renamed = Buffer.from(BOOT_LOG.toString('latin1').replace('Calling EFI Application', 'Calling Evil Application'.slice(0, 23)), 'latin1');
    assertJudged(judge(await prove({ log: tcg(renamed) }), 'boot.log'), 'verified', 'pass', /the descriptions of 1 are not what was measured/);
  });

  it('learns nothing from a log that is not there, and refutes another entry in its place', async () => {
    const proof = await prove({ log: tcg(BOOT_LOG) });
    const bundle = decodeBundleBody(openBundle(proof).body);
    const pruned = encodeBundle({ ...bundle, entries: bundle.entries.slice(-1) });
    assertJudged(judge(pruned, 'boot.log'), 'verified', 'unknown', /is not in the bundle/);
    assertJudged(judge(await prove({ log: { what: 'tcg', reason: 'no event\nlog' } }), 'boot.log'), 'verified', 'unknown', /recorded no boot event log: no event\\u000alog/);
    assertJudged(judge(await prove({}, { bootLog: 0 }), 'boot.log'), 'refuted', 'fail', /entry 0, which the head names as its boot event log, is no measurement/);
    assertJudged(judge(await prove({ log: ima(BOOT_LOG) }), 'boot.log'), 'refuted', 'fail', /is another measurement \(IMA list\)/);
    assertJudged(judge(await prove({ log: tcg(writeEventLog(EVENTS, ['sha1'])) }), 'boot.log'), 'verified', 'unknown', /no SHA-256/);
  });

  it('finds the part of IMA\'s list that was quoted, in one piece or in several', async () => {
    const list = writeImaList(SOME_FILES);
    assertJudged(judge(await prove({ list: [ima(list)] }), 'ima.log'), 'verified', 'pass', /^3 of 4 recorded events replay/);
    const proof = await prove({ list: [ima(list.subarray(0, 100)), ima(list.subarray(100), 100)] });
    assertJudged(judge(proof, 'ima.log'), 'verified', 'pass', /^3 of 4/);
    assertJudged(judge(proof, 'ima.log', { ima: { allow: FILE_DIGESTS.slice(1, 3) } }), 'verified', 'pass', /all are in the policy/);
    assertJudged(judge(proof, 'ima.log', { ima: { allow: FILE_DIGESTS.slice(2) } }), 'refuted', 'fail', /1 of 3 measured files are not in the policy: \/usr\/lib\/systemd\/systemd/);
    assertJudged(judge(await prove({ list: [ima(list.subarray(0, 100)), ima(list.subarray(100), 101)] }), 'ima.log'), 'refuted', 'fail', /do not follow one another/);
  });

  it('refuses a list beyond its bound before it parses it', async () => {
    const chunk = Buffer.alloc(LIMITS.imaChunkBytesMax);
    const count = Math.floor(LIMITS.imaLogBytesMax / chunk.length) + 1;
    const proof = await prove({ list: Array.from({ length: count }, (_, at) => ima(chunk, at * chunk.length)) });
    assertJudged(judge(proof, 'ima.log'), 'refuted', 'fail', /more than 4194304 bytes/);
  });

  it('does not take a list that stops short of the quote, or was altered, for more than nothing', async () => {
    const short = await prove({ list: [ima(writeImaList(SOME_FILES.slice(0, 2)))] });
    assertJudged(judge(short, 'ima.log'), 'verified', 'unknown', /more files ran than were recorded by then, or the list was altered/);
    assertJudged(judge(short, 'ima.log', { ima: { allow: FILE_DIGESTS } }), 'refuted', 'fail', /the policy lists files/);
    const altered = await prove({ list: [ima(writeImaList(SOME_FILES.map((file) => ({ ...file, path: file.path.replace('node', 'evil') }))))] });
    assertJudged(judge(altered, 'ima.log'), 'verified', 'unknown', /altered/);
    const torn = await prove({ list: [ima(writeImaList(SOME_FILES).subarray(0, 150))] });
    assertJudged(judge(torn, 'ima.log'), 'refuted', 'fail', /not whole/);
  });

  it('holds software, models and TPM firmware against the policy', async () => {
    const proof = await prove({ software: { what: 'software', digest: SOFTWARE, components: [] } });
    const firmware = judge(proof, 'software.reference', { firmware: ['ffffffffffffffff'] });
    assertJudged(firmware, 'refuted', 'fail', /TPM firmware [0-9a-f]{16} is not in the policy/);
    const [version = ''] = /[0-9a-f]{16}/.exec(firmware.detail) ?? [];
    assertJudged(judge(proof, 'software.reference', { firmware: [version], software: [toHex(SOFTWARE)], models: [toHex(SOFTWARE)] }), 'verified', 'pass', /model \(none\)/);
    assertJudged(judge(proof, 'software.reference', { software: ['00'.repeat(32)] }), 'refuted', 'fail', /software [0-9a-f]{64} is not in the policy/);
    assertJudged(judge(proof, 'software.reference'), 'verified', 'unknown', /was not judged/);
    const lied = await prove({ software: { what: 'software', digest: sha256(SOFTWARE), components: [] } });
    assertJudged(judge(lied, 'software.reference'), 'refuted', 'fail', /measured other software than the head names/);
  });

  it('prints the references of a golden gateway, which then verify it and no other state', async () => {
    using dir = tempDir('reference');
    const [file, policyFile] = [join(dir.path, 'golden.tzp'), join(dir.path, 'golden.yaml')];
    const verify = async (proof: Buffer): Promise<string> => { writeFileSync(file, proof); return (await tenzro(dir.path, ['verify', file, '--policy', policyFile])).output; };
    const golden = await prove({ log: tcg(BOOT_LOG), list: [ima(writeImaList(SOME_FILES))] });
    writeFileSync(file, golden);
    const printed = await tenzro(dir.path, ['reference', '--from', file, '--ima']);
    assert.equal(printed.code, 0, printed.output);
    writeFileSync(policyFile, printed.stdout);
    const said = await verify(golden);
    assert.match(said, /^VERIFIED\ntrust   enrolled/);
    for (const code of ['boot.log', 'boot.pcrs', 'ima.log', 'software.reference']) assert.match(said, new RegExp(`✓ ${code.replace('.', '\\.')} `));
    assert.match(printed.stdout, /- "[0-9a-f]{64}" # \/usr\/bin\/node\n/);
    assert.match(await verify(await prove({ list: [] })), /✗ ima\.log .*the policy lists files/);
    const json = await tenzro(dir.path, ['reference', '--from', file, '--json']);
    assert.equal(judge(golden, 'boot.pcrs', JSON.parse(json.stdout) as Record<string, unknown>).outcome, 'verified', json.output);
    // With another software the same gateway is refuted, and a file that does not verify yields no references.
    const updated = await sealedWith({ softwareDigest: sha256(Buffer.from('v2')) });
    assert.match(await verify(updated), /✗ software\.reference/);
    const damaged = Buffer.from(golden);
    damaged.writeUInt8(damaged.readUInt8(2_000) ^ 1, 2_000);
    writeFileSync(file, damaged);
    assert.match((await tenzro(dir.path, ['reference', '--from', file])).output, /reference\.unproven/);
  });

  it('calls a machine that does not measure its boot what it is', async function () {
    await using bare = await temporaryTpm(this);
    await using running = await TestBoot.open(socketTransport(bare.address));
    const other = new MemoryChain();
    other.append(testReading(0));
    await new TpmSealer(other).seal(running, { first: true });
    const proof = buildProof(other, 0);
    for (const code of ['boot.log', 'boot.pcrs'] as const) assertJudged(judge(proof, code), 'verified', 'unknown', /did not measure its boot \(as a Raspberry Pi/);
    assertJudged(judge(proof, 'ima.log'), 'verified', 'unknown', /PCR 10 is zero/);
    assertJudged(judge(proof, 'boot.pcrs', { pcrs: { 0: ['ab'.repeat(32)] } }), 'refuted', 'fail', /did not measure its boot/);
    assertJudged(judge(proof, 'ima.log', { ima: { allow: [] } }), 'refuted', 'fail', /the policy lists files/);
  });
});
