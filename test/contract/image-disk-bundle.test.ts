import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { copyFileSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeBundle } from '#image/bundle/bundle.ts';
import { developmentSigner, namedSigner, type Signer } from '#image/bundle/keys.ts';
import { hostWorkshop, type Workshop } from '#image/disk/workshop.ts';
import { COMPATIBLE } from '#image/layout.ts';
import { compareBuilds } from '#image/release/compare.ts';
import { writeSums } from '#image/release/sums.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { ran } from '#test/support/diskImage.ts';
import { requirePeer } from '#test/support/peers.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

describe('image: what is signed, read by RAUC and openssl', () => {
  let folder: TempDir;
  let workshop: Workshop;
  let signer: Signer;
  let stranger: Signer;
  const at = (name: string): string => join(folder.path, name);
  const info = (bundle: string, authority: string): string => ran('rauc', [`--keyring=${authority}`, 'info', '--output-format=shell', at(bundle)]);

  before(async function () {
    this.timeout(60_000);
    for (const peer of ['rauc', 'mksquashfs', 'openssl'] as const) requirePeer(this, peer);
    folder = tempDir('bundle');
    const { signal } = new AbortController();
    workshop = hostWorkshop({ folder: folder.path, epochSeconds: 1_795_000_000, signal });
    [signer, stranger] = await Promise.all([developmentSigner(at('own'), signal), developmentSigner(at('foreign'), signal)]);
    writeFileSync(at('rootfs.ext4'), randomBytes(256 * 1024));
    for (const [file, by] of [['own.raucb', signer], ['again.raucb', signer], ['foreign.raucb', stranger]] as const) {
      await makeBundle(workshop, { slot: 'rootfs.ext4', file, version: '1.2.3', description: 'test', compression: 'draft', signer: by });
    }
  });
  after(() => { folder[Symbol.dispose](); });

  it('says for which board it is, its version and format, and is taken by who trusts the authority', () => {
    const told = info('own.raucb', signer.authorityFile);
    assert.match(told, new RegExp(`RAUC_MF_COMPATIBLE='${COMPATIBLE}'`));
    assert.match(told, /RAUC_MF_VERSION='1\.2\.3'/);
    assert.match(ran('rauc', [`--keyring=${signer.authorityFile}`, 'info', at('own.raucb')]), /Bundle Format:\s+verity[^]*DEVELOPMENT ONLY/);
  });

  it('is refused by RAUC where another authority signed, where it was cut, and where its signature was changed', () => {
    assert.throws(() => info('foreign.raucb', signer.authorityFile), /signature verification failed|unable to get local issuer/);
    copyFileSync(at('own.raucb'), at('cut.raucb'));
    truncateSync(at('cut.raucb'), Math.floor(statSync(at('cut.raucb')).size * 0.9));
    assert.throws(() => info('cut.raucb', signer.authorityFile), /[Ii]nvalid|exceeds|signature|too/);
    const bytes = readFileSync(at('own.raucb'));
    bytes.writeUInt8(bytes.readUInt8(bytes.length - 20) ^ 1, bytes.length - 20);
    writeFileSync(at('changed.raucb'), bytes);
    assert.throws(() => info('changed.raucb', signer.authorityFile), /signature/);
  });

  it('differs from a second one only where chance is wanted', async () => {
    const [first, second] = [at('first'), at('second')];
    ran('mkdir', [first, second]);
    for (const [from, to] of [['own.raucb', first], ['again.raucb', second]] as const) copyFileSync(at(from), join(to, 'x.raucb'));
    for (const to of [first, second]) writeFileSync(join(to, 'x.img'), 'same');
    const [image, bundle] = await compareBuilds(first, second);
    assert.deepEqual(image, { file: 'x.img', isSame: true, reason: undefined });
    assert.match(bundle?.reason ?? '', /its content is the same \(squashfs of \d+ bytes\)/);
    copyFileSync(at('foreign.raucb'), join(second, 'x.raucb'));
    writeFileSync(join(second, 'x.img'), 'other');
    writeFileSync(join(second, 'y'), '');
    assert.deepEqual((await compareBuilds(first, second)).map(({ file, isSame, reason }) => [file, isSame, reason === undefined]), [['x.img', false, true], ['x.raucb', false, false], ['y', false, true]]);
  });

  it('has checksums whose signature plain openssl checks against the authority', async () => {
    writeFileSync(at('a.img'), 'image');
    await writeSums(workshop, ['a.img', 'own.raucb'], signer);
    ran('sh', ['-c', 'cd "$1" && sha256sum --check --strict SHA256SUMS', 'sh', folder.path]);
    const verify = (authority: string): string => ran('openssl', ['cms', '-verify', '-binary', '-inform', 'PEM', '-in', at('SHA256SUMS.p7s'), '-content', at('SHA256SUMS'), '-CAfile', authority, '-out', at('verified')]);
    verify(signer.authorityFile);
    assert.throws(() => verify(stranger.authorityFile), /certificate verify error/);
    writeFileSync(at('SHA256SUMS'), `${'0'.repeat(64)}  a.img\n`);
    assert.throws(() => verify(signer.authorityFile), /verification failure|digest/);
  });

  it('takes only keys that belong together, and never a private key from the folder of a build', async () => {
    const refused = (about: RegExp) => (error: unknown): boolean => error instanceof TenzroError && error.code === 'image.signature' && about.test(error.message);
    await assert.rejects(namedSigner(stranger.keyFile, signer.certificateFile, signer.authorityFile), refused(/not of this key/));
    await assert.rejects(namedSigner(signer.keyFile, signer.certificateFile, stranger.authorityFile), refused(/did not issue/));
    await assert.rejects(namedSigner(at('rootfs.ext4'), signer.certificateFile), refused(/no PEM/));
    await assert.rejects(namedSigner(at('nowhere'), signer.certificateFile), refused(/cannot be read/));
    assert.equal((await namedSigner(signer.keyFile, signer.certificateFile, signer.authorityFile)).isDevelopment, false);
    assert.throws(() => statSync(at('signer.key')), /ENOENT/);
  });
});
