/** Every command of the driver against a real emulator, and its quotes against tpm2-tools. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openAnchor } from '#drivers/tpm2/anchor.ts';
import { permanent } from '#drivers/tpm2/command.ts';
import { COUNTER_INDEX, EK_CERTIFICATE_INDEX, HANDLE, QUOTED_PCRS } from '#drivers/tpm2/constants.ts';
import { readEkCertificate, readEndorsement } from '#drivers/tpm2/ek.ts';
import { RC, RC_FORMAT_1 } from '#drivers/tpm2/errors.ts';
import type { LoadedKey } from '#drivers/tpm2/keys.ts';
import { akP256, ekEccP256, ekRsa2048 } from '#drivers/tpm2/templates.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { NV_ATTRIBUTE, parseAttest, parseNvPublic, publicKeyOf, TPM_ALG, verifyAttestSignature } from '#runtime/crypto/tpmEvidence.ts';
import { foldPcr } from '#runtime/ledger/block.ts';
import { requirePeer } from '#test/support/peers.ts';
import { run } from '#test/support/process.ts';
import { temporaryTpm, transportTo, type TemporaryTpm } from '#test/support/swtpm.ts';
import { tempDir } from '#test/support/temp.ts';

const SIGNAL = new AbortController().signal;
const H = sha256(Buffer.from('a block'));

describe('tpm2: commands', () => {
  let emulator: TemporaryTpm;
  let tpm: Tpm;
  let ak: LoadedKey;

  before(async function () {
    emulator = await temporaryTpm(this);
    tpm = new Tpm(transportTo(emulator.address));
    await tpm.startup(SIGNAL);
    ak = await tpm.keys.createPrimary(HANDLE.endorsement, akP256(), SIGNAL);
  });
  after(async () => {
    await tpm?.[Symbol.asyncDispose]();
    await emulator?.[Symbol.asyncDispose]();
  });

  it('starts up a TPM that is started already', async () => { await tpm.startup(SIGNAL); });

  it('tells manufacturer, vendor and firmware', async () => {
    const { manufacturer, vendor, firmwareVersion } = await tpm.info.identity(SIGNAL);
    assert.deepEqual([manufacturer, vendor], ['IBM', 'SW   TPM']);
    assert.equal((await parsedQuote()).firmwareVersion, firmwareVersion);
  });

  it('reads back a key, and makes the same one from the same template', async () => {
    assert.deepEqual((await tpm.keys.readPublic(ak.handle, SIGNAL)).public, ak.public);
    const again = await tpm.keys.createPrimary(HANDLE.endorsement, akP256(), SIGNAL);
    await again[Symbol.asyncDispose]();
    assert.equal(toHex(again.name), toHex(ak.name));
    await assert.rejects(tpm.keys.readPublic(again.handle, SIGNAL), { code: 'tpm.refused', base: RC.objectMemory + 0x0e }); // TPM_RC_REFERENCE_H0: nothing loaded there
  });

  it('extends PCR 14 as foldPcr says', async () => {
    const [[, before] = [0, Buffer.alloc(0)]] = await tpm.pcr.read([14], SIGNAL);
    await tpm.pcr.extend(14, H, SIGNAL);
    const [[index, value] = [0, Buffer.alloc(0)]] = await tpm.pcr.read([14], SIGNAL);
    assert.equal(index, 14);
    assert.equal(toHex(value), toHex(foldPcr(before, H)));
  });

  it('reads more PCRs than one response holds, in order', async () => {
    const values = await tpm.pcr.read(QUOTED_PCRS, SIGNAL);
    assert.deepEqual(values.map(([index]) => index), [...QUOTED_PCRS]);
  });

  it('quotes under a signature of the attestation key', async () => {
    const { attest, signature } = await tpm.attest.quote(ak, H, QUOTED_PCRS, SIGNAL);
    assert.ok(verifyAttestSignature(publicKeyOf(ak.public.area), attest, signature));
    const { attested, extraData } = parseAttest(attest);
    assert.equal(toHex(extraData), toHex(H));
    assert.ok(attested.kind === 'quote');
    assert.deepEqual(attested.selections.map(({ pcrs }) => pcrs), [[...QUOTED_PCRS]]);
    assert.equal(toHex(attested.pcrDigest), toHex(sha256(...(await tpm.pcr.read(QUOTED_PCRS, SIGNAL)).map(([, value]) => value))));
  });

  it('reads the clock that quotes state', async () => {
    const read = await tpm.info.readClock(SIGNAL);
    const { clockInfo } = await parsedQuote();
    assert.deepEqual([clockInfo.resetCount, clockInfo.restartCount, clockInfo.safe], [read.resetCount, read.restartCount, read.safe]);
    assert.ok(clockInfo.clock >= read.clock);
  });

  it('counts in NV and certifies the count', async () => {
    await assert.rejects(tpm.nv.readPublic(COUNTER_INDEX, SIGNAL), { code: 'tpm.refused', base: RC_FORMAT_1.handle });
    await tpm.nv.defineCounter(COUNTER_INDEX, permanent(HANDLE.owner), SIGNAL);
    await assert.rejects(tpm.nv.defineCounter(COUNTER_INDEX, permanent(HANDLE.owner), SIGNAL), { code: 'tpm.refused', base: RC.nvDefined });
    const fresh = await tpm.nv.readPublic(COUNTER_INDEX, SIGNAL);
    await assert.rejects(tpm.nv.read(fresh, 0, 8, SIGNAL), { base: RC.nvUninitialized });
    await tpm.nv.increment(fresh, SIGNAL);
    const written = await tpm.nv.readPublic(COUNTER_INDEX, SIGNAL);
    assert.notEqual(written.public.attributes & NV_ATTRIBUTE.written, 0);
    const first = Buffer.from(await tpm.nv.read(written, 0, 8, SIGNAL)).readBigUInt64BE();
    await tpm.nv.increment(written, SIGNAL);
    const { attest, signature } = await tpm.attest.nv(ak, written, H, SIGNAL);
    assert.ok(verifyAttestSignature(publicKeyOf(ak.public.area), attest, signature));
    const { attested, extraData } = parseAttest(attest);
    assert.ok(attested.kind === 'nv');
    assert.equal(toHex(extraData), toHex(H));
    assert.equal(toHex(attested.name), toHex(written.name));
    assert.equal(Buffer.from(attested.contents).readBigUInt64BE(), first + 1n);
  });

  it('carries out concurrent calls one after the other', async () => {
    const sizes = Array.from({ length: 20 }, (_, index) => 1 + index);
    const results = await Promise.all([...sizes.map((size) => tpm.info.getRandom(size, SIGNAL)), parsedQuote(), tpm.info.readClock(SIGNAL)]);
    assert.deepEqual(results.slice(0, sizes.length).map((bytes) => bytes instanceof Uint8Array && bytes.length), sizes);
  });

  it('does not start what was given up while it waited, and finishes what ran', async () => {
    const [first, second] = [new AbortController(), new AbortController()];
    const outcomes = Promise.allSettled([tpm.info.getRandom(8, first.signal), tpm.info.getRandom(8, second.signal)]);
    second.abort();
    const [ran, waited] = await outcomes;
    assert.equal(ran.status, 'fulfilled');
    assert.ok(waited.status === 'rejected');
    assert.equal((waited.reason as { code: string }).code, 'tpm.timeout');
    assert.equal((await tpm.info.getRandom(8, SIGNAL)).length, 8);
  });

  for (const [name, template] of [['P-256', ekEccP256], ['RSA', ekRsa2048]] as const) {
    it(`opens a session salted to a ${name} key that encrypts and authenticates`, async () => {
      await using ek = await tpm.keys.createPrimary(HANDLE.endorsement, template(), SIGNAL);
      await using session = await tpm.sessions.startHmac({ salt: ek }, SIGNAL);
      const random = await Promise.all([tpm.info.getRandom(16, SIGNAL, session.use({ encryptResponse: true })), tpm.info.getRandom(16, SIGNAL, session.use({ encryptResponse: true }))]);
      assert.notDeepEqual(random[0], random[1]);
      const { attest, signature } = await tpm.attest.quote(ak, H, [0], SIGNAL, session.use({ encryptCommand: true, encryptResponse: true }));
      assert.ok(verifyAttestSignature(publicKeyOf(ak.public.area), attest, signature), 'both directions decrypt to what was meant');
      assert.equal(toHex(parseAttest(attest).extraData), toHex(H));
      await tpm.pcr.extend(16, H, SIGNAL, session.use());
    });
  }

  it('finds no endorsement certificate where there is none', async () => {
    const { ekPublic, ekCertificate } = await readEndorsement(tpm, SIGNAL);
    assert.equal(publicKeyOf(ekPublic).asymmetricKeyType, 'ec');
    assert.equal(ekCertificate, undefined);
  });

  const parsedQuote = async (): Promise<ReturnType<typeof parseAttest>> => parseAttest((await tpm.attest.quote(ak, H, [0], SIGNAL)).attest);
});

describe('tpm2: against tpm2-tools', () => {
  let emulator: TemporaryTpm;
  before(async function () {
    requirePeer(this, 'tpm2_checkquote');
    emulator = await temporaryTpm(this, { tools: true, own: true });
  });
  after(async () => { await emulator?.[Symbol.asyncDispose](); });

  /** One client at a time: the driver leaves before a tool comes. */
  async function withTpm<T>(work: (tpm: Tpm) => Promise<T>): Promise<T> {
    await using tpm = new Tpm(transportTo(emulator.address));
    return await work(tpm);
  }
  async function tool(name: string, ...args: string[]): Promise<void> {
    const { code, output } = await run(name, ['-T', emulator.tcti, ...args]);
    assert.equal(code, 0, `${name}: ${output}`);
  }

  it('tpm2_checkquote accepts our quotes with their PCR values, and none of them over another nonce', async () => {
    using dir = tempDir('quote');
    const file = (name: string, bytes: Uint8Array | string): string => { const path = join(dir.path, name); writeFileSync(path, bytes); return path; };
    const { anchor, quote } = await withTpm(async (tpm) => {
      const opened = await openAnchor(tpm, SIGNAL);
      await opened.extend(H, SIGNAL);
      return { anchor: opened, quote: await opened.quote(H, SIGNAL) };
    });
    const key = file('ak.pem', publicKeyOf(anchor.akPublic).export({ type: 'spki', format: 'pem' }));
    const check = (nonce: Uint8Array, values: readonly Uint8Array[]): ReturnType<typeof run> => run('tpm2_checkquote', [
      '-u', key, '-m', file('attest', quote.attest), '-s', file('signature', quote.signature), '-g', 'sha256', '-q', toHex(nonce), '-f', file('pcrs', toolsPcrFile(quote.pcrs.map(([index]) => index), values)),
    ]);
    const values = quote.pcrs.map(([, value]) => value);
    const accepted = await check(H, values);
    assert.equal(accepted.code, 0, accepted.output);
    assert.notEqual((await check(sha256(H), values)).code, 0);
    assert.notEqual((await check(H, values.map((value, at) => (at === 9 ? sha256(value) : value)))).code, 0);
  });

  it('reads endorsement certificates from NV, without the padding behind them', async () => {
    const certificate = Buffer.concat([Buffer.from('308203e8', 'hex'), randomBytes(1_000)]);
    using dir = tempDir('ek');
    const path = join(dir.path, 'certificate');
    writeFileSync(path, Buffer.concat([certificate, Buffer.alloc(40, 0xff)]));
    const index = `0x${EK_CERTIFICATE_INDEX.rsa2048.toString(16)}`;
    await tool('tpm2_nvdefine', index, '-C', 'o', '-s', String(certificate.length + 40), '-a', 'ownerwrite|ownerread|authread');
    await tool('tpm2_nvwrite', index, '-C', 'o', '-i', path);
    await withTpm(async (tpm) => {
      const read = await readEkCertificate(tpm, EK_CERTIFICATE_INDEX.rsa2048, SIGNAL);
      assert.equal(toHex(read ?? Buffer.alloc(0)), toHex(certificate));
      const { ekPublic, ekCertificate } = await readEndorsement(tpm, SIGNAL);
      assert.equal(publicKeyOf(ekPublic).asymmetricKeyType, 'rsa', 'the key that the certificate is for');
      assert.equal(ekCertificate?.length, certificate.length);
    });
  });

  it('TPM2_Clear leaves the attestation key, and the counter goes on where it was; a new endorsement seed makes another key', async () => {
    const state = async (tpm: Tpm): Promise<{ ak: string; count: bigint }> => {
      const anchor = await openAnchor(tpm, SIGNAL);
      const { attest, nvPublic } = await anchor.counter(H, SIGNAL);
      await anchor.increment(SIGNAL);
      const { attested } = parseAttest(attest);
      assert.ok(attested.kind === 'nv');
      assert.equal(toHex(attested.name), toHex(parseNvPublic(nvPublic).name));
      return { ak: toHex(anchor.akPublic), count: Buffer.from(attested.contents).readBigUInt64BE() };
    };
    const first = await withTpm(state);
    await tool('tpm2_clear');
    const cleared = await withTpm(state);
    await tool('tpm2_changeeps');
    const renewed = await withTpm(state);
    assert.equal(cleared.ak, first.ak);
    assert.notEqual(renewed.ak, first.ak);
    assert.ok(first.count < cleared.count && cleared.count < renewed.count, `${first.count}, ${cleared.count}, ${renewed.count}`);
  });
});

