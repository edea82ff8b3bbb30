import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createPublicKey, generateKeyPairSync, X509Certificate, type KeyObject } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pemOf, selfSignedCertificate, spkiPin, spkiPinOfCertificate } from '#runtime/crypto/certificate.ts';
import { mlDsa65PrivateKey, newSeed } from '#runtime/crypto/mldsa.ts';
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
