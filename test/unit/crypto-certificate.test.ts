import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createPublicKey, generateKeyPairSync, X509Certificate, type KeyObject } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { issueCertificate, pemOf, rootCertificate, selfSignedCertificate, spkiPin, spkiPinOfCertificate, type Issuer, type Purpose } from '#runtime/crypto/certificate.ts';
import { mlDsa65PrivateKey, newSeed } from '#runtime/crypto/mldsa.ts';
import { parseCertificate } from '#runtime/crypto/x509.ts';
import { requirePeer } from '#test/support/peers.ts';
import { tempDir } from '#test/support/temp.ts';

const NOT_BEFORE_MS = Date.UTC(2026, 0, 2, 3, 4, 5);
const HOSTS = ['gateway.example', '192.0.2.7', '::1', 'fe80::1:2', '::ffff:192.0.2.7'];

const p256 = (): KeyObject => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
function mlDsa(): KeyObject {
  const key = mlDsa65PrivateKey(newSeed());
  assert.ok(key, 'the pinned Node has ML-DSA');
  return key;
}
const certificateOf = (privateKey: KeyObject, notAfterMs = Date.UTC(2049, 11, 31)): Buffer =>
  selfSignedCertificate({ privateKey, commonName: 'a gateway', hosts: HOSTS, notBeforeMs: NOT_BEFORE_MS, notAfterMs });

for (const [name, makeKey] of [['P-256', p256], ['ML-DSA-65', mlDsa]] as const) {
  describe(`self-signed certificate, ${name}`, () => {
    it('is read by OpenSSL with every field, and verifies under its own key', () => {
      const key = makeKey();
      const read = new X509Certificate(certificateOf(key));
      assert.ok(read.verify(createPublicKey(key)));
      assert.ok(!read.verify(createPublicKey(makeKey())));
      assert.equal(read.subject, 'CN=a gateway');
      assert.equal(read.issuer, 'CN=a gateway');
      assert.ok(!read.ca);
      assert.equal(Date.parse(read.validFrom), NOT_BEFORE_MS);
      assert.equal(Date.parse(read.validTo), Date.UTC(2049, 11, 31));
      assert.equal(read.checkHost('gateway.example'), 'gateway.example');
      assert.equal(read.checkHost('other.example'), undefined);
      for (const address of ['192.0.2.7', '::1', 'fe80::1:2', '::ffff:192.0.2.7']) assert.ok(read.checkIP(address), address);
      assert.equal(read.checkIP('192.0.2.8'), undefined);
    });

    it('tells dates from 2050 on, which have another form', () => {
      assert.equal(Date.parse(new X509Certificate(certificateOf(makeKey(), Date.UTC(2066, 5, 7, 8, 9, 10))).validTo), Date.UTC(2066, 5, 7, 8, 9, 10));
    });

    it('has another serial number each time, and the same pin', () => {
      const key = makeKey();
      const [one, other] = [certificateOf(key), certificateOf(key)];
      assert.notEqual(new X509Certificate(one).serialNumber, new X509Certificate(other).serialNumber);
      assert.ok(spkiPinOfCertificate(one).equals(spkiPinOfCertificate(other)));
      assert.ok(spkiPinOfCertificate(one).equals(spkiPin(createPublicKey(key))));
    });
  });
}

describe('self-signed certificate', () => {
  it("passes the openssl command's own verification (P-256: it is older than ML-DSA)", function () {
    const openssl = requirePeer(this, 'openssl');
    using dir = tempDir('certificate');
    const file = join(dir.path, 'certificate.pem');
    writeFileSync(file, pemOf(certificateOf(p256())));
    assert.match(execFileSync(openssl, ['verify', '-x509_strict', '-purpose', 'sslclient', '-CAfile', file, file], { encoding: 'utf8' }), /: OK/);
    const shown = execFileSync(openssl, ['x509', '-in', file, '-noout', '-text'], { encoding: 'utf8' });
    assert.match(shown, /Basic Constraints: critical\s+CA:FALSE/);
    assert.match(shown, /Key Usage: critical\s+Digital Signature/);
    assert.match(shown, /TLS Web Server Authentication, TLS Web Client Authentication/);
  });

  it('is made for no other kind of key, and not with an end before its beginning', () => {
    const bug = { code: 'core.invariant' };
    assert.throws(() => certificateOf(generateKeyPairSync('ed25519').privateKey), bug);
    assert.throws(() => certificateOf(generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey), bug);
    assert.throws(() => certificateOf(p256(), NOT_BEFORE_MS), bug);
  });

  it('says so when what should be a certificate is none', () => {
    const whole = certificateOf(p256());
    for (const bytes of [Buffer.alloc(0), Buffer.from('hello'), whole.subarray(0, 40)]) assert.throws(() => spkiPinOfCertificate(bytes), { code: 'tls.certificate' });
  });
});

const YEAR_MS = 365 * 86_400_000;
const from = (years: number) => ({ notBeforeMs: NOT_BEFORE_MS, notAfterMs: NOT_BEFORE_MS + years * YEAR_MS });

function makeRoot(pathLength = 1): Issuer {
  const privateKey = p256();
  return { privateKey, certificate: rootCertificate({ privateKey, commonName: 'fleet root', pathLength, ...from(20) }) };
}

function below(issuer: Issuer, purpose: Purpose, { privateKey = p256(), years = 1, commonName = 'somebody' } = {}): Issuer {
  return { privateKey, certificate: issueCertificate(issuer, { publicKey: createPublicKey(privateKey), commonName, purpose, ...from(years) }) };
}

const INTERMEDIATE: Purpose = { kind: 'authority', pathLength: 0 };

