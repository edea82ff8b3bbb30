import assert from 'node:assert/strict';
import { copyFileSync, existsSync, openSync, closeSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { basename, join } from 'node:path';
import { bmapOf, checkDigest, signaturesBeside, statedDigest } from '#provisioning/flash/beside.ts';
import { openImage } from '#provisioning/flash/image.ts';
import { Target } from '#provisioning/flash/target.ts';
import { writeImage, type Job } from '#provisioning/flash/write.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { diskImageIn, IMAGE_BYTES, type DiskImage } from '#test/support/diskImage.ts';
import { requirePeer } from '#test/support/peers.ts';
import { run } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const VICTIM = join(import.meta.dirname, '../support/flashVictim.ts');
const MIB = 1024 * 1024;
const failure = (code: string, about: RegExp) => (error: unknown): boolean => error instanceof TenzroError && error.code === code && about.test(error.message);
const { signal: never } = new AbortController();

describe('flash: faults', () => {
  let folder: TempDir;
  let image: DiskImage;
  before(function () {
    this.timeout(60_000);
    for (const peer of ['sfdisk', 'mformat', 'bmaptool', 'xz'] as const) requirePeer(this, peer);
    folder = tempDir('flash-faults');
    image = diskImageIn(folder.path);
  });
  after(() => { folder[Symbol.dispose](); });
  const at = (name: string): string => join(folder.path, name);

  async function written(from: string, to: string, { seen = () => undefined, signal = never, mapped = false }: Partial<Pick<Job, 'seen' | 'signal'>> & { readonly mapped?: boolean } = {}): Promise<void> {
    const opened = await openImage(from, never);
    const bmap = mapped ? (await bmapOf(opened, image.bmap))?.bmap : undefined;
    await using target = await Target.open(to, undefined);
    await writeImage({ image: opened, bmap, target, isFile: true, seen, signal });
  }
  const changed = (from: string, name: string, offset: number): string => {
    copyFileSync(from, at(name));
    poke(at(name), offset);
    return at(name);
  };
  const poke = (path: string, offset: number): void => {
    const file = openSync(path, 'r+');
    writeSync(file, Buffer.from('not what was there'), 0, 18, offset);
    closeSync(file);
  };
  const showsNoSystem = (path: string): void => { assert.ok(readFileSync(path).subarray(0, 4096).every((byte) => byte === 0), 'its beginning is blank'); };

  it('finds a download that was cut short before it writes', async () => {
    copyFileSync(image.packed, at('cut.xz'));
    truncateSync(at('cut.xz'), MIB);
    await assert.rejects(written(at('cut.xz'), at('never.img')), failure('flash.image', /cut\.xz/));
    copyFileSync(image.plain, at('cut.img'));
    truncateSync(at('cut.img'), 5 * MIB + 17);
    await assert.rejects(written(at('cut.img'), at('never.img')), failure('flash.image', /no whole sectors/));
    assert.ok(!existsSync(at('never.img')));
  });

  it('names what an image is packed by that it cannot read, and what is no image', async () => {
    writeFileSync(at('x.zip'), Buffer.from('504b030414000000', 'hex'));
    writeFileSync(at('empty.img'), '');
    await assert.rejects(openImage(at('x.zip'), never), failure('flash.image', /unzip/));
    await assert.rejects(openImage(at('empty.img'), never), failure('flash.image', /empty/));
    await assert.rejects(openImage(folder.path, never), failure('flash.image', /no file/));
    await assert.rejects(openImage(at('none.img'), never), failure('flash.image', /ENOENT/));
  });

  it('stops at damage in the middle of a packed image, and the target shows no system', async () => {
    const damaged = changed(image.packed, 'damaged.xz', MIB);
    await assert.rejects(written(damaged, at('damaged.img')), failure('flash.image', /damaged\.xz/));
    showsNoSystem(at('damaged.img'));
  }).timeout(20_000);

  it('holds an image against SHA256SUMS beside it, and names who signed these', async () => {
    const opened = await openImage(image.plain, never);
    const sums = at('SHA256SUMS');
    assert.equal(await statedDigest(opened), undefined);
    writeFileSync(sums, `${'0'.repeat(64)}  another.img\n`);
    await assert.rejects(statedDigest(opened), failure('flash.checksum', /does not name card\.img/));
    const digest = createHash('sha256').update(readFileSync(image.plain));
    writeFileSync(sums, `${'0'.repeat(64)}  another.img\n${digest.digest('hex')} *${basename(image.plain)}\n`);
    const stated = await statedDigest(opened);
    assert.ok(stated);
    await checkDigest(opened, stated, () => undefined, never);
    await assert.rejects(checkDigest({ ...opened, path: changed(image.plain, 'another.img', 9 * MIB) }, stated, () => undefined, never), failure('flash.checksum', /another\.img/));
    writeFileSync(`${sums}.minisig`, '');
    assert.deepEqual((await signaturesBeside(opened)).map(({ file }) => basename(file)), ['SHA256SUMS.minisig']);
    for (const file of [sums, `${sums}.minisig`]) rmSync(file);
  });

  it('finds that the image is another than its block map says', async () => {
    const other = changed(image.plain, 'other.img', MIB + 4096); // in the FAT, which is mapped
    await assert.rejects(written(other, at('mapped.img'), { mapped: true }), failure('flash.bmap', /another than its block map/));
    showsNoSystem(at('mapped.img'));
    truncateSync(other, IMAGE_BYTES - 512);
    await assert.rejects(written(other, at('mapped.img'), { mapped: true }), failure('flash.bmap', /of an image of/));
  });

  it('finds a byte that the medium did not keep, and leaves it without a system', async () => {
    const to = at('forgetful.img');
    const seen: Job['seen'] = (phase, bytes, total) => { if (phase === 'write' && bytes === total) poke(to, 17 * MIB + 5); };
    await assert.rejects(written(image.plain, to, { seen }), failure('flash.verify', /between byte 16777216 and 20971520/));
    showsNoSystem(to);
  });

  it('finds that the medium ends where it did not before', async () => {
    const to = at('shrinking.img');
    const seen: Job['seen'] = (phase, bytes, total) => { if (phase === 'write' && bytes === total) truncateSync(to, 10 * MIB); };
    await assert.rejects(written(image.plain, to, { seen }), failure('flash.medium', /ends at byte 10485760/));
    showsNoSystem(to);
  });

  it('finds that the image shrinks while it is read', async () => {
    const from = at('leaving.img');
    copyFileSync(image.plain, from);
    const seen: Job['seen'] = (phase) => { if (phase === 'write') truncateSync(from, 0); };
    await assert.rejects(written(from, at('left.img'), { seen }), failure('flash.image', /ended/));
    showsNoSystem(at('left.img'));
  });

  it('stops when it is told to, in each phase, and xz with it', async () => {
    for (const when of ['write', 'verify']) {
      const stop = new AbortController();
      const seen: Job['seen'] = (phase) => { if (phase === when) stop.abort(); };
      await assert.rejects(written(image.packed, at('stopped.img'), { seen, signal: stop.signal }), /abort/i);
      showsNoSystem(at('stopped.img'));
    }
    await until('xz to be ended', () => !xzRuns(image.packed));
  }).timeout(20_000);

  it('killed at any point leaves what shows no system, and what is repeated is whole', async () => {
    for (const [phase, bytes] of [['write', 4 * MIB], ['write', 20 * MIB], ['verify', 4 * MIB], ['verify', 12 * MIB]] as const) {
      const { code, output } = await run(process.execPath, [VICTIM, image.plain, at('killed.img'), phase, String(bytes)]);
      assert.equal(code, 'SIGKILL', output);
      showsNoSystem(at('killed.img'));
    }
    await written(image.packed, at('killed.img'));
    assert.ok(readFileSync(at('killed.img')).equals(readFileSync(image.plain)));
  }).timeout(30_000);
});

/** proc(5). */
function xzRuns(path: string): boolean {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).some((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`--decompress\0--stdout\0--threads=0\0--\0${path}`);
    } catch {
      return false; // it has ended meanwhile
    }
  });
}
