/**
 * Attacks on what a gateway keeps and on its TPM: stolen disks and blobs, a cleared TPM, root on the running machine. Each name says what stops it, or that
 * nothing here does; the test asserts exactly that. Table: docs/security.md.
 */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bootPolicy } from '#drivers/tpm2/bootPolicy.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { openVault } from '#drivers/tpm2/vault.ts';
import { IdentityFiles } from '#provisioning/identity/files.ts';
import { IdentityKeeper } from '#provisioning/identity/keeper.ts';
import { sealingPolicyOf } from '#provisioning/identity/sealedFile.ts';
import { equalBytes, toHex } from '#runtime/core/bytes.ts';
import { systemClock } from '#runtime/core/clock.ts';
import type { ErrorCode } from '#runtime/core/errors.ts';
import { signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { readCounter } from '#runtime/ledger/anchors.ts';
import { decodeBlock } from '#runtime/ledger/block.ts';
import { decodeBundleBody, encodeBundle, openBundle } from '#runtime/ledger/bundle.ts';
import { decodeEvidence } from '#runtime/ledger/evidence.ts';
import { buildProof } from '#runtime/ledger/proofBuilder.ts';
import { openReader } from '#runtime/ledger/reader.ts';
import { parsePolicy } from '#runtime/verify/policy.ts';
import { verifyBundle } from '#runtime/verify/verifier.ts';
import { Gateway, logLines, tenzro } from '#test/support/gateway.ts';
import { MemoryChain, testReading } from '#test/support/memoryChain.ts';
import { connectClient } from '#test/support/mqttClient.ts';
import { requirePeer } from '#test/support/peers.ts';
import { run, type Ran } from '#test/support/process.ts';
import { EMULATED, proofOf, seal, Victim } from '#test/support/rollback.ts';
import { NEVER } from '#test/support/sealHarness.ts';
import { temporaryTpm, transportTo, type TemporaryTpm } from '#test/support/swtpm.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { TestBoot, TpmSealer } from '#test/support/tpmChain.ts';

const failure = (code: ErrorCode, pattern = /./) => (error: Error & { code?: string }): boolean => error.code === code && pattern.test(error.message);
const MEASURED = Buffer.alloc(32, 1);

describe('attack: keys that were sealed', function () {
  this.timeout(60_000);
  let dir: TempDir;
  let genuine: TemporaryTpm;
  let tpm: Tpm;
  before(async function () { genuine = await temporaryTpm(this, { own: true }); });
  after(async () => { await genuine?.[Symbol.asyncDispose](); });
  beforeEach(async () => { await genuine.restart(); dir = tempDir('attack-keys'); tpm = new Tpm(transportTo(genuine.address)); });
  afterEach(async () => { await tpm[Symbol.asyncDispose](); dir[Symbol.dispose](); });

  const keeper = (with_: Tpm = tpm, dataDir = dir.path): IdentityKeeper => new IdentityKeeper({
    files: new IdentityFiles(dataDir), vault: { kind: 'value', value: openVault(with_) }, ownsTpm: false, node: 'victim', pcrs: [0, 7], policyOf: bootPolicy, chainHasBegun: () => false, clock: systemClock,
  });
  /** Past our own judgement: the blob and its approval straight into a TPM, under that TPM's storage key. */
  async function unsealBy(with_: Tpm, dataDir = dir.path): Promise<Buffer> {
    const files = new IdentityFiles(dataDir);
    const { header, key } = await files.read('sealed') ?? assert.fail('no keys');
    const [approval] = await files.readApprovals();
    assert.ok(key.kind === 'tpm' && approval);
    const { parent } = await openVault(with_).prepare(NEVER);
    return openVault(with_).unseal(key.sealed, sealingPolicyOf(header), approval, parent, NEVER);
  }

  it('stolen sealed blob with its approvals, in another TPM: refused by its storage key, identity.tpm_foreign and identity.damaged', async function () {
    await keeper().keys(NEVER);
    assert.equal((await unsealBy(tpm)).length, 32, 'the control: where they were sealed');
    await using thief = await temporaryTpm(this, { own: true });
    await using elsewhere = new Tpm(transportTo(thief.address));
    await assert.rejects(keeper(elsewhere).keys(NEVER), failure('identity.tpm_foreign'));
    await assert.rejects(unsealBy(elsewhere), failure('identity.damaged', /does not take what it had sealed/));
  });

  it('stolen sealed blob in its own TPM under another boot state: refused by the policy over PCRs, identity.boot_changed and tpm.refused', async () => {
    await keeper().keys(NEVER);
    await tpm.pcr.extend(7, MEASURED, NEVER);
    await assert.rejects(keeper().keys(NEVER), failure('identity.boot_changed', /PCR 7/));
    await assert.rejects(unsealBy(tpm), failure('tpm.refused', /policyAuthorize/));
  });

  it('stolen sealed blob in its own TPM after a revocation: refused by the NV counter, identity.revoked and tpm.refused', async () => {
    const open = keeper();
    await open.keys(NEVER);
    using copy = tempDir('stolen');
    cpSync(join(dir.path, 'identity'), join(copy.path, 'identity'), { recursive: true });
    await open.prepareNext({ keep: true }, NEVER);
    await open.commitNext(NEVER);
    await assert.rejects(keeper(tpm, copy.path).keys(NEVER), failure('identity.revoked'));
    await assert.rejects(unsealBy(tpm, copy.path), failure('tpm.refused', /policyNv/));
  });

  it('root on the running gateway takes the seeds out of the TPM: nothing here stops it in the boot state that they are sealed to, and what was taken stays taken', async () => {
    const { signer } = await keeper().keys(NEVER);
    const stolen = await keeper().withSecrets(async ({ signingSeed }) => Buffer.from(signingSeed), NEVER);
    assert.ok(equalBytes(signerOfSeed(stolen).publicKey, signer.publicKey));
    await tpm.pcr.extend(0, MEASURED, NEVER);
    await assert.rejects(keeper().withSecrets(async () => undefined, NEVER), failure('identity.boot_changed'), 'another boot state gives no more');
  });

  it('stolen signing seed, used without the TPM: refuted by trust.policy, for a block without a quote is software', async () => {
    const chain = new MemoryChain();
    const sealer = new TpmSealer(chain);
    chain.append(testReading(0));
    await using boot = await TestBoot.open(transportTo(genuine.address));
    await sealer.seal(boot, { first: true });
    const entry = chain.append(testReading(1));
    sealer.soft.seal();
    const { outcome, trust, checks } = verifyBundle(buildProof(chain, entry), parsePolicy({ version: 1, accept: ['dtpm', 'enrolled', 'emulated'] }));
    assert.deepEqual([outcome, trust.level, checks.find(({ code }) => code === 'trust.policy')?.result], ['refuted', 'software', 'fail']);
  });
});

describe('attack: root on the running gateway', function () {
  this.timeout(30_000);
  let tpm: TemporaryTpm;
  let victim: Victim;
  before(async function () { tpm = await temporaryTpm(this); });
  after(async () => { await tpm?.[Symbol.asyncDispose](); });
  beforeEach(() => { victim = new Victim(tpm); });
  afterEach(() => { victim[Symbol.dispose](); });

  it('root records and signs what never was, from now on: nothing here stops it', async () => {
    await victim.run(async (sealing) => {
      await seal(sealing);
      const { outcome } = verifyBundle(proofOf(sealing, await seal(sealing)), EMULATED);
      assert.equal(outcome, 'verified', 'the entry was made up: no sensor said so, and no proof can tell');
    });
  });

  it('root alters an entry in a proof of an earlier block: refuted by entry.inclusion', async () => {
    await victim.run(async (sealing) => {
      const { body } = openBundle(proofOf(sealing, await seal(sealing)));
      const bundle = decodeBundleBody(body);
      const lie = encodeBundle({ ...bundle, entries: bundle.entries.map((entry) => ({ ...entry, bytes: testReading(7) })) });
      const { outcome, checks } = verifyBundle(lie, EMULATED);
      assert.deepEqual([outcome, checks.find(({ code }) => code === 'entry.inclusion')?.result], ['refuted', 'fail']);
    });
  });

  it('root, with keys and TPM in hand, writes an attested block anew: PCR 14 shows it in the chain, and who holds the old proof refutes it live', async () => {
    let image = '';
    const { told, sequence } = await victim.run(async (sealing) => {
      await seal(sealing);
      image = victim.image();
      const info = await seal(sealing);
      return { told: proofOf(sealing, info), sequence: info.sequence };
    });
    victim.restore(image);
    const { findings } = await victim.run((sealing) => seal(sealing));
    assert.deepEqual(findings.map(({ kind }) => kind), ['extensions']);
    assert.equal((await victim.fsck()).ok, false);
    const { outcome, checks } = await victim.verifyLive(told, sequence);
    assert.deepEqual([outcome, checks.find(({ code }) => code === 'tail')?.result], ['refuted', 'fail']);
  });
});

const TOPIC = 'te/device/motor///m/';
const SECRET = '17.125';

describe('attack: on a gateway, its disk and its TPM', function () {
  this.timeout(60_000);
  let dir: TempDir;
  let tpm: TemporaryTpm;
  const file = (name: string): string => join(dir.path, name);
  const configure = (tpmSettings: string, name = 'tenzro.yaml'): string => {
    writeFileSync(file(name), `attest: { intervalMs: 1000, tpm: ${tpmSettings} }\nsystem: { enabled: false }\ninfer: { enabled: false }
ingest: { record: [{ topic: ${TOPIC}secret, mode: every, confidential: true }] }\nconfidential: { recipients: [{ name: owner, publicKeyFile: owner.key.pub }] }\n`);
    return file(name);
  };
  const socket = ({ address }: TemporaryTpm): string => `{ mode: socket, path: '${address}' }`;
  const command = (dataDir: string, ...args: string[]): Promise<Ran> => tenzro(file(dataDir), args, { configFile: file('tenzro.yaml') });
  const record = async (gateway: Gateway, channel: string, payload: string): Promise<void> => {
    await using client = await connectClient(await gateway.port());
    await client.mqtt.publishAsync(`${TOPIC}${channel}`, payload, { qos: 1 });
  };
  const verify = async (proof: string): Promise<void> => {
    writeFileSync(file('policy.yaml'), 'version: 1\naccept: [emulated]\n');
    const { code, output } = await command('data', 'verify', file(proof), '--policy', file('policy.yaml'));
    assert.equal(code, 0, output);
  };

  /** Records a plain and a confidential reading under an attested block, proves the first, and stops. */
  async function runOnce(): Promise<void> {
    await using gateway = await Gateway.start({ dataDir: file('data'), configFile: file('tenzro.yaml') });
    await record(gateway, 'plain', '{"rpm": 1480}');
    await record(gateway, 'secret', `{"amps": ${SECRET}}`);
    await gateway.until('a block over everything', ({ chain }) => chain.attestedEntries > 3 && chain.attestedEntries === chain.entries, 20_000);
    const [plain] = await logLines(file('data'), ['--kind', 'reading']);
    assert.equal((await command('data', 'proof', String(plain?.index), '-o', file('old.tzp'))).code, 0);
    assert.equal(await gateway.stop(), 0);
  }

  beforeEach(async function () {
    requirePeer(this, 'tpm2_clear');
    dir = tempDir('attack-gateway');
    mkdirSync(file('data'), { mode: 0o700 });
    tpm = await temporaryTpm(this, { tools: true });
    configure(socket(tpm));
    assert.equal((await command('data', 'confidential', 'keygen', '-o', file('owner.key'))).code, 0);
    await runOnce();
  });
  afterEach(async () => { await tpm?.[Symbol.asyncDispose](); dir[Symbol.dispose](); });

  it('stolen disk, without its TPM or beside another one: keys stay shut, identity.tpm_missing and identity.tpm_foreign; plain entries can be read, confidential ones not', async function () {
    await using thief = await temporaryTpm(this, { own: true });
    for (const [name, settings, code] of [['none', '{ mode: none }', 'identity.tpm_missing'], ['other', socket(thief), 'identity.tpm_foreign']] as const) {
      cpSync(file('data'), file(name), { recursive: true });
      await using gateway = await Gateway.start({ dataDir: file(name), configFile: configure(settings, `${name}.yaml`) });
      const { identity, chain } = await gateway.until('locked keys', (status) => status.identity.state === 'locked');
      assert.equal(identity.code, code);
      await record(gateway, 'plain', '{"rpm": 1}');
      const after = await gateway.until('the entry', (status) => status.chain.entries > chain.entries);
      assert.equal(after.chain.blocks, chain.blocks, 'nothing that it records is signed');
      await gateway.stop();
      assert.match(JSON.stringify(await logLines(file(name), ['--kind', 'reading'])), /1480/, 'what was not marked confidential is there to read');
      assert.ok(!readFileSync(join(file(name), 'ledger/chain/data.mdb')).includes(SECRET));
    }
  });

  it('TPM2_Clear: the keys are gone for good, identity.tpm_cleared; old proofs, the attestation key and the count of the NV counter survive it, a new chain is the way back', async () => {
    const genesis = async (): Promise<{ readonly ak: string; readonly counter: bigint }> => {
      await using reader = await openReader(file('data'));
      const { payload, evidence } = reader.block(0);
      const told = decodeEvidence(evidence);
      assert.ok(told.kind === 'tpm2' && told.counter);
      return { ak: toHex(decodeBlock(payload).identity?.akPublic ?? assert.fail('no AK')), counter: readCounter(told.counter).value };
    };
    const before = await genesis();
    const cleared = await run('tpm2_clear', ['-c', 'lockout'], { env: { ...process.env, TPM2TOOLS_TCTI: tpm.tcti } });
    assert.equal(cleared.code, 0, cleared.output);
    {
      await using gateway = await Gateway.start({ dataDir: file('data'), configFile: file('tenzro.yaml') });
      const { identity, chain } = await gateway.until('locked keys', (status) => status.identity.state === 'locked');
      assert.equal(identity.code, 'identity.tpm_cleared');
      await record(gateway, 'plain', '{"rpm": 2}');
      assert.equal((await gateway.until('the entry', (status) => status.chain.entries > chain.entries)).chain.blocks, chain.blocks);
      await gateway.stop();
    }
    await verify('old.tzp');
    assert.equal((await command('data', 'identity', 'recover', '--new-chain')).code, 0);
    await using gateway = await Gateway.start({ dataDir: file('data'), configFile: file('tenzro.yaml') });
    await gateway.until('a block', ({ chain }) => chain.attestedEntries > 0, 20_000);
    await gateway.stop();
    const after = await genesis();
    assert.equal(after.ak, before.ak);
    assert.ok(after.counter > before.counter);
    assert.match(JSON.stringify(await logLines(file('data'), ['--kind', 'epoch'])), /identity\.recovered/);
  });
});
