import assert from 'node:assert/strict';
import { equalBytes } from '#runtime/core/bytes.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { derOfFile } from '#runtime/crypto/certificatePath.ts';
import { derSize } from '#runtime/crypto/der.ts';
import { isCertificateOf, judgeEkCertificates, type EkAnchors, type EkVerdict } from '#runtime/crypto/ekCertificate.ts';
import type { TpmPublic } from '#runtime/crypto/tpmEvidence.ts';
import { parseCertificate } from '#runtime/crypto/x509.ts';
import { AUTHORITY, ENDORSEMENT, IFX, TpmMaker, type Issued, type Wish } from '#test/support/ekCertificates.ts';
import { requirePeer } from '#test/support/peers.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

/** Without key identifiers: the names are all there is to go by. */
const NAMELESS = {
  authority: [...AUTHORITY.slice(0, 2), 'subjectKeyIdentifier = none', 'authorityKeyIdentifier = none'],
  endorsement: [...ENDORSEMENT.slice(0, 3), 'subjectKeyIdentifier = none', 'authorityKeyIdentifier = none'],
} as const;
const DAY_MS = 24 * 3_600_000;
/** When the whole suite runs, the certificates are made many minutes after this line. */
const NOW = Date.now() + 3_600_000;
const at = (ms: number): { fromMs: number; toMs: number } => ({ fromMs: ms, toMs: ms });
const of = (issued: Issued): ReturnType<typeof parseCertificate> => parseCertificate(issued.der);

