import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bootPolicy } from '#drivers/tpm2/bootPolicy.ts';
import { permanent } from '#drivers/tpm2/command.ts';
import { COMMAND, HANDLE } from '#drivers/tpm2/constants.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { socketTransport } from '#drivers/tpm2/transport.ts';
import { openVault } from '#drivers/tpm2/vault.ts';
import { approve, formatApproval, formatRequest, parseApproval, parseRequest } from '#provisioning/identity/approval.ts';
import { authorityPoint } from '#provisioning/identity/authority.ts';
import { IdentityFiles } from '#provisioning/identity/files.ts';
import { IdentityKeeper, type KeeperOptions } from '#provisioning/identity/keeper.ts';
import { systemClock } from '#runtime/core/clock.ts';
import type { ErrorCode } from '#runtime/core/errors.ts';
import { newSeed, signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { NEVER } from '#test/support/sealHarness.ts';
import { temporaryTpm, type TemporaryTpm } from '#test/support/swtpm.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { honest, tpmProxy, type Meddle } from '#test/support/tpmProxy.ts';

const PCRS = [0, 7];
const DIGEST = Buffer.alloc(32, 1);

describe('identity, sealed by an emulator', () => {
  let dir: TempDir;
  let emulator: TemporaryTpm;
  let tpm: Tpm;
  beforeEach(async function () {
    dir = tempDir('identity');
    emulator = await temporaryTpm(this);
    tpm = new Tpm(socketTransport(emulator.address));
  });
  afterEach(async () => {
    await tpm[Symbol.asyncDispose]();
    await emulator[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  /** As after a start of the gateway. */
  const keeper = (wanted: Partial<KeeperOptions> = {}, dataDir = dir.path): IdentityKeeper => new IdentityKeeper({
    files: new IdentityFiles(dataDir), vault: { kind: 'value', value: openVault(tpm) }, ownsTpm: false, node: 'workshop', pcrs: PCRS, policyOf: bootPolicy,
    chainHasBegun: () => existsSync(join(dataDir, 'identity')), clock: systemClock, ...wanted,
  });
  const keyOf = async (from: IdentityKeeper): Promise<string> => Buffer.from((await from.keys(NEVER)).signer.publicKey).toString('hex');
  const locked = (from: IdentityKeeper, code: ErrorCode, detail = /./): Promise<void> => assert.rejects(from.keys(NEVER), (error: Error & { code?: string }) => error.code === code && detail.test(error.message));
  const reset = async (): Promise<void> => {
    await tpm[Symbol.asyncDispose]();
    await emulator.restart({ hard: true });
    tpm = new Tpm(socketTransport(emulator.address));
  };
  const without: Partial<KeeperOptions> = { vault: { kind: 'none', reason: 'no TPM in this test' } };

  it('is made once and opens again, also after a reset of the TPM', async () => {
    const key = await keyOf(keeper());
    assert.equal(await keyOf(keeper()), key);
    await reset();
    assert.equal(await keyOf(keeper()), key);
    assert.deepEqual(readdirSync(join(dir.path, 'identity')).toSorted(), ['approvals.json', 'sealed.cbor']);
    for (const name of readdirSync(join(dir.path, 'identity'))) assert.equal(statSync(join(dir.path, 'identity', name)).mode & 0o777, 0o600);
    assert.equal(statSync(join(dir.path, 'identity')).mode & 0o777, 0o700);
  });

  it('is locked in another boot state, says which PCR differs, and opens in the approved one again', async () => {
    const key = await keyOf(keeper());
    await tpm.pcr.extend(7, DIGEST, NEVER);
    const waiting = keeper();
    await locked(waiting, 'identity.boot_changed', /PCR 7 differs/);
    await assert.rejects(waiting.approveNext(undefined, '', NEVER), { code: 'identity.boot_changed' });
    await reset();
    assert.equal(await keyOf(keeper()), key);
  });

  it('keeps no approval of PCR values that only the bus has seen', async () => {
    const wanted = Buffer.alloc(32, 7);
    /** PCR 7, the last digest of an answer, as a probe on the bus would have it. */
    const lie: Meddle = async (command, ask) => {
      const response = await ask(command);
      if (command.readUInt32BE(6) === COMMAND.pcrRead) wanted.copy(response, response.length - wanted.length);
      return response;
    };
    let meddle = honest;
    await using proxy = await tpmProxy(emulator.address, { meddle: (command, ask) => meddle(command, ask) });
    await using bus = new Tpm(socketTransport(proxy.address));
    const probed = (): IdentityKeeper => keeper({ vault: { kind: 'value', value: openVault(bus) } });
    meddle = lie;
    await locked(probed(), 'identity.tpm_missing', /tpm\.busy: .*altered on their way/);
    assert.equal(existsSync(join(dir.path, 'identity', 'sealed.cbor')), false);
    meddle = honest;
    rmSync(join(dir.path, 'identity'), { recursive: true, force: true });
    const open = probed();
    await keyOf(open);
    // The bus tells the truth while the keys open, and lies to the approval.
    const approvals = readFileSync(join(dir.path, 'identity', 'approvals.json'), 'utf8');
    let reads = 0;
    meddle = (command, ask) => (command.readUInt32BE(6) === COMMAND.pcrRead && (reads += 1) > 1 ? lie(command, ask) : ask(command));
    await assert.rejects(open.approveNext(undefined, '', NEVER), { code: 'tpm.busy' });
    assert.equal(reads, 2);
    reads = 0;
    await assert.rejects(open.prepareNext({ keep: true }, NEVER), { code: 'tpm.busy' });
    assert.equal(existsSync(join(dir.path, 'identity', 'next.cbor')), false);
    assert.equal(readFileSync(join(dir.path, 'identity', 'approvals.json'), 'utf8'), approvals);
  });

  it('approves, being open, the state to come', async () => {
    const open = keeper();
    const key = await keyOf(open);
    await tpm.pcr.extend(7, DIGEST, NEVER);
    const next = (await open.request(NEVER)).state.pcrs;
    await reset();
    await keeper().approveNext(next, 'the next image', NEVER);
    assert.equal(await keyOf(keeper()), key);
    await tpm.pcr.extend(7, DIGEST, NEVER);
    assert.equal(await keyOf(keeper()), key);
    await tpm.pcr.extend(0, DIGEST, NEVER);
    await locked(keeper(), 'identity.boot_changed', /\(the next image\): PCR 0 differs/);
  });

  it('waits for an external authority, which approves on a machine without a TPM', async () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const external = { authority: authorityPoint(privateKey) };
    const key = await keyOf(keeper(external));
    const restarted = keeper(external);
    await locked(restarted, 'identity.unapproved');
    const request = formatRequest(await restarted.request(NEVER));
    const approval = formatApproval(approve(parseRequest(request), 'first image', privateKey, bootPolicy));
    await assert.rejects(restarted.adopt({ ...parseApproval(approval), signature: Buffer.alloc(64) }), { code: 'identity.approval' });
    const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
    assert.throws(() => approve(parseRequest(request), '', stranger, bootPolicy), { code: 'identity.authority' });
    await keeper({ ...external, ...without }).adopt(parseApproval(approval));
    assert.equal(await keyOf(restarted), key);
    await assert.rejects(restarted.approveNext(undefined, '', NEVER), { code: 'identity.authority' });
  });

  it('revoked: an old copy of the data directory does not open, even with the new approvals', async () => {
    const open = keeper();
    const key = await keyOf(open);
    using copy = tempDir('copy');
    cpSync(join(dir.path, 'identity'), join(copy.path, 'identity'), { recursive: true });
    await open.prepareNext({ keep: true }, NEVER);
    await open.commitNext(NEVER);
    assert.equal(await keyOf(keeper()), key);
    await locked(keeper({}, copy.path), 'identity.revoked', /counts/);
    cpSync(join(dir.path, 'identity', 'approvals.json'), join(copy.path, 'identity', 'approvals.json'));
    await locked(keeper({}, copy.path), 'identity.revoked');
  });

  it('rotated: other keys, and the old ones never open again', async () => {
    const open = keeper({ ownsTpm: true });
    const old = await keyOf(open);
    using copy = tempDir('copy');
    cpSync(join(dir.path, 'identity'), join(copy.path, 'identity'), { recursive: true });
    const successor = await open.prepareNext({ keep: false }, NEVER);
    await open.commitNext(NEVER);
    const now = await keyOf(keeper({ ownsTpm: true }));
    assert.notEqual(now, old);
    assert.equal(now, Buffer.from(successor.signer.publicKey).toString('hex'));
    await locked(keeper({ ownsTpm: true }, copy.path), 'identity.revoked');
  });

  it('drops successors whose change was not committed', async () => {
    const open = keeper();
    const key = await keyOf(open);
    await open.prepareNext({ keep: false }, NEVER);
    assert.equal(await keyOf(keeper()), key);
    assert.ok(!existsSync(join(dir.path, 'identity', 'next.cbor')));
  });

  it('tells a missing, a foreign and a cleared TPM apart', async function () {
    await keyOf(keeper());
    await locked(keeper(without), 'identity.tpm_missing', /no TPM in this test/);
    await using other = await temporaryTpm(this);
    await using another = new Tpm(socketTransport(other.address));
    await locked(keeper({ vault: { kind: 'value', value: openVault(another) } }), 'identity.tpm_foreign');
    await emulator.stop();
    await locked(keeper(), 'identity.tpm_missing', /tpm\./);
    await emulator.restart();
    await tpm[Symbol.asyncDispose]();
    tpm = new Tpm(socketTransport(emulator.address));
    await keyOf(keeper());
    await tpm.hierarchy.clear(permanent(HANDLE.lockout), NEVER);
    await locked(keeper(), 'identity.tpm_cleared');
  });

  it('lies in a file for its owner only where there is no TPM, and says why', async () => {
    const made = keeper(without);
    const key = await keyOf(made);
    assert.deepEqual(made.state, { at: 'open', protection: 'file' });
    assert.deepEqual(made.header?.protection, { kind: 'file', reason: 'no TPM in this test' });
    assert.equal(await keyOf(keeper(without)), key);
    assert.equal(await keyOf(keeper()), key);
    await made.prepareNext({ keep: false }, NEVER);
    await made.commitNext(NEVER);
    assert.notEqual(await keyOf(keeper(without)), key);
  });

  it('moves from a file under the TPM when it is rotated', async () => {
    await keyOf(keeper(without));
    const now = keeper();
    const { signer } = await now.prepareNext({ keep: false }, NEVER);
    await now.commitNext(NEVER);
    assert.equal(await keyOf(now), Buffer.from(signer.publicKey).toString('hex'));
    assert.deepEqual(now.state, { at: 'open', protection: 'tpm' });
  });

  it('takes over the seed file of the first release, seals it and destroys it', async () => {
    const seed = newSeed();
    const key = Buffer.from(signerOfSeed(seed).publicKey).toString('hex');
    writeFileSync(join(dir.path, 'identity.seed'), seed, { mode: 0o600 });
    await emulator.stop();
    assert.equal(await keyOf(keeper({ chainHasBegun: () => true })), key); // the chain goes on; the TPM will come
    assert.ok(existsSync(join(dir.path, 'identity.seed')));
    await emulator.restart();
    await tpm[Symbol.asyncDispose]();
    tpm = new Tpm(socketTransport(emulator.address));
    assert.equal(await keyOf(keeper({ chainHasBegun: () => true })), key);
    assert.ok(!existsSync(join(dir.path, 'identity.seed')));
    assert.ok(!readFileSync(join(dir.path, 'identity', 'sealed.cbor')).includes(seed));
    assert.equal(await keyOf(keeper()), key);
  });

  it('never makes keys for a chain that has others', async () => {
    await locked(keeper({ chainHasBegun: () => true }), 'identity.missing');
    assert.ok(!existsSync(join(dir.path, 'identity')));
  });

  it('refuses what others could have read or put there', async () => {
    const key = await keyOf(keeper());
    const sealed = join(dir.path, 'identity', 'sealed.cbor');
    for (const mode of [0o640, 0o604, 0o660]) {
      chmodSync(sealed, mode);
      await locked(keeper(), 'identity.permissions');
    }
    chmodSync(sealed, 0o600);
    assert.equal(await keyOf(keeper()), key);
    const bytes = readFileSync(sealed);
    rmSync(sealed);
    writeFileSync(join(dir.path, 'elsewhere'), bytes, { mode: 0o600 });
    symlinkSync(join(dir.path, 'elsewhere'), sealed);
    await locked(keeper(), 'identity.io');
    rmSync(sealed);
    mkdirSync(sealed, { mode: 0o700 });
    await locked(keeper(), 'identity.io');
  });

  it('with any byte of its files changed, cut or added to, is damaged or as before, and nothing worse', async () => {
    const key = await keyOf(keeper());
    const path = join(dir.path, 'identity', 'sealed.cbor');
    const good = readFileSync(path);
    for (let at = 0; at < good.length; at += 1) {
      const bad = Buffer.from(good);
      bad[at] = (bad[at] ?? 0) ^ (1 << (at % 8));
      writeFileSync(path, bad);
      await locked(keeper(), 'identity.damaged');
    }
    for (const bad of [good.subarray(1), good.subarray(0, good.length - 1), Buffer.concat([good, good]), Buffer.alloc(0), Buffer.alloc(100_000)]) {
      writeFileSync(path, bad);
      await locked(keeper(), 'identity.damaged');
    }
    writeFileSync(path, good);
    const approvals = join(dir.path, 'identity', 'approvals.json');
    const text = readFileSync(approvals);
    for (let at = 0; at < text.length; at += 7) {
      const bad = Buffer.from(text);
      bad[at] = (bad[at] ?? 0) ^ 1;
      writeFileSync(approvals, bad);
      const state = await keeper().inspect(NEVER);
      assert.ok(state.at === 'unsealing' || (state.at === 'locked' && ['identity.damaged', 'identity.unapproved', 'identity.boot_changed'].includes(state.code)), `byte ${at}: ${JSON.stringify(state)}`);
    }
    writeFileSync(approvals, text);
    assert.equal(await keyOf(keeper()), key);
  });
});
