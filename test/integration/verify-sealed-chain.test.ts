/** The whole of attestation and verification on real peers: our sealer on a swtpm that swtpm_setup manufactured, with an EK certificate of its own CA. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { openAnchor } from '#drivers/tpm2/anchor.ts';
import { readCertificateFile, readEndorsement } from '#drivers/tpm2/ek.ts';
import { swtpmTransport } from '#drivers/tpm2/swtpm.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { Sealer } from '#runtime/attest/sealer.ts';
import { systemClock } from '#runtime/core/clock.ts';
import type { Log } from '#runtime/core/ports.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { exchangeKeyOfSeed } from '#runtime/crypto/xwing.ts';
import { decodeBlock, type Identity } from '#runtime/ledger/block.ts';
import { buildProof } from '#runtime/ledger/proofBuilder.ts';
import { CounterTable } from '#runtime/observe/counters.ts';
import { parsePolicy } from '#runtime/verify/policy.ts';
import type { Report } from '#runtime/verify/report.ts';
import { verifyBundle } from '#runtime/verify/verifier.ts';
import { MemoryChain, testReading } from '#test/support/memoryChain.ts';
import { requirePeer } from '#test/support/peers.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { TestBoot, TpmSealer } from '#test/support/tpmChain.ts';

const NEVER = new AbortController().signal;
const quiet: Log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined, child: () => quiet };
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const trustOf = (report: Report): readonly string[] => [report.outcome, report.trust.level];
const detailOf = (report: Report, code: string): string => report.checks.find((check) => check.code === code)?.detail ?? '';

/** A TPM as a vendor ships it: EK certificate in NV, issued by a CA in `folder`. Returns the issuer's PEM. */
function manufacture(swtpmSetup: string, folder: string): string {
  const [ca, state, setup, localca, options] = ['ca', 'state', 'setup.conf', 'localca.conf', 'localca.options'].map((name) => join(folder, name));
  assert.ok(ca && state && setup && localca && options);
  for (const path of [ca, state]) mkdirSync(path);
  writeFileSync(options, '');
  writeFileSync(localca, `statedir = ${ca}\nsigningkey = ${ca}/signkey.pem\nissuercert = ${ca}/issuercert.pem\ncertserial = ${ca}/certserial\n`);
  writeFileSync(setup, `create_certs_tool = ${join(dirname(swtpmSetup), 'swtpm_localca')}\ncreate_certs_tool_config = ${localca}\ncreate_certs_tool_options = ${options}\nactive_pcr_banks = sha256\n`);
  execFileSync(swtpmSetup, ['--tpm2', '--tpmstate', state, '--config', setup, '--create-ek-cert'], { stdio: 'ignore' });
  return readFileSync(join(ca, 'issuercert.pem'), 'utf8');
}