describe('EK certificates', function () {
  this.timeout(30_000);
  let folder: TempDir;
  let maker: TpmMaker;
  let root: Issued;
  let intermediate: Issued;
  let genuine: Issued & { readonly ek: TpmPublic };

  before(function () {
    folder = tempDir('ek-certificate');
    maker = new TpmMaker(requirePeer(this, 'openssl'), folder.path);
    root = maker.authority({ key: 'p384', digest: 'sha384', subject: 'Root' });
    intermediate = maker.authority({ issuer: root, subject: 'Intermediate', extensions: [...AUTHORITY, 'authorityKeyIdentifier = keyid', 'extendedKeyUsage = 2.23.133.8.1'] });
    genuine = maker.endorsement({ issuer: intermediate });
  });
  after(() => folder?.[Symbol.dispose]());

  const trusting = (...roots: readonly Issued[]): EkAnchors => ({ trusted: roots.map(of), others: [], vendorOf: () => undefined });
  const judge = (leaf: Issued & { readonly ek: TpmPublic }, issuers: readonly Issued[] = [intermediate], { anchors = trusting(root), during = at(NOW) } = {}): EkVerdict =>
    judgeEkCertificates(leaf.ek, [leaf.der, ...issuers.map(({ der }) => der)], anchors, during);
  const broken = (verdict: EkVerdict, why: RegExp): void => { assert.equal(verdict.kind, 'broken', JSON.stringify(verdict)); assert.match(verdict.kind === 'broken' ? verdict.why : '', why); };
  const unchained = (verdict: EkVerdict, why: RegExp): void => { assert.equal(verdict.kind, 'unchained', JSON.stringify(verdict)); assert.match(verdict.kind === 'unchained' ? verdict.why : '', why); };
  const underRoot = (wish: Wish): EkVerdict => judge(maker.endorsement({ issuer: root, ...wish }), []);
  const underAuthority = (wish: Wish): EkVerdict => {
    const authority = maker.authority({ issuer: root, ...wish });
    return judge(maker.endorsement({ issuer: authority }), [authority]);
  };

  it('chain over an intermediate to a P-384 root, with an empty subject and a critical alternative name', () => {
    const verdict = judge(genuine);
    assert.ok(verdict.kind === 'chained', JSON.stringify(verdict));
    assert.deepEqual(verdict.tpm, { manufacturer: 'IFX', model: 'SLB9670', version: '0755' });
    assert.equal(verdict.intermediates, 1);
    assert.ok(equalBytes(verdict.root.fingerprint, of(root).fingerprint) && equalBytes(verdict.certificate, of(genuine).fingerprint));
    assert.equal(verdict.root.subjectText, 'O=Test, CN=Root');
  });

  it('chain for an RSA EK under an RSA authority, and for one marked for OAEP, which OpenSSL does not read', () => {
    const authority = maker.authority({ key: 'rsa', issuer: root });
    const rsa = maker.endorsement({ key: 'rsa', issuer: authority });
    assert.equal(judge(rsa, [authority]).kind, 'chained');
    const rsaEncryption = Buffer.from('06092a864886f70d010101', 'hex');
    const marked = Buffer.from(rsa.der);
    marked.writeUInt8(0x07, marked.indexOf(rsaEncryption) + rsaEncryption.length - 1);
    assert.ok(isCertificateOf(parseCertificate(marked), rsa.ek));
    assert.ok(!isCertificateOf(parseCertificate(marked), genuine.ek));
  });

  it('find their issuers in any order, wherever they come from, and an intermediate can be the anchor', () => {
    const second = maker.authority({ issuer: intermediate });
    const leaf = maker.endorsement({ issuer: second });
    const stranger = maker.authority();
    assert.equal(judge(leaf, [stranger, intermediate, root, second]).kind, 'chained');
    assert.equal(judge(leaf, [], { anchors: { ...trusting(root), others: [of(second), of(intermediate)] } }).kind, 'chained');
    assert.equal(judge(leaf, [second], { anchors: trusting(intermediate) }).kind, 'chained');
    unchained(judge(leaf, [intermediate]), /leads to none of the known roots/);
  });

  it('chain to a maker\'s root that is known by its fingerprint, when the TPM is of that maker', () => {
    const fingerprint = of(root).fingerprint;
    const listed = (manufacturer: string): EkAnchors => ({ trusted: [], others: [], vendorOf: (one) => (equalBytes(one, fingerprint) ? { name: 'Maker', manufacturers: [manufacturer] } : undefined) });
    const verdict = judge(genuine, [intermediate, root], { anchors: listed('IFX') });
    assert.ok(verdict.kind === 'chained' && verdict.vendor?.name === 'Maker');
    broken(judge(genuine, [intermediate, root], { anchors: listed('STM') }), /TPM by 'IFX', its root is one of Maker/);
    unchained(judge(genuine, [intermediate], { anchors: listed('IFX') }), /no root to hold it against/);
    assert.equal(judge(genuine, [intermediate, root], { anchors: { ...listed('STM'), trusted: [of(root)] } }).kind, 'chained', 'who names a root answers for it');
  });

  it('are judged at the time given: expired, not yet valid, and in force for a part of it', () => {
    const short = maker.endorsement({ issuer: intermediate, days: 2 });
    broken(judge(short, [intermediate], { during: at(NOW + 3 * DAY_MS) }), /expired on \d{4}-\d\d-\d\d, before/);
    broken(judge(short, [intermediate], { during: at(NOW - 2 * DAY_MS) }), /valid from \d{4}-\d\d-\d\d on only/);
    assert.equal(judge(short, [intermediate], { during: { fromMs: NOW - 9 * DAY_MS, toMs: NOW + 9 * DAY_MS } }).kind, 'chained');
    const brief = maker.authority({ issuer: root, days: 2 });
    broken(judge(maker.endorsement({ issuer: brief }), [brief], { during: at(NOW + 3 * DAY_MS) }), /expired/);
    const oldRoot = maker.authority({ days: 2 });
    assert.equal(judge(maker.endorsement({ issuer: oldRoot }), [], { anchors: trusting(oldRoot), during: at(NOW + 3 * DAY_MS) }).kind, 'chained', 'an anchor is trusted as it is');
  });

  it('of an unknown root say nothing; a renewed root of the same name and another key is another root', () => {
    const other = maker.authority({ key: 'p384', subject: 'Root' });
    unchained(judge(genuine, [intermediate], { anchors: trusting(other) }), /none of the known roots/);
    unchained(judge(genuine, [intermediate], { anchors: trusting() }), /no root to hold it against/);
    assert.deepEqual(judgeEkCertificates(genuine.ek, [], trusting(root), at(NOW)), { kind: 'unchained', why: 'there is no EK certificate' });
  });

  it('with a wrong signature are refused, on the certificate and on an intermediate', () => {
    const bend = (issued: Issued): Buffer => { const bytes = Buffer.from(issued.der); bytes.writeUInt8(bytes.readUInt8(bytes.length - 5) ^ 1, bytes.length - 5); return bytes; };
    broken(judgeEkCertificates(genuine.ek, [bend(genuine), intermediate.der], trusting(root), at(NOW)), /is not signed by 'O=Test, CN=Intermediate'/);
    broken(judgeEkCertificates(genuine.ek, [genuine.der, bend(intermediate)], trusting(root), at(NOW)), /'O=Test, CN=Intermediate' is not signed by 'O=Test, CN=Root'/);
    const impostor = maker.authority({ subject: 'Root', key: 'p384', extensions: NAMELESS.authority });
    const pasted = maker.endorsement({ issuer: impostor, extensions: NAMELESS.endorsement });
    broken(judge(pasted, []), /is not signed by 'O=Test, CN=Root'/);
  });

  it('for another key than the EK are refused', () => broken(judgeEkCertificates(maker.endorsement().ek, [genuine.der, intermediate.der], trusting(root), at(NOW)), /for another key than the EK/));
  it('without the purpose of an EK are refused', () => broken(underRoot({ extensions: ENDORSEMENT.filter((line) => !line.startsWith('extendedKeyUsage')) }), /2\.23\.133\.8\.1 is missing/));
  it('with another purpose are refused', () => broken(underRoot({ extensions: ENDORSEMENT.map((line) => line.replace('2.23.133.8.1', '2.23.133.8.3')) }), /2\.23\.133\.8\.1 is missing/));
  it('of an authority are refused', () => broken(underRoot({ extensions: ENDORSEMENT.map((line) => line.replace('CA:FALSE', 'CA:TRUE')) }), /is one of an authority/));
  it('that do not say which TPM it is are refused', () => {
    broken(underRoot({ tpm: { manufacturer: IFX.manufacturer, model: IFX.model } }), /does not name the TPM's manufacturer, model and version/);
    broken(underRoot({ extensions: ENDORSEMENT.filter((line) => !line.startsWith('subjectAltName')) }), /does not name the TPM/);
  });
  it('with a critical extension that is unknown are refused, on the certificate and on an intermediate', () => {
    const odd = '1.3.6.1.4.1.55555.1 = critical, DER:0500';
    broken(underRoot({ extensions: [...ENDORSEMENT, odd] }), /critical extension that is unknown here: 1\.3\.6\.1\.4\.1\.55555\.1/);
    broken(underAuthority({ extensions: [...AUTHORITY, odd] }), /critical extension that is unknown/);
    assert.equal(underRoot({ extensions: [...ENDORSEMENT, odd.replace('critical, ', '')] }).kind, 'chained');
  });
  it('under an intermediate that is no authority are refused', () => broken(underAuthority({ extensions: ['basicConstraints = critical, CA:FALSE', 'subjectKeyIdentifier = hash'] }), /is no certificate authority/));
  it('under an intermediate that may not sign certificates are refused', () => broken(underAuthority({ extensions: ['basicConstraints = critical, CA:TRUE', 'keyUsage = critical, digitalSignature', 'subjectKeyIdentifier = hash'] }), /may not sign certificates/));
  it('under an intermediate for another purpose are refused', () => broken(underAuthority({ extensions: [...AUTHORITY, 'extendedKeyUsage = serverAuth'] }), /is not for extended key usage 2\.23\.133\.8\.1/));
  it('deeper than an authority allows are refused', () => {
    const shallow = maker.authority({ extensions: ['basicConstraints = critical, CA:TRUE, pathlen:0', ...AUTHORITY.slice(1)] });
    const below = maker.authority({ issuer: shallow });
    broken(judge(maker.endorsement({ issuer: below }), [below], { anchors: trusting(shallow) }), /allows 0 authorities below it, there are 1/);
    assert.equal(judge(maker.endorsement({ issuer: shallow }), [], { anchors: trusting(shallow) }).kind, 'chained');
  });
  it('signed with SHA-1, or by a key of 1024 bits, are refused', () => {
    broken(underRoot({ digest: 'sha1' }), /algorithm 1\.2\.840\.10045\.4\.1, which does not count/);
    broken(underAuthority({ key: 'rsa1024' }), /is too weak/);
  });

  it('that are huge, cut, padded or no certificates at all are refused by name, and never crash', () => {
    const refused = (bytes: Uint8Array, why = /^certificate/): void => broken(judgeEkCertificates(genuine.ek, [bytes], trusting(root), at(NOW)), why);
    refused(Buffer.alloc(LIMITS.certificateBytesMax + 1, 0x30), /more than 4096/);
    refused(Buffer.concat([genuine.der, Buffer.of(0)]), /1 bytes are left over/);
    refused(Buffer.of(0x30, 0x80, 0, 0), /indefinite/);
    refused(Buffer.of(0x30, 0x81, 0x01, 0), /not in its shortest form/);
    refused(Buffer.of(0x1f, 0x81, 0x01, 0), /tag/);
    for (let size = 0; size < genuine.der.length; size += 1) refused(genuine.der.subarray(0, size));
    broken(judgeEkCertificates(genuine.ek, [genuine.der, Buffer.from('no')], trusting(root), at(NOW)), /^certificate/);
  });

  it('with any single byte changed are never accepted', () => {
    for (let index = 0; index < genuine.der.length; index += 1) {
      const bent = Buffer.from(genuine.der);
      bent.writeUInt8(bent.readUInt8(index) ^ (1 + (index % 255)), index);
      assert.notEqual(judgeEkCertificates(genuine.ek, [bent, intermediate.der], trusting(root), at(NOW)).kind, 'chained', `byte ${index}`);
    }
  });

  it('among issuers that all bear the same name cost no more than a few signatures', () => {
    const same = { subject: 'Loop', extensions: NAMELESS.authority };
    const authorities = Array.from({ length: 12 }, () => maker.authority(same));
    const [first] = authorities;
    assert.ok(first);
    const leaf = maker.endorsement({ issuer: first, extensions: NAMELESS.endorsement });
    const started = performance.now();
    unchained(judge(leaf, authorities), /none of the known roots/);
    assert.equal(judge(leaf, authorities, { anchors: trusting(...authorities) }).kind, 'chained');
    assert.ok(performance.now() - started < 2_000);
  });

  it('are cut from padded memory by what they say of their length', () => {
    for (const padding of [0x00, 0xff]) assert.equal(derSize(Buffer.concat([genuine.der, Buffer.alloc(300, padding)]), LIMITS.certificateBytesMax), genuine.der.length);
    assert.equal(derSize(genuine.der.subarray(0, 40), LIMITS.certificateBytesMax), undefined);
    assert.equal(derSize(Buffer.alloc(300, 0xff), LIMITS.certificateBytesMax), undefined);
    assert.equal(derSize(Buffer.concat([genuine.der]), 100), undefined, 'larger than it may be');
  });

  it('are read from PEM files with any number of them, and from DER', () => {
    const file = Buffer.from(`a comment\n${root.pem}${intermediate.pem}`);
    assert.deepEqual(derOfFile(file, 2)?.map((der) => der.equals(root.der) || der.equals(intermediate.der)), [true, true]);
    assert.equal(derOfFile(file, 1), undefined);
    assert.deepEqual(derOfFile(root.der, 1), [root.der]);
    assert.equal(derOfFile(Buffer.from('hello'), 1), undefined);
    assert.throws(() => parseCertificate(Buffer.from('hello')), (error: unknown) => error instanceof TenzroError && error.code === 'x509.malformed');
  });
});