describe('certificates that authorities issue', () => {
  const root = makeRoot();
  const intermediate = below(root, INTERMEDIATE, { years: 5 });
  const server = below(intermediate, { kind: 'server', hosts: HOSTS });

  it('lead to the root for OpenSSL in Node, for P-256 and for ML-DSA-65 keys', () => {
    const read = (issuer: Issuer): X509Certificate => new X509Certificate(issuer.certificate);
    for (const key of [p256(), mlDsa()]) {
      const leaf = below(intermediate, { kind: 'client' }, { privateKey: key, commonName: 'edge-1' });
      assert.ok(read(leaf).verify(createPublicKey(intermediate.privateKey)) && read(leaf).checkIssued(read(intermediate)) && read(leaf).checkPrivateKey(key));
      assert.ok(!read(leaf).checkIssued(read(root)) && !read(leaf).ca);
      assert.equal(read(leaf).subject, 'CN=edge-1');
    }
    assert.ok(read(intermediate).checkIssued(read(root)) && read(intermediate).verify(createPublicKey(root.privateKey)) && read(intermediate).ca);
    assert.ok(read(server).checkHost('gateway.example') && read(server).checkIP('fe80::1:2'));
  });

  it('say what they are for', () => {
    const read = (purpose: Purpose, issuer = intermediate) => parseCertificate(below(issuer, purpose).certificate);
    const { isCa, pathLength, maySignCertificates, extendedKeyUsage, authorityKeyId } = read(INTERMEDIATE, root);
    assert.deepEqual({ isCa, pathLength, maySignCertificates, extendedKeyUsage }, { isCa: true, pathLength: 0, maySignCertificates: true, extendedKeyUsage: undefined });
    assert.ok(authorityKeyId && Buffer.from(authorityKeyId).equals(parseCertificate(root.certificate).subjectKeyId ?? Buffer.alloc(0)));
    assert.deepEqual(read({ kind: 'server', hosts: [] }).extendedKeyUsage, ['1.3.6.1.5.5.7.3.1']);
    assert.deepEqual(read({ kind: 'client' }).extendedKeyUsage, ['1.3.6.1.5.5.7.3.2']);
    assert.ok(!read({ kind: 'client' }).maySignCertificates);
  });

  it('do not outlive their issuer', () => {
    assert.equal(parseCertificate(below(intermediate, { kind: 'client' }, { years: 30 }).certificate).notAfterMs, parseCertificate(intermediate.certificate).notAfterMs);
  });

  it('are issued by authorities only', () => {
    assert.throws(() => below(server, { kind: 'client' }), { code: 'core.invariant' });
  });

  describe('before the openssl command', () => {
    const within = (use: (openssl: string, file: (name: string, ...chain: readonly Issuer[]) => string) => void) => function (this: Mocha.Context): void {
      const openssl = requirePeer(this, 'openssl');
      using dir = tempDir('authority');
      use(openssl, (name, ...chain) => {
        const path = join(dir.path, name);
        writeFileSync(path, chain.map(({ certificate }) => pemOf(certificate)).join(''));
        return path;
      });
    };
    const verify = (openssl: string, args: readonly string[]): string => spawnSync(openssl, ['verify', '-x509_strict', '-attime', String(NOT_BEFORE_MS / 1000 + 60), ...args], { encoding: 'utf8' }).stdout;

    it('a broker and its chain hold strictly, under its names and for its purpose', within((openssl, file) => {
      const [ca, chain, leaf] = [file('ca.pem', root), file('chain.pem', intermediate), file('leaf.pem', server)];
      assert.match(verify(openssl, ['-purpose', 'sslserver', '-verify_hostname', 'gateway.example', '-CAfile', ca, '-untrusted', chain, leaf]), /: OK/);
      assert.match(verify(openssl, ['-purpose', 'sslserver', '-verify_ip', '192.0.2.7', '-CAfile', ca, '-untrusted', chain, leaf]), /: OK/);
      assert.doesNotMatch(verify(openssl, ['-purpose', 'sslclient', '-CAfile', ca, '-untrusted', chain, leaf]), /: OK/);
      assert.doesNotMatch(verify(openssl, ['-purpose', 'sslserver', '-verify_hostname', 'other.example', '-CAfile', ca, '-untrusted', chain, leaf]), /: OK/);
      assert.doesNotMatch(verify(openssl, ['-CAfile', file('other.pem', makeRoot()), '-untrusted', chain, leaf]), /: OK/);
      const shown = execFileSync(openssl, ['x509', '-in', chain, '-noout', '-text'], { encoding: 'utf8' });
      assert.match(shown, /Basic Constraints: critical\s+CA:TRUE, pathlen:0\s/);
      assert.match(shown, /Key Usage: critical\s+Certificate Sign, CRL Sign\s/);
      assert.match(shown, /Issuer: CN = fleet root\s/);
    }));

    it('an intermediate does not make another', within((openssl, file) => {
      const third = below(intermediate, INTERMEDIATE, { commonName: 'one too many' });
      const leaf = file('leaf.pem', below(third, { kind: 'client' }));
      assert.doesNotMatch(verify(openssl, ['-CAfile', file('ca.pem', root), '-untrusted', file('chain.pem', intermediate, third), leaf]), /: OK/);
    }));

    it('a leaf issues nothing', within((openssl, file) => {
      const forged = issueCertificate({ privateKey: server.privateKey, certificate: intermediate.certificate }, { publicKey: createPublicKey(p256()), commonName: 'forged', purpose: { kind: 'client' }, ...from(1) });
      const leaf = file('leaf.pem', { privateKey: p256(), certificate: forged });
      assert.doesNotMatch(verify(openssl, ['-CAfile', file('ca.pem', root), '-untrusted', file('chain.pem', intermediate, server), leaf]), /: OK/);
    }));
  });
});
