import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { newSeed, signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { toHex } from '#runtime/core/bytes.ts';
import { Gateway, logLines, tenzro } from '#test/support/gateway.ts';
import { connectClient } from '#test/support/mqttClient.ts';
import { requirePeer } from '#test/support/peers.ts';
import { run, type Ran } from '#test/support/process.ts';
import { temporaryTpm, type TemporaryTpm } from '#test/support/swtpm.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const TOPIC = 'te/device/main///m/identity';
const POLICY = 'version: 1\naccept: [emulated, software]\n';

describe('a gateway whose keys are sealed', function () {
  this.timeout(60_000);
  let dir: TempDir;
  let tpm: TemporaryTpm;
  let configFile: string;
  const dataDir = (): string => join(dir.path, 'data');
  const configure = (identity = '{}'): void => writeFileSync(configFile, `attest: { intervalMs: 1000, tpm: { mode: socket, path: '${tpm.address}' } }\nidentity: ${identity}\nsystem: { enabled: false }\ninfer: { enabled: false }\n`);
  const start = (): Promise<Gateway> => Gateway.start({ dataDir: dataDir(), configFile });
  const identity = (...args: readonly string[]): Promise<Ran> => tenzro(dataDir(), ['identity', ...args], { configFile });
  const tool = async (name: string, ...args: readonly string[]): Promise<void> => {
    const ran = await run(name, args, { env: { ...process.env, TPM2TOOLS_TCTI: tpm.tcti } });
    assert.equal(ran.code, 0, ran.output);
  };
  const record = async (gateway: Gateway, n: number): Promise<void> => {
    await using client = await connectClient(await gateway.port());
    await client.mqtt.publishAsync(TOPIC, JSON.stringify({ n }), { qos: 1 });
  };
  const allAttested = (gateway: Gateway): ReturnType<Gateway['until']> =>
    gateway.until('a block over everything', ({ chain, identity: keys }) => keys.state === 'open' && chain.attestedEntries > 0 && chain.attestedEntries === chain.entries, 20_000);
  const proves = async (index: number): Promise<void> => {
    const [file, policy] = [join(dir.path, 'proof.tzp'), join(dir.path, 'policy.yaml')];
    writeFileSync(policy, POLICY);
    const made = await tenzro(dataDir(), ['proof', String(index), '-o', file], { configFile });
    assert.equal(made.code, 0, made.output);
    const verified = await tenzro(dataDir(), ['verify', file, '--policy', policy]);
    assert.equal(verified.code, 0, verified.output);
  };

  beforeEach(async function () {
    for (const peer of ['tpm2_pcrextend', 'tpm2_clear'] as const) requirePeer(this, peer);
    dir = tempDir('gateway-identity');
    tpm = await temporaryTpm(this, { tools: true });
    configFile = join(dir.path, 'tenzro.yaml');
    mkdirSync(dataDir(), { mode: 0o700 });
    configure();
  });
  afterEach(async () => {
    await tpm[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  it('records while the boot state is not approved, says so, and covers all of it once its authority has approved', async () => {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const [ownerKey, ownerPublic, request, approval] = ['owner.pem', 'owner.pub', 'request.json', 'approval.json'].map((name) => join(dir.path, name)) as [string, string, string, string];
    writeFileSync(ownerKey, privateKey.export({ format: 'pem', type: 'pkcs8' }));
    writeFileSync(ownerPublic, publicKey.export({ format: 'pem', type: 'spki' }));
    configure(`{ authorityFile: ${ownerPublic}, pcrs: [7] }`);
    const approve = async (beside: Gateway | undefined): Promise<void> => {
      const asked = await identity('request');
      assert.equal(asked.code, 0, asked.output);
      writeFileSync(request, asked.stdout);
      const approved = await tenzro(join(dir.path, 'no-such-directory'), ['identity', 'approve', request, '--key', ownerKey, '--note', 'by a test']);
      assert.equal(approved.code, 0, approved.output);
      writeFileSync(approval, approved.stdout);
      const adopted = await identity('recover', '--approval', approval);
      assert.equal(adopted.code, 0, adopted.output);
      assert.equal(beside === undefined || (await beside.status()) !== undefined, true);
    };
    {
      await using gateway = await start();
      await allAttested(gateway);
      await gateway.stop();
      await approve(undefined);
    }
    {
      await using gateway = await start();
      await record(gateway, 1);
      await allAttested(gateway);
      await gateway.stop();
    }
    await tool('tpm2_pcrextend', '7:sha256=0101010101010101010101010101010101010101010101010101010101010101');
    await using gateway = await start();
    const before = await gateway.until('locked keys', (status) => status.identity.state === 'locked');
    assert.equal(before.identity.code, 'identity.boot_changed');
    assert.match(before.identity.detail ?? '', /PCR 7 differs/);
    assert.match(before.trust.reason, /identity\.boot_changed/);
    await record(gateway, 2);
    const waiting = await gateway.until('the entry', ({ chain }) => chain.entries > before.chain.entries);
    assert.equal(waiting.chain.blocks, before.chain.blocks);
    const told = await identity('status');
    assert.equal(told.code, 1);
    assert.match(told.stdout, /locked[^]*PCR 7[^]*identity request/);
    await approve(gateway);
    const covered = await allAttested(gateway);
    assert.ok(covered.chain.blocks > before.chain.blocks);
    await proves(covered.chain.entries - 1);
    assert.equal(await gateway.stop(), 0);
  });

  it('is locked for good by tpm2_clear, and goes on in a new chain that names the old one, which still verifies', async () => {
    {
      await using gateway = await start();
      await record(gateway, 1);
      const { chain } = await allAttested(gateway);
      await proves(chain.entries - 1);
      await gateway.stop();
    }
    const oldProof = join(dir.path, 'old.tzp');
    cpSync(join(dir.path, 'proof.tzp'), oldProof);
    await tool('tpm2_clear', '-c', 'lockout');
    {
      await using gateway = await start();
      const status = await gateway.until('locked keys', ({ identity: keys }) => keys.state === 'locked');
      assert.equal(status.identity.code, 'identity.tpm_cleared');
      await record(gateway, 2);
      assert.match((await identity('recover', '--new-chain')).output, /ledger\.locked/);
      await gateway.stop();
    }
    const recovered = await identity('recover', '--new-chain');
    assert.equal(recovered.code, 0, recovered.output);
    await using gateway = await start();
    const { chain } = await allAttested(gateway);
    await proves(chain.entries - 1);
    const [first] = await logLines(dataDir(), ['--kind', 'epoch']);
    assert.equal(first?.index, 0);
    assert.match(JSON.stringify(first?.body), /identity\.recovered[^]*identity\.tpm_cleared/);
    assert.equal((await tenzro(dataDir(), ['verify', oldProof, '--policy', join(dir.path, 'policy.yaml')])).code, 0);
    await gateway.stop();
  });

  it('changes its keys: the old chain names the new ones, a copy of the old directory is worthless', async () => {
    {
      await using gateway = await start();
      await record(gateway, 1);
      await allAttested(gateway);
      await gateway.stop();
    }
    const copy = join(dir.path, 'copy');
    cpSync(dataDir(), copy, { recursive: true });
    const rotated = await identity('rotate');
    assert.equal(rotated.code, 0, rotated.output);
    const [old, following] = [join(dir.path, 'old.tzp'), join(dir.path, 'proof.tzp')];
    const [last] = await logLines(dataDir(), ['--kind', 'epoch', '--limit', '1']);
    assert.equal((await tenzro(dataDir(), ['proof', String(last?.index), '-o', old], { configFile })).code, 0);
    {
      await using gateway = await start();
      const { chain } = await allAttested(gateway);
      await proves(chain.entries - 1);
      const followed = await tenzro(dataDir(), ['verify', old, '--successor', following, '--policy', join(dir.path, 'policy.yaml')]);
      assert.equal(followed.code, 0, followed.output);
      assert.match(followed.stdout, /^next {4}verified: chain [0-9a-f]{64} ended by naming the keys of chain [0-9a-f]{64}$/m);
      assert.equal((await tenzro(dataDir(), ['verify', following, '--successor', following, '--policy', join(dir.path, 'policy.yaml')])).code, 2, 'its own epoch entry names no successor');
      const [first] = await logLines(dataDir(), ['--kind', 'epoch']);
      const successor = /SHA-256 ([0-9a-f]{64})/.exec(JSON.stringify(first?.body))?.[1];
      assert.ok(successor !== undefined && rotated.stdout.includes(successor));
      await gateway.stop();
    }
    assert.equal((await identity('rotate')).code, 0);
    await using stale = await Gateway.start({ dataDir: copy, configFile });
    assert.equal((await stale.until('locked keys', ({ identity: keys }) => keys.state === 'locked')).identity.code, 'identity.revoked');
    await stale.stop();
  });

  it('goes on with the chain and the seed of the first release, now sealed', async () => {
    {
      await using gateway = await start();
      await allAttested(gateway);
      await gateway.stop();
    }
    rmSync(join(dataDir(), 'identity'), { recursive: true });
    rmSync(join(dataDir(), 'ledger'), { recursive: true });
    const seed = newSeed();
    writeFileSync(join(dataDir(), 'identity.seed'), seed, { mode: 0o600 });
    await using gateway = await start();
    const { identity: keys } = await allAttested(gateway);
    assert.equal(keys.protection, 'tpm');
    assert.equal(keys.signingKeyDigest, toHex(sha256(signerOfSeed(seed).publicKey)));
    assert.ok(!existsSync(join(dataDir(), 'identity.seed')));
    for (const name of ['sealed.cbor', 'approvals.json']) assert.ok(!readFileSync(join(dataDir(), 'identity', name)).includes(seed));
    await gateway.stop();
  });

  it('owns the TPM only when told to, and works on with it owned', async () => {
    {
      await using gateway = await start();
      await allAttested(gateway);
      assert.match((await identity('own')).output, /identity\.running/);
      assert.match((await identity('status')).stdout, /not owned/);
      await gateway.stop();
    }
    await tool('tpm2_changeauth', '-c', 'owner', '');
    assert.equal((await identity('own')).code, 0);
    await assert.rejects(tool('tpm2_changeauth', '-c', 'owner', ''));
    await using gateway = await start();
    await record(gateway, 1);
    const { chain, trust } = await allAttested(gateway);
    assert.equal(trust.level, 'tpm');
    assert.equal((await gateway.status())?.identity.tpmOwned, true);
    await proves(chain.entries - 1);
    await gateway.stop();
  });
});
