import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createPublicKey, X509Certificate } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { receiptKeyOf, buildHouse, filesOf, openHouse } from '#runtime/controller/house.ts';
import { decryptOwnerKey } from '#runtime/crypto/ownerKey.ts';
import { mlDsa65PrivateKey, newSeed, signerOfSeed, rawPublicKeyOf } from '#runtime/crypto/mldsa.ts';
import { parsePolicy } from '#runtime/verify/policy.ts';
import { parseDocumentText } from '#runtime/config/document.ts';
import { tenzro } from '#test/support/gateway.ts';
import { requirePeer } from '#test/support/peers.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const PASSPHRASE = Buffer.from('correct horse battery');
const NOW_MS = Date.UTC(2026, 10, 23);
const YEAR_MS = 365 * 86_400_000;

describe("controller: a fleet's folder", function () {
  this.timeout(60_000);
  let dir: TempDir;
  let home: string;
  before(async () => {
    dir = tempDir('house');
    home = join(dir.path, 'fleet');
    await buildHouse({ dir: home, name: 'workshop', hosts: ['fleet.example.org', '192.0.2.7'], policy: 'version: 1\n', passphrase: PASSPHRASE, nowMs: NOW_MS });
  });
  after(() => { dir[Symbol.dispose](); });

  it('opens with its passphrase: the same receipt key and authority each time', async () => {
    const [one, other] = [await openHouse(home, PASSPHRASE), await openHouse(home, PASSPHRASE)];
    assert.deepEqual([one.name, one.hosts], ['workshop', ['fleet.example.org', '192.0.2.7']]);
    assert.equal(receiptKeyOf(one.signer), receiptKeyOf(other.signer));
    assert.deepEqual(one.authority.intermediate, other.authority.intermediate);
    assert.equal(one.authority.endsMs, NOW_MS + 10 * YEAR_MS);
  });

  it('shows nobody else a secret, and no secret in clear', async () => {
    assert.equal(statSync(home).mode & 0o777, 0o700);
    for (const name of ['server.key', 'root.key', 'owner-1.key', 'owner-2.key']) {
      assert.equal(statSync(join(home, name)).mode & 0o777, 0o600, name);
      assert.match(readFileSync(join(home, name), 'latin1'), /^-----BEGIN TENZRO ENCRYPTED [A-Z ]+-----\n[A-Za-z0-9+/=\n]+-----END/);
    }
    assert.ok(!readdirSync(home).some((name) => /PRIVATE KEY/.test(statSync(join(home, name)).isFile() ? readFileSync(join(home, name), 'latin1') : '')));
    chmodSync(join(home, 'server.key'), 0o640);
    await assert.rejects(openHouse(home, PASSPHRASE), { code: 'controller.key' });
    chmodSync(join(home, 'server.key'), 0o600);
  });

  it('has two owner keys as tenzro fleet keygen makes them, with their public halves', () => {
    const publics = filesOf(home).owners.map((path) => {
      const seed = decryptOwnerKey(readFileSync(path, 'latin1'), PASSPHRASE);
      const told = rawPublicKeyOf(createPublicKey(readFileSync(`${path}.pub`)));
      assert.deepEqual(told, Buffer.from(signerOfSeed(seed).publicKey));
      return told?.toString('hex');
    });
    assert.notEqual(publics[0], publics[1]);
  });

  it('serves without the keys that command and without the root', async () => {
    const aside = join(dir.path, 'aside');
    mkdirSync(aside);
    const moved = ['owner-1.key', 'owner-2.key', 'root.key'];
    for (const name of moved) renameSync(join(home, name), join(aside, name));
    await openHouse(home, PASSPHRASE);
    for (const name of moved) renameSync(join(aside, name), join(home, name));
  });

  it('refuses another passphrase, a swapped file, and a folder that is none', async () => {
    await assert.rejects(openHouse(home, Buffer.from('correct horse batterz')), { code: 'fleet.key' });
    await assert.rejects(openHouse(dir.path, PASSPHRASE), { code: 'controller.directory' });
    const [server, root] = ['server.key', 'root.key'].map((name) => readFileSync(join(home, name)));
    writeFileSync(join(home, 'server.key'), root ?? '');
    await assert.rejects(openHouse(home, PASSPHRASE), { code: 'fleet.key' });
    writeFileSync(join(home, 'server.key'), server ?? '');
  });

  it('is never made over a folder with something in it', async () => {
    const before = readFileSync(join(home, 'server.key'));
    await assert.rejects(buildHouse({ dir: home, name: 'again', hosts: [], policy: '', passphrase: PASSPHRASE, nowMs: NOW_MS }), { code: 'controller.directory' });
    assert.deepEqual(readFileSync(join(home, 'server.key')), before);
  });

  describe('its authority', () => {
    it('issues a broker certificate that holds for the openssl command, under each name, also for a clock at 1970', async function () {
      const openssl = requirePeer(this, 'openssl');
      const { authority, hosts } = await openHouse(home, PASSPHRASE);
      const { certificate, key } = authority.brokerIdentity(hosts, NOW_MS);
      writeFileSync(join(dir.path, 'broker.pem'), certificate);
      assert.ok(new X509Certificate(certificate).publicKey.equals(createPublicKey(key)));
      for (const [flag, value] of [['-verify_hostname', 'fleet.example.org'], ['-verify_ip', '192.0.2.7']] as const) {
        for (const seconds of [86_400, NOW_MS / 1_000]) {
          const { stdout, stderr } = spawnSync(openssl, ['verify', '-x509_strict', '-purpose', 'sslserver', '-attime', String(seconds), flag, value, '-CAfile', join(home, 'ca.pem'), '-untrusted', join(dir.path, 'broker.pem'), join(dir.path, 'broker.pem')], { encoding: 'utf8' });
          assert.match(stdout, /: OK/, stderr);
        }
      }
      assert.notEqual(authority.brokerIdentity(hosts, NOW_MS).key, key);
    });

    it("certifies a gateway's identity key", async () => {
      const { authority } = await openHouse(home, PASSPHRASE);
      const key = mlDsa65PrivateKey(newSeed());
      assert.ok(key);
      const leaf = new X509Certificate(authority.gatewayCertificate(createPublicKey(key), 'edge-1', NOW_MS));
      assert.ok(leaf.checkPrivateKey(key) && leaf.checkIssued(new X509Certificate(authority.intermediate)));
      assert.deepEqual([leaf.subject, leaf.ca, Date.parse(leaf.validTo)], ['CN=edge-1', false, NOW_MS + YEAR_MS]);
      assert.ok(new X509Certificate(authority.intermediate).checkIssued(new X509Certificate(authority.rootPem)));
    });
  });
});