/** What `tpm2_quote -o` writes: TPML_PCR_SELECTION, a count, and TPML_DIGESTs of eight, as they lie in a little-endian machine's memory. */
function toolsPcrFile(pcrs: readonly number[], values: readonly Uint8Array[]): Buffer {
  const selection = Buffer.alloc(4 + 16 * 8);
  selection.writeUInt32LE(1, 0);
  selection.writeUInt16LE(TPM_ALG.sha256, 4);
  selection.writeUInt8(3, 6);
  for (const pcr of pcrs) selection.writeUInt8(selection.readUInt8(7 + (pcr >> 3)) | (1 << (pcr & 7)), 7 + (pcr >> 3));
  const lists = Array.from({ length: Math.ceil(values.length / 8) }, (_, list) => {
    const digests = values.slice(list * 8, list * 8 + 8);
    const bytes = Buffer.alloc(4 + 8 * 66);
    bytes.writeUInt32LE(digests.length, 0);
    digests.forEach((digest, at) => { bytes.writeUInt16LE(digest.length, 4 + at * 66); bytes.set(digest, 6 + at * 66); });
    return bytes;
  });
  const count = Buffer.alloc(4);
  count.writeUInt32LE(lists.length);
  return Buffer.concat([selection, count, ...lists]);
}