describe('verify what the sealer sealed', function () {
  this.timeout(30_000);
  const chain = new MemoryChain();
  const signer = signerOfSeed(sha256(Buffer.from('a sealed device')));
  const exchangeKey = exchangeKeyOfSeed(sha256(Buffer.from('a sealed device'))).publicKey;
  let folder: TempDir;
  let issuer: string;
  let identity: Identity;
  let pair: { readonly ek: string; readonly ak: string };

  /** One boot: the TPM starts, the sealer seals after each of `readings`, the TPM ends. */
  async function boot(readings: number): Promise<void> {
    await using tpm = new Tpm(swtpmTransport(join(folder.path, 'state')));
    const sealer = new Sealer({
      store: chain, openIdentity: async () => ({ signer, exchangeKey }), context: () => ({ support: {} }), device: 'workshop', openAnchor: { kind: 'value', value: (signal) => openAnchor(tpm, signal) }, softwareDigest: sha256(Buffer.from('software')), bootEpoch: 1,
      modelDigests: () => [], anchorIntervalMs: 600_000, clock: systemClock, counters: new CounterTable(), log: quiet, onBlock: () => undefined,
    });
    for (let reading = 0; reading < readings; reading++) {
      chain.append(testReading(chain.entries.length));
      await sealer.seal({}, NEVER);
    }
  }

  before(async function () {
    requirePeer(this, 'swtpm');
    const swtpmSetup = requirePeer(this, 'swtpm_setup');
    folder = tempDir('sealed');
    issuer = manufacture(swtpmSetup, folder.path);
    await boot(3);
    await boot(3);
    identity = decodeBlock(chain.block(0).payload).identity ?? assert.fail('no identity');
    pair = { ek: hex(sha256(identity.ekPublic ?? assert.fail())), ak: hex(sha256(identity.akPublic ?? assert.fail())) };
  });
  after(() => folder?.[Symbol.dispose]());

  const judge = (index: number, rest: object): Report => verifyBundle(buildProof(chain, index), parsePolicy({ version: 1, ...rest }));

  it('verifies every entry as emulated, each boot folded from its start', () => {
    for (let index = 0; index < chain.entries.length; index++) assert.deepEqual(trustOf(judge(index, { accept: ['emulated'] })), ['verified', 'emulated'], `entry ${index}`);
    const late = judge(5, { accept: ['emulated'] });
    assert.match(detailOf(late, 'pcr14.fold'), /^3 blocks from 4 fold .*TPM's boot/);
    assert.match(detailOf(late, 'counter.increasing'), /genesis \d+, start \d+/);
  });

  it('is dtpm only when the certificate chains to the policy and the policy enrols the pair', () => {
    const policy = { ekRoots: [issuer], enrolled: [pair] };
    assert.deepEqual(trustOf(judge(5, policy)), ['verified', 'dtpm']);
    assert.match(detailOf(judge(5, policy), 'ek.chain'), /^id:00001014 swtpm, firmware \d+ \(quoted: [0-9a-f]{16}\): over 0 intermediates to 'CN=swtpm-localca', a root of the policy$/);
    assert.deepEqual(trustOf(judge(5, { enrolled: [pair] })), ['verified', 'enrolled']);
    const certifiedOnly = judge(5, { ekRoots: [issuer] });
    assert.deepEqual(trustOf(certifiedOnly), ['refuted', 'emulated']);
    assert.match(certifiedOnly.trust.reason, /certificate is genuine, but nothing binds the quoting AK/);
  });

  it('knows a certificate of another CA from a forged one', () => {
    using other = tempDir('other-ca');
    const stranger = manufacture(requirePeer(this.ctx, 'swtpm_setup'), other.path);
    const report = judge(5, { accept: ['emulated'], ekRoots: [stranger] });
    assert.deepEqual(trustOf(report), ['verified', 'emulated']);
    assert.match(detailOf(report, 'ek.chain'), /leads to none of the known roots/);
  });

  it('refutes a genuine certificate beside another EK, and a damaged one', async () => {
    const { ekCertificate, akPublic } = identity;
    assert.ok(ekCertificate && akPublic);
    const damaged = Buffer.from(ekCertificate);
    damaged.writeUInt8(damaged.readUInt8(damaged.length - 5) ^ 1, damaged.length - 5);
    const pasted = await sealedWith({ ekPublic: akPublic });
    assert.equal(pasted.outcome, 'refuted');
    assert.match(detailOf(pasted, 'ek.chain'), /for another key/);
    assert.equal((await sealedWith({ ekCertificate: Buffer.from('3000', 'hex') })).outcome, 'refuted');
    const forged = await sealedWith({ ekCertificate: damaged });
    assert.equal(forged.outcome, 'refuted');
    assert.match(detailOf(forged, 'ek.chain'), /is not signed by 'CN=swtpm-localca'/);
    assert.equal((await sealedWith({ ekCertificate })).outcome, 'verified');
  });

  it('takes the EK certificate from a file as from the TPM, with its issuers', async () => {
    const { ekPublic, ekCertificate } = identity;
    assert.ok(ekPublic && ekCertificate);
    const path = join(folder.path, 'ek.pem');
    writeFileSync(path, new X509Certificate(ekCertificate).toString() + issuer);
    const given = await endorsementFrom(path);
    assert.deepEqual([given.ekPublic, given.ekCertificate].map((bytes) => hex(bytes ?? new Uint8Array(0))), [ekPublic, ekCertificate].map(hex));
    assert.equal(given.ekChain?.length, 1);
    const rooted = await sealedWith({ ekChain: given.ekChain ?? [] });
    assert.equal(rooted.outcome, 'verified', detailOf(rooted, 'ek.chain'));
  });

  async function endorsementFrom(path: string): ReturnType<typeof readEndorsement> {
    await using tpm = new Tpm(swtpmTransport(join(folder.path, 'state')));
    return await readEndorsement(tpm, NEVER, { certificates: readCertificateFile(path) });
  }

  /** A genesis that states the identity with that change, attested by the same TPM. */
  async function sealedWith(change: Partial<Identity>): Promise<Report> {
    await using running = await TestBoot.open(swtpmTransport(join(folder.path, 'state')));
    const forgery = new MemoryChain();
    const sealer = new TpmSealer(forgery);
    forgery.append(testReading(0));
    await sealer.seal(running, { first: true, change: { wallMicros: systemClock.wallMicros(), identity: { ...identity, signingKey: sealer.soft.signer.publicKey, ...change } } });
    return verifyBundle(buildProof(forgery, 0), parsePolicy({ version: 1, accept: ['emulated'], ekRoots: [issuer] }));
  }
});