describe('tenzro fleet init', function () {
  this.timeout(60_000);
  let dir: TempDir;
  beforeEach(() => { dir = tempDir('init'); });
  afterEach(() => { dir[Symbol.dispose](); });
  const at = (name: string): string => join(dir.path, name);
  const init = (passphrase: string, ...args: readonly string[]) => {
    writeFileSync(at('passphrase'), `${passphrase}\n`, { mode: 0o600 });
    return tenzro(dir.path, ['fleet', 'init', '--dir', at('fleet'), '--passphrase-file', at('passphrase'), ...args]);
  };

  it('makes the folder, a policy that is one, and says what comes next in three lines', async () => {
    const { code, stdout, output } = await init('correct horse battery', '--name', 'workshop');
    assert.equal(code, 0, output);
    assert.deepEqual(stdout.match(/^\d\./gm), ['1.', '2.', '3.']);
    assert.ok(!output.includes('correct horse'));
    const { value, faults } = parseDocumentText(readFileSync(at('fleet/policy.yaml'), 'utf8'));
    assert.deepEqual(faults, []);
    const { accept, shortfall } = parsePolicy(value);
    assert.deepEqual({ accept, shortfall }, { accept: ['dtpm', 'enrolled'], shortfall: 'refuse' });
    assert.equal((await init('correct horse battery')).code, 2);
  });

  it('wants a passphrase that protects, and names that are some', async () => {
    assert.match((await init('too short')).output, /12 characters or more.*\(fleet\.key\)/);
    assert.match((await init('correct horse battery', '--host', 'fleet example')).output, /neither a host name nor an address \(cli\.usage\)/);
    assert.ok(!existsSync(at('fleet')));
  });
});
